"""What every AWS session here is watched for: no swapped key pair is sent, and what is secret of a request is noted.

In: a session of botocore or aiobotocore. Out: the secrets that were sent with it, so that a refusal can be shown
without them. Errors: Denied, before anything is sent.

Event handlers and clients are made once and serve every role; which guard watches a call, and which credentials sign
it, is therefore a matter of the task that makes the call: `signing`.
"""

import contextlib
import json
import re
from collections.abc import Iterator
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from urllib.parse import parse_qsl

from botocore import UNSIGNED
from botocore.auth import AUTH_TYPE_MAPS, SIGV4_TIMESTAMP, SigV4Auth

from imds_proxy.access_key import SWAPPED, SWAPPED_ADVICE, are_swapped, fault
from imds_proxy.credentials import Secret
from imds_proxy.errors import Denied, Invalid
from imds_proxy.host.redaction import secrets_of_header

COMPONENT: Final = "imds_proxy_signing_guard"
"""Under which a session has its guard."""
_SECRET_NAME: Final = re.compile(r"(?i)token|secret|assertion|authorization|cookie|password")
_MOST: Final = 100
"""Values noted of one session, which makes a few calls."""


class SigningGuard:
    """Of one session.

    Args:
        whose: The credentials, for the message.
    """

    def __init__(self, whose: str) -> None:
        self._whose = whose
        self._noted: dict[Secret, None] = {}
        self._ids: dict[str, None] = {}

    def __iter__(self) -> Iterator[Secret | str]:
        """The secrets that were sent so far; key ids as text, since their last four characters may be shown."""
        return iter((*self._ids, *self._noted))

    def check(self, key_id: str, secret_key: str, token: str | None) -> None:
        """Note a pair that is about to sign; raises Denied where they are swapped, Invalid for what no header takes."""
        if are_swapped(key_id, secret_key):
            raise swapped(self._whose)
        parts = ("access key id", key_id), ("secret key", secret_key), ("session token", token or "-")
        for name, value in parts:
            if (what := fault(value)) is not None:
                raise Invalid(f"{self._whose}: the {name} {what}", "write it again where it comes from")
        self._ids[key_id] = None
        self._note(secret_key)
        self._note(token or "")

    def _note(self, value: str) -> None:
        if value and len(self._noted) < _MOST:
            self._noted[Secret(value)] = None

    async def before_sign(self, request_signer: Any, signature_version: Any, **_: Any) -> None:
        """What aiobotocore calls before it signs."""
        if (credentials := _signing(request_signer, signature_version)) is not None:
            frozen = await credentials.get_frozen_credentials()
            self.check(frozen.access_key, frozen.secret_key, frozen.token)

    def before_sign_blocking(self, request_signer: Any, signature_version: Any, **_: Any) -> None:
        """What botocore calls before it signs."""
        if (credentials := _signing(request_signer, signature_version)) is not None:
            frozen = credentials.get_frozen_credentials()
            self.check(frozen.access_key, frozen.secret_key, frozen.token)

    def before_send(self, request: Any, **_: Any) -> None:
        """What both call with the request as it will be sent."""
        for name, value in request.headers.items():
            if _SECRET_NAME.search(_text(name)):
                for secret in secrets_of_header(_text(value)):
                    self._note(secret)
        for name, value in _fields(request.body):
            if _SECRET_NAME.search(name):
                self._note(value)


@dataclass(frozen=True, slots=True)
class _Signing:
    guard: SigningGuard
    credentials: Any = field(repr=False)
    skew: float


_CURRENT: Final[ContextVar[_Signing]] = ContextVar("signing")
"""Of the running task. Whatever signs outside of `signing` fails with LookupError, before anything is sent."""


@contextlib.contextmanager
def signing(session: Any, credentials: Any = None, skew: float = 0.0) -> Iterator[None]:
    """Have the calls of this task watched by a session's guard, and those of kept clients signed with `credentials`.

    Args:
        session: Of the chain.
        credentials: botocore's `ReadOnlyCredentials`; None where nothing is signed, or by a client with its own.
        skew: Seconds that AWS's clock is ahead of this host's: AWS refuses signatures that are five minutes off.
    """
    token = _CURRENT.set(_Signing(sent_by(session), credentials, skew))
    try:
        yield
    finally:
        _CURRENT.reset(token)


def current_credentials() -> Any:
    """Those that the calls of this task are signed with; LookupError where there are none: nothing goes unsigned."""
    if (credentials := _CURRENT.get().credentials) is None:
        raise LookupError("no credentials to sign with")
    return credentials


class _AtAwsTime(SigV4Auth):  # type: ignore[misc]  # botocore publishes no types
    """Signature Version 4 with AWS's time, for a host whose clock is off."""

    def _modify_request_before_signing(self, request: Any) -> None:
        moment = datetime.now(UTC) + timedelta(seconds=_CURRENT.get().skew)
        request.context["timestamp"] = moment.strftime(SIGV4_TIMESTAMP)
        super()._modify_request_before_signing(request)


_AT_AWS_TIME: Final = "v4-imds-proxy"
AUTH_TYPE_MAPS[_AT_AWS_TIME] = _AtAwsTime  # botocore finds a signer by its name there, and has no other way


def watch_current(emitter: Any) -> None:
    """Have whatever calls through an event emitter watched by the guard of the task that calls, and signed on time."""

    def choose_signer(signature_version: Any, **_: Any) -> str | None:
        is_off = (current := _CURRENT.get(None)) is not None and current.skew != 0.0
        return _AT_AWS_TIME if is_off and signature_version == "v4" else None

    async def before_sign(**event: Any) -> None:
        await _CURRENT.get().guard.before_sign(**event)

    def before_send(**event: Any) -> None:
        _CURRENT.get().guard.before_send(**event)

    emitter.register("choose-signer", choose_signer)
    emitter.register("before-sign", before_sign)
    emitter.register("before-send", before_send)


def give_guard(session: Any, whose: str) -> None:
    """Give a session, whose emitter has `watch_current`, a guard of its own."""
    session.register_component(COMPONENT, SigningGuard(whose))


def watch(session: Any, whose: str, *, blocking: bool = False) -> SigningGuard:
    """Have a new session watched from its first call on.

    Args:
        session: Of aiobotocore; of botocore if `blocking`.
        whose: The credentials, for the message.
        blocking: Its handlers are called, and not awaited.
    """
    guard = SigningGuard(whose)
    session.register("before-sign", guard.before_sign_blocking if blocking else guard.before_sign)
    session.register("before-send", guard.before_send)
    session.register_component(COMPONENT, guard)
    return guard


def sent_by(session: Any) -> SigningGuard:
    """The secrets that a watched session has sent, those of its later calls too."""
    guard: SigningGuard = session.get_component(COMPONENT)
    return guard


def swapped(place: str) -> Denied:
    """The error for a pair that was not used; `place` says whose and where from."""
    return Denied(f"{place}: {SWAPPED}", SWAPPED_ADVICE)


def _signing(request_signer: Any, signature_version: Any) -> Any:
    """The credentials that are about to sign; None where nothing is signed."""
    return None if signature_version == UNSIGNED else request_signer._credentials  # noqa: SLF001 - no public name


def _fields(body: object) -> Iterator[tuple[str, str]]:
    """The parameters of a request, of a form or of a JSON object."""
    text = _text(body) if isinstance(body, str | bytes) else ""
    if text.startswith("{"):
        document = json.loads(text)
        yield from ((name, value) for name, value in document.items() if isinstance(value, str))
    else:
        yield from parse_qsl(text)


def _text(value: object) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
