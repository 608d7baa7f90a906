"""A reload: the config file as it is now, or the old config and the reason in the log. It always ends for systemd."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Final

from imds_proxy.admin.systemd_reports import SystemdReports
from imds_proxy.config.model import Config
from imds_proxy.errors import ConfigError, FileError, ImdsProxyError
from imds_proxy.host.clock import Clock
from imds_proxy.host.file_errors import HANGS
from imds_proxy.host.threads import OneByOne
from imds_proxy.telemetry.log import told
from imds_proxy.telemetry.stats import ReloadStats

log = logging.getLogger(__name__)

_READ_WITHIN: Final = 10.0  # seconds


class Reloader:
    """Reloads, one after the other.

    Args:
        read: Reads the config; it is called in a thread. None: there is no file to be read.
        apply: Makes a config that of the daemon; raises ConfigError before anything is changed.
        present: The daemon's config.
        stats: Counts what comes of it.
        systemd: Is told that it has begun and ended.
        clock: Wall time.
    """

    def __init__(
        self,
        read: Callable[[], Config] | None,
        apply: Callable[[Config], Awaitable[None]],
        present: Callable[[], Config],
        stats: ReloadStats,
        systemd: SystemdReports,
        clock: Clock,
    ) -> None:
        self._read_file = read
        self._apply = apply
        self._present = present
        self._stats = stats
        self._systemd = systemd
        self._clock = clock
        self._reading = OneByOne()
        self.turn = asyncio.Lock()
        """Held while the config of the daemon changes."""

    async def reload(self) -> None:
        """Take the config file as it is now. A bad one changes nothing, nor does a defect: the log says why."""
        if self._read_file is None:
            log.warning("nothing to reload: this daemon was started without a config file")
            return
        async with self.turn:
            self._systemd.reloading()
            try:
                await self._take(await self._read(self._read_file))
            except ImdsProxyError as error:
                self._failed(error.message, error.advice)
            except Exception as error:  # noqa: BLE001 - whatever it is, the daemon goes on
                self._failed(f"unexpected {told(error)}", "this is a defect of imds-proxy: please report this line")
            else:
                self._stats.succeeded(self._clock.wall())
                log.info("config reloaded", extra={"roles": len(self._present().roles)})
            self._systemd.ready()

    async def _read(self, read: Callable[[], Config]) -> Config:
        try:
            return await self._reading.do(read, within=_READ_WITHIN)
        except TimeoutError:
            raise FileError(f"the config could not be read within {_READ_WITHIN:g} s", HANGS) from None

    async def _take(self, config: Config) -> None:
        before = self._present()
        try:
            await self._apply(config)
        except ConfigError:
            raise
        except Exception:
            await self._apply(before)  # what was changed by then is changed back
            raise

    def _failed(self, error: str, advice: str) -> None:
        extra = {"error": error} | ({"advice": advice} if advice else {})
        log.error("the config was not reloaded; the old one stays", extra=extra)
        self._stats.failed(error)
