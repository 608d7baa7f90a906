"""aiohttp's log: nothing of a client that speaks no HTTP or goes away, of anything else its type and place."""

import logging
from typing import Any

from aiohttp.http_exceptions import HttpProcessingError

from imds_proxy.telemetry.log import told

log = logging.getLogger(__name__)


class ServerLog(logging.LoggerAdapter):  # type: ignore[type-arg]
    """The logger for an `AppRunner`.

    Args:
        server: For the message: "control plane".
    """

    def __init__(self, server: str) -> None:
        super().__init__(log)
        self._server = server

    def exception(self, msg: object, *_: object, exc_info: Any = None, **__: Any) -> None:
        """Instead of a traceback, which any user could have written as often as it likes."""
        if isinstance(exc_info, HttpProcessingError | ConnectionError):
            return
        error = told(exc_info) if isinstance(exc_info, BaseException) else "none"
        log.error(f"unexpected error in the {self._server}", extra={"where": str(msg), "error": error})  # noqa: G004
