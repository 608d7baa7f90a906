"""The composition root: a config in, a running daemon out. Start, reload and stop read as a story here.

Modules that cost much to import (aiohttp, aiobotocore, prometheus-client) come in once the listeners are open.
"""

import asyncio
import contextlib
import importlib
import logging
import signal
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final

from imds_proxy.admin.opening import Opening
from imds_proxy.admin.status import Status
from imds_proxy.admin.systemd_reports import SystemdReports
from imds_proxy.audit.client_process import find_process
from imds_proxy.audit.recorder import Audit
from imds_proxy.base_key.task import BaseKeyTask
from imds_proxy.callers.identity_providers import Identity
from imds_proxy.config.listeners import without_grants
from imds_proxy.config.model import Config
from imds_proxy.daemon_state import OPENED_WITHIN, DaemonState
from imds_proxy.errors import ConfigError, ListenError
from imds_proxy.host.clock import Clock
from imds_proxy.host.file_watcher import FileWatcher
from imds_proxy.host.garbage import MANY, leave_out, leave_out_while
from imds_proxy.host.listening_sockets import listener_host
from imds_proxy.host.open_files import limit, shares
from imds_proxy.host.systemd import Notifier, PassedSocket, assign, warn_of_unused
from imds_proxy.host.threads import cancel_and_wait, in_thread
from imds_proxy.metadata.dataplane import DataPlane, data_plane
from imds_proxy.metadata.listeners import Server
from imds_proxy.metadata.role_tokens import RoleTokens
from imds_proxy.metadata.session_tokens import Tokens
from imds_proxy.output_files.all_output_files import Outputs
from imds_proxy.reload import Reloader
from imds_proxy.renewal.plans import plans
from imds_proxy.renewal.renew_now import RenewNow
from imds_proxy.renewal.roles import Roles
from imds_proxy.sources.factory import SourceFactory
from imds_proxy.telemetry.log import told
from imds_proxy.telemetry.measured import Measured
from imds_proxy.telemetry.stats import ReloadStats, RenewalStats, RequestStats

if TYPE_CHECKING:
    from imds_proxy.admin.pages import Documents

log = logging.getLogger(__name__)

_SWITCH_INTERVAL: Final = 0.001
"""Seconds after which a thread beside the loop gives way to it. Python's own are 5 ms, which each answer would take
while a thousand files are looked at."""
_HEAVY_MODULES = ("imds_proxy.telemetry.metrics", "imds_proxy.admin.app", "encodings.idna")
"""The last one by the first connection to a name, else on the event loop."""


class Daemon:
    """One host's daemon.

    Args:
        config: What to do.
        read_config: Reads the config again, for a reload; None when it came from the command line alone.
        clock: Wall time.
        passed: Sockets from systemd.
        notifier: To systemd.
    """

    def __init__(
        self,
        config: Config,
        *,
        read_config: Callable[[], Config] | None = None,
        clock: Clock | None = None,
        passed: Sequence[PassedSocket] = (),
        notifier: Notifier | None = None,
    ) -> None:
        self.config = config
        self.clock = clock or Clock()
        self._passed = passed
        self._assigned: dict[str, PassedSocket] = {}
        """The passed sockets in use, by their entry of `listen`."""
        self._requests = RequestStats()
        self._renewals = RenewalStats()
        self._reloads = ReloadStats(self.clock.wall())
        self._roles = Roles(self.clock, self._renewals, self._renewed)
        self._outputs = Outputs(self._roles.live, self._roles.is_pending, self._renewals, self.clock)
        self._state = DaemonState()
        self._role_tokens = RoleTokens(self.clock)
        self._watcher = FileWatcher()
        self._identity = Identity(self._watcher)
        self._audit = Audit(self.clock, find_process, self._requests)
        most = shares(limit()).data_plane
        self._server = Server(self._requests, self.clock, self._identity.connections, most)
        self._sources = SourceFactory(self.clock, self._watcher)
        self._base_key = BaseKeyTask(self.clock, self._renewals)
        self._admin = Opening(self._documents, self._identity.connections, self._watcher)
        self._measured = Measured(
            self.clock,
            self._requests,
            self._renewals,
            self._reloads,
            roles=self._roles.figures,
            ready=self._roles.is_ready,
            listeners=lambda: self._server.listeners,
            not_open=self._server.not_open,
            control_plane=self._admin.listener,
        )
        self._status = Status(self._measured, self._roles, self._outputs, lambda: self.config)
        self._systemd = SystemdReports(
            notifier or Notifier(""), lambda: self.config, self._roles, self._outputs, self._status
        )
        self._reloader = Reloader(
            read_config, self._apply, lambda: self.config, self._reloads, self._systemd, self.clock
        )
        self._background: set[asyncio.Task[None]] = set()
        self._stop = asyncio.Event()

    # The story

    async def run(self) -> None:
        """Start, serve until TERM or INT, drain. Raises ListenError when there is nothing to serve on."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop.set)
        loop.set_exception_handler(_tell_unexpected)
        sys.setswitchinterval(_SWITCH_INTERVAL)
        loop.add_signal_handler(signal.SIGHUP, lambda: self._spawn(self.reload()))
        try:
            async with self._reloader.turn:
                await self._start_unless_stopped()
            self._spawn(self._settle())
            self._spawn(self._systemd.feed_watchdog())
            await self._stop.wait()
        finally:
            await self.stop()

    async def start(self) -> None:
        """Listeners first, then everything that takes time but for the state; clients are answered meanwhile.

        Raises:
            ConfigError: A socket from systemd is bound where others reach it, and there are no grants.
            ListenError: There is nothing to serve on.
        """
        self._check_passed(self.config)
        self._state.begin(self.config.state_dir)
        self._roles.update(self.config, self._state.sessions)
        region = self._spawn(self._sources.look_for_region(self.config, OPENED_WITHIN))
        if not await self._roles.restore(OPENED_WITHIN):
            self._state.report_hanging()
        await region
        opens_late = not self._state.is_open
        await self._audit.follow(self.config.audit)
        self._assign_passed()
        self._server.answer = self._data_plane().answer
        await self._listen()
        tokens = self._spawn(self._follow_role_tokens())  # a thousand take seconds
        await self._identity.follow(self.config)
        await self._outputs.follow(self.config)
        for module in _HEAVY_MODULES:  # in a thread, so that the loop keeps answering
            await in_thread(importlib.import_module, module)
        await self._admin.follow(self.config.admin, self._assigned)
        self._spawn(leave_out_while(self._roles.are_in_line))
        await self._renew_roles()
        await tokens
        await self._follow_base_key()
        if opens_late:
            self._spawn(self._take_late_state())

    async def reload(self) -> None:
        """Take the config file as it is now."""
        await self._reloader.reload()

    async def stop(self) -> None:
        """Drain: no new connections, begun requests end, then everything is released."""
        self._systemd.stopping()
        log.info("stopping", extra={"requests": self._requests.answers.total()})
        for task in self._background:
            task.cancel()
        await self._base_key.close()
        await self._server.close()
        await self._identity.close()
        await self._role_tokens.close()
        await self._roles.close()
        await asyncio.gather(self._audit.close(), self._outputs.close(), self._state.close())  # may wait for a disk
        await self._admin.close()

    # Its parts

    async def _start_unless_stopped(self) -> None:
        """A disk may hold up the start for good; the stop must not wait for it."""
        starting, stopping = asyncio.create_task(self.start()), asyncio.create_task(self._stop.wait())
        await asyncio.wait({starting, stopping}, return_when=asyncio.FIRST_COMPLETED)
        await cancel_and_wait(stopping)
        if not starting.done():
            await cancel_and_wait(starting)
        if not starting.cancelled():
            starting.result()

    async def _settle(self) -> None:
        """What is there once it is ready stays for good."""
        await self._systemd.first_ready()
        leave_out()

    async def _take_late_state(self) -> None:
        """Begin what was left out at the start because the disk of the state directory did not answer."""
        await self._state.opened()
        async with self._reloader.turn:
            await self._follow_role_tokens()
            await self._follow_base_key()

    async def _apply(self, config: Config) -> None:
        self._check_passed(config)
        if config.state_dir != self.config.state_dir:
            log.warning("a change of state_dir takes a restart")
        planned = await in_thread(plans, config)
        self.config = config
        self._assign_passed()
        dropped = self._roles.update(config, self._state.sessions, planned)
        self._server.answer = self._data_plane().answer  # who may have nothing any more gets nothing from here on
        await self._follow_role_tokens()
        await self._identity.follow(config)
        await self._roles.stop(dropped)
        await self._audit.follow(config.audit)
        with contextlib.suppress(ListenError):  # said in the log, and tried again; the old listeners serve
            await self._listen()
        await self._outputs.follow(config)
        await self._roles.restore(OPENED_WITHIN)
        await self._renew_roles()
        if len(dropped) > MANY:
            self._spawn(leave_out_while(self._roles.are_in_line))
        await self._admin.follow(self.config.admin, self._assigned)
        await self._follow_base_key()

    def _check_passed(self, config: Config) -> None:
        """What `load` checks of an address in the file, of one that only systemd knows."""
        names = config.metadata.listen if not config.grants else ()
        assigned = assign(self._passed, [*names, config.admin.listen])
        hosts = [(name, listener_host(name, assigned)) for name in names]
        mistakes = [text for name, host in hosts for text in without_grants(name, host, config.roles)]
        if mistakes:
            raise ConfigError("metadata.listen", tuple(mistakes))

    async def _follow_role_tokens(self) -> None:
        """Until the state is open, the container protocol answers 503: no token can be called a wrong one."""
        if self._state.is_open:
            directory, served = self._state.directory, self._roles.served()
            await self._role_tokens.follow(directory, served, rotate=bool(self.config.grants))

    async def _follow_base_key(self) -> None:
        """What is under way there is in the state directory, so without it nothing begins."""
        if self._state.is_open:
            await self._base_key.follow(self.config, self._state.directory, self._sources.region)

    def _assign_passed(self) -> None:
        """Give the sockets from systemd to the entries of `listen`; those of an earlier config may be the way back."""
        wanted = [*self.config.metadata.listen, self.config.admin.listen]
        before = {entry: passed for entry, passed in self._assigned.items() if entry not in wanted}
        assigned = assign(self._passed, wanted)
        self._assigned = before | assigned
        warn_of_unused(self._passed, assigned.values())

    async def _listen(self) -> None:
        await self._server.listen(self.config.metadata.listen, self.config.metadata.hop_limit, self._assigned)

    async def _renew_roles(self) -> None:
        """Start the keepers, and serve with what is known by now (the region may come from the AWS profile)."""
        await in_thread(self._sources.prepare, self.config)
        self._server.answer = self._data_plane().answer
        self._roles.start(self._sources.make)

    def _data_plane(self) -> DataPlane:
        """The data plane for the present config and roles."""
        served = self._roles.served()
        return data_plane(
            self.config,
            served,
            self._roles.tagged(),
            clock=self.clock,
            tokens=Tokens(
                self._state.session_tokens,
                self._role_tokens,
                self._identity.token_files,
                self._identity.service_accounts,
            ),
            region=self._sources.region or self.config.region,
            hosts=[listener_host(listen, self._assigned) for listen in self.config.metadata.listen],
            audit=self._audit,
        )

    def _documents(self) -> "Documents":
        """What the control plane shows."""
        from imds_proxy.admin.pages import Documents  # noqa: PLC0415 - after the listeners are open
        from imds_proxy.telemetry.metrics import Metrics  # noqa: PLC0415 - the same

        return Documents(self._status, Metrics(self._measured), lambda: self.config, RenewNow(self._roles))

    def _renewed(self) -> None:
        """After every attempt of any role."""
        self._systemd.attempted()
        self._outputs.refresh()
        self._systemd.status()

    def _spawn(self, work: Any) -> "asyncio.Task[None]":
        task = asyncio.create_task(work)
        self._background.add(task)
        task.add_done_callback(self._background.discard)
        return task


def _tell_unexpected(_: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """What nobody caught: told without the text of it, which may hold a secret."""
    error = context.get("exception")
    log.error("unexpected error", extra={"where": context.get("message"), "error": told(error) if error else "none"})
