"""The control plane at the address that the config names: opened, moved by a reload, tried again where it cannot be.

aiohttp is imported with the first attempt, after the data plane listens.
"""

import socket
from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING

from imds_proxy.callers.peer import Callers
from imds_proxy.config.model import AdminConfig
from imds_proxy.errors import ListenError
from imds_proxy.host.file_watcher import FileWatcher
from imds_proxy.host.listening_sockets import open_listener
from imds_proxy.metadata.listener_retry import ListenerRetry

if TYPE_CHECKING:
    from imds_proxy.admin.app import ControlPlane
    from imds_proxy.admin.pages import Documents


class Opening:
    """The control plane of one daemon. Where its new address cannot be opened, it goes on at the one before.

    Args:
        documents: Makes what it shows.
        callers: Tells who connected.
        watcher: Sees changes of the certificate's files.
    """

    def __init__(self, documents: "Callable[[], Documents]", callers: Callers, watcher: FileWatcher) -> None:
        self._documents = documents
        self._callers = callers
        self._watcher = watcher
        self._wanted = ""
        self._open: tuple[str, ControlPlane] | None = None
        self._retry = ListenerRetry()

    def listener(self) -> dict[str, str | None]:
        """The entry of the config, and itself if it is open; None if not. Empty before the first attempt."""
        is_open = self._open is not None and self._open[0] == self._wanted
        return {self._wanted: self._wanted if is_open else None} if self._wanted else {}

    async def follow(self, config: AdminConfig, passed: Mapping[str, socket.socket]) -> None:
        """Take the config: at the start, and at a reload.

        Args:
            config: The present one.
            passed: Sockets from systemd, by their entry in the config.
        """
        await self._retry.stop()
        self._wanted = config.listen
        if self._open is not None and self._open[0] == config.listen:
            self._open[1].follow(config)
            return
        attempt = partial(self._attempt, config.listen, passed)
        try:
            await attempt()
        except ListenError as error:
            self._retry.begin(attempt, "no control plane", error)

    async def close(self) -> None:
        """Stop it, or stop trying."""
        await self._retry.stop()
        if self._open is not None:
            await self._open[1].close()

    async def _attempt(self, wanted: str, passed: Mapping[str, socket.socket]) -> None:
        """Open it, and close the one before. Raises ListenError."""
        from imds_proxy.admin import app  # noqa: PLC0415 - see above

        before, listening = self._open, open_listener(wanted, passed)
        self._open = wanted, await app.start(self._documents(), self._callers, listening, wanted, self._watcher)
        if before is not None:
            await before[1].close()
