"""What systemd is told of the running daemon: when it is ready, how it is, and that its loop turns."""

import asyncio
import logging
import math
from collections.abc import Callable
from typing import Final

from imds_proxy.admin.status import Status
from imds_proxy.config.model import Config
from imds_proxy.errors import Denied
from imds_proxy.host.systemd import Notifier
from imds_proxy.output_files.all_output_files import Outputs
from imds_proxy.renewal.roles import Roles

log = logging.getLogger(__name__)

_STATUS_EVERY: Final = 1.0  # seconds, at most


class SystemdReports:
    """The reports of one daemon.

    Args:
        notifier: To systemd.
        config: The present one; a reload may give another while READY is held back.
        roles: What is kept.
        outputs: The files that are kept fresh.
        status: Says in one line how the daemon is.
    """

    def __init__(
        self, notifier: Notifier, config: Callable[[], Config], roles: Roles, outputs: Outputs, status: Status
    ) -> None:
        self._notifier = notifier
        self._config = config
        self._roles = roles
        self._outputs = outputs
        self._status = status
        self._attempted = asyncio.Event()
        self._awaits_ready = False
        """Whether READY was told before everything was there, and the log has not said so since."""
        self._last_status = -math.inf
        self._next_status: asyncio.TimerHandle | None = None

    async def first_ready(self) -> None:
        """READY once the first credentials are there and the files are written, or after the grace.

        What starts after this daemon reads them at once (CODEDEPLOY.md).
        """
        grace_is_over = False
        try:
            async with asyncio.timeout(self._config().renewal.start_grace):
                while not self._has_first_credentials():
                    self._attempted.clear()
                    await self._attempted.wait()
                await self._outputs.tried()
        except TimeoutError:
            grace_is_over = True
        self.ready()
        if not self._log_ready():
            self._awaits_ready = True
            extra = {"status": self._status.summary(), "missing": self._status.not_ready()}
            log.warning("started, but not ready", extra=extra | {"start_grace_is_over": grace_is_over})

    def _log_ready(self) -> bool:
        """Log `ready` if `/readyz` says so too; whether it does."""
        if is_ready := self._status.is_ready():
            log.info("ready", extra={"status": self._status.summary()})
        return is_ready

    async def feed_watchdog(self) -> None:
        """Say that the loop turns, for as long as it does; ends at once where systemd does not watch."""
        interval = self._notifier.watchdog_interval()
        while interval is not None:
            self._notifier.alive()
            await asyncio.sleep(interval)

    def attempted(self) -> None:
        """A role has been attempted: with that the first credentials may be there."""
        self._attempted.set()
        if self._awaits_ready:
            self._awaits_ready = not self._log_ready()

    def status(self) -> None:
        """How the daemon is now; soon, where it was said a moment ago: it takes a look at every role."""
        if self._notifier.listens and self._next_status is None:
            loop = asyncio.get_running_loop()
            self._next_status = loop.call_at(max(self._last_status + _STATUS_EVERY, loop.time()), self._say_status)

    def _say_status(self) -> None:
        self._next_status, self._last_status = None, asyncio.get_running_loop().time()
        self._notifier.status(self._status.summary())

    def reloading(self) -> None:
        """A reload has begun; `ready` ends it."""
        self._notifier.reloading()

    def ready(self) -> None:
        """Startup or a reload is over."""
        self._notifier.ready(self._status.summary())

    def stopping(self) -> None:
        """The daemon is draining."""
        if self._next_status is not None:
            self._next_status.cancel()
        self._notifier.stopping()

    def _has_first_credentials(self) -> bool:
        """Whether the default role has, or every granted one; of several one that AWS refuses holds nothing back."""
        config, served = self._config(), self._roles.served()
        default = config.default_role
        keepers = list(served.values()) if config.grants else [served[default]] if default else []
        missing = [keeper for keeper in keepers if not keeper.holding.is_set()]
        refused = [keeper for keeper in missing if keeper.failure and keeper.failure.outcome == Denied.outcome]
        return not missing or len(missing) == len(refused) < len(keepers)
