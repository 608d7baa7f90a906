"""`POST /renew`: the one request of the control plane that changes something.

In: `{"roles": ["NAME", …]}`; all that are kept where it names none. Out: how the renewal of each session ended. For
root and the daemon's user alone, and for no browser.
"""

import json
from typing import Any, Final

from aiohttp import web

from imds_proxy.admin.gate import CONNECTION
from imds_proxy.admin.request_check import renew_refusal
from imds_proxy.admin.viewer import Viewers
from imds_proxy.credentials import timestamp
from imds_proxy.renewal.renew_now import LONGEST, Renewed, RenewNow

_TIME_TO_ANSWER: Final = 10.0
"""Seconds beside those of the renewals."""


class RenewalPage:
    """The answers.

    Args:
        renew_now: Renews.
        viewers: Know who may have that.
    """

    def __init__(self, renew_now: RenewNow, viewers: Viewers) -> None:
        self._renew_now = renew_now
        self._viewers = viewers

    async def renew(self, request: web.Request) -> web.Response:
        """Renew, and say how that ended."""
        connection = request[CONNECTION]
        if (reason := renew_refusal(request.headers)) is not None:
            return _error(403, reason)
        caller = connection.caller
        if caller is None or not self._viewers.is_operator(caller):
            return _error(403, "only root and the daemon's user may have roles renewed")
        names = _names(await request.read())
        if names is None:
            return _error(400, 'the body has to be {"roles": ["NAME", …]}')
        known = self._renew_now.known()
        if unknown := [name for name in names if name not in known]:
            return web.json_response({"unknown": unknown, "roles": known}, status=404)
        connection.extend(LONGEST + _TIME_TO_ANSWER)
        renewed = await self._renew_now.renew(names, f"uid {caller.uid}")
        return web.json_response({"roles": [_document(each) for each in renewed]})


def _names(body: bytes) -> list[str] | None:
    """The roles that are asked for, each once; None where the body is none that we understand."""
    try:
        names = json.loads(body)["roles"]
    except (ValueError, TypeError, LookupError, RecursionError):
        return None
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        return None
    return list(dict.fromkeys(names))


def _document(renewed: Renewed) -> dict[str, Any]:
    held, failure = renewed.held, renewed.failure
    return {
        "role": renewed.role,
        "service_account": renewed.of,
        "outcome": "pending" if renewed.pending else failure.outcome if failure else "success",
        "message": failure.message if failure else "",
        "advice": failure.advice if failure else "",
        "same": renewed.same,
        "key": f"…{held.key_hint}" if held else None,
        "expires": timestamp(held.expiration) if held else None,
    }


def _error(status: int, words: str) -> web.Response:
    return web.Response(status=status, text=f"{words}\n")
