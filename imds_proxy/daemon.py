"""The composition root: a config in, a running daemon out. Start, reload and stop read as a story here.

Modules that cost much to import (aiohttp, aiobotocore, prometheus-client) come in once the listeners are open.
"""

import asyncio
import contextlib
import gc
import importlib
import logging
import os
import signal
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from imds_proxy.admin.status import Status
from imds_proxy.base_key.task import BaseKeyTask
from imds_proxy.callers.identity import Identity
from imds_proxy.callers.process import find_process
from imds_proxy.clock import Clock
from imds_proxy.config import Config
from imds_proxy.config_listeners import without_grants
from imds_proxy.errors import ConfigError, ImdsProxyError, ListenError
from imds_proxy.files.outputs import Outputs
from imds_proxy.host.open_files import limit, shares
from imds_proxy.metadata.dataplane import DataPlane, data_plane
from imds_proxy.metadata.role_tokens import RoleTokens
from imds_proxy.metadata.server import Server
from imds_proxy.metadata.tokens import SessionTokens, Tokens, load_or_make_key
from imds_proxy.renewal.saved_key import open_saved_sessions
from imds_proxy.roles import Roles
from imds_proxy.sockets import listener_host, open_listener
from imds_proxy.sources.factory import SourceFactory
from imds_proxy.state import StateDir, StateError, default_state_dir, open_state_dir
from imds_proxy.systemd import Notifier, PassedSocket, assign, warn_of_unused
from imds_proxy.systemd_reports import SystemdReports
from imds_proxy.telemetry.audit import Audit
from imds_proxy.telemetry.log import told
from imds_proxy.telemetry.measured import Measured
from imds_proxy.telemetry.stats import ReloadStats, RenewalStats, RequestStats

if TYPE_CHECKING:
    from imds_proxy.admin.app import ControlPlane
    from imds_proxy.renewal.saved import SavedSessions

log = logging.getLogger(__name__)

_HEAVY_MODULES = ("imds_proxy.telemetry.metrics", "imds_proxy.admin.app")


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
        self._read_config = read_config
        self._passed = passed
        self._assigned: dict[str, PassedSocket] = {}
        """The passed sockets in use, by their entry of `listen`."""
        self._requests = RequestStats()
        self._renewals = RenewalStats()
        self._reloads = ReloadStats(self.clock.wall())
        self._roles = Roles(self.clock, self._renewals, self._renewed)
        self._outputs = Outputs(self._roles.live, self._roles.is_pending, self._renewals, self.clock)
        self._state: StateDir | None = None
        self._saved: SavedSessions | None = None
        self._session_tokens: SessionTokens
        self._role_tokens = RoleTokens(self.clock)
        self._identity = Identity()
        self._audit = Audit(self.clock, find_process, self._requests)
        most = shares(limit()).data_plane
        self._server = Server(self._requests, self.clock, self._identity.connections, most)
        self._sources = SourceFactory(self.clock)
        self._base_key = BaseKeyTask(self.clock, self._renewals)
        self._measured = Measured(
            self.clock,
            self._requests,
            self._renewals,
            self._reloads,
            roles=self._roles.figures,
            ready=self._roles.is_ready,
            listeners=lambda: self._server.listeners,
        )
        self._status = Status(self._measured, self._roles, self._outputs, lambda: self.config)
        self._systemd = SystemdReports(
            notifier or Notifier(""), lambda: self.config, self._roles, self._outputs, self._status
        )
        self._admin: tuple[str, ControlPlane] | None = None
        self._background: set[asyncio.Task[None]] = set()
        self._stop = asyncio.Event()
        self._reloading = asyncio.Lock()

    # The story

    async def run(self) -> None:
        """Start, serve until TERM or INT, drain. Raises ListenError when there is nothing to serve on."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop.set)
        loop.set_exception_handler(_tell_unexpected)
        loop.add_signal_handler(signal.SIGHUP, lambda: self._spawn(self.reload()))
        try:
            await self.start()
            self._spawn(self._settle())
            self._spawn(self._systemd.feed_watchdog())
            await self._stop.wait()
        finally:
            await self.stop()

    async def start(self) -> None:
        """Listeners first, then everything that takes time; clients are answered meanwhile.

        Raises:
            ConfigError: A socket from systemd is bound where others reach it, and there are no grants.
            ListenError: There is nothing to serve on.
        """
        self._check_passed(self.config)
        self._state = self._open_state()
        self._session_tokens = SessionTokens(load_or_make_key(self._state))
        self._saved = await asyncio.to_thread(open_saved_sessions, self._state, os.environ)
        self._roles.update(self.config, self._saved)
        await self._audit.follow(self.config.audit)
        self._assign_passed()
        await self._follow_role_tokens()
        self._server.answer = self._data_plane().answer
        await self._listen()
        await self._identity.follow(self.config)
        await self._outputs.follow(self.config)
        for module in _HEAVY_MODULES:  # in a thread, so that the loop keeps answering
            await asyncio.to_thread(importlib.import_module, module)
        await self._open_admin()
        await self._renew_roles()
        await self._base_key.follow(self.config, self._state, self._sources.region)

    async def reload(self) -> None:
        """Take the config file as it is now; a bad one changes nothing and is told of in the log."""
        if self._read_config is None:
            log.warning("nothing to reload: this daemon was started without a config file")
            return
        async with self._reloading:
            self._systemd.reloading()
            try:
                config = self._read_config()
                self._check_passed(config)
            except ImdsProxyError as error:
                log.error("the config was not reloaded; the old one stays", extra={"error": error.message})  # noqa: TRY400
                self._reloads.failed(error.message)
            else:
                await self._apply(config)
                self._reloads.succeeded(self.clock.wall())
                log.info("config reloaded", extra={"roles": len(config.roles)})
            self._systemd.ready()

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
        await asyncio.gather(self._audit.close(), self._outputs.close())  # both may wait for a disk
        if self._admin is not None:
            await self._admin[1].close()

    # Its parts

    async def _settle(self) -> None:
        """Once it is ready, leave what is there by then out of the garbage collector's sight.

        It stays for good, and to look through all of it takes the loop from everybody for 50 ms, again and again.
        """
        await self._systemd.first_ready()
        gc.freeze()

    async def _apply(self, config: Config) -> None:
        if config.state_dir != self.config.state_dir:
            log.warning("a change of state_dir takes a restart")
        self.config = config
        self._assign_passed()
        dropped = self._roles.update(config, self._saved)
        self._server.answer = self._data_plane().answer  # who may have nothing any more gets nothing from here on
        await self._follow_role_tokens()
        await self._identity.follow(config)
        await self._roles.stop(dropped)
        await self._audit.follow(config.audit)
        with contextlib.suppress(ListenError):  # said in the log; the old listeners serve
            await self._listen()
        await self._outputs.follow(config)
        await self._renew_roles()
        await self._open_admin()
        await self._base_key.follow(config, self._state, self._sources.region)

    def _open_state(self) -> StateDir | None:
        if self.config.state_dir == "":
            return None
        path = Path(self.config.state_dir) if self.config.state_dir else default_state_dir()
        try:
            state = open_state_dir(path)
        except StateError as error:
            extra = {"error": error.message, "advice": error.advice}
            log.warning(
                "running without a state directory: a restart will need AWS, and no container tokens", extra=extra
            )
            return None
        if state.others:
            log.info(
                "others can move the state directory away, but neither read nor replace it",
                extra={"path": str(state.path)},
            )
        return state

    def _check_passed(self, config: Config) -> None:
        """What `load` checks of an address in the file, of one that only systemd knows."""
        names = config.metadata.listen if not config.grants else ()
        assigned = assign(self._passed, [*names, config.admin.listen])
        hosts = [(name, listener_host(name, assigned)) for name in names]
        mistakes = [text for name, host in hosts for text in without_grants(name, host, config.roles)]
        if mistakes:
            raise ConfigError("metadata.listen", tuple(mistakes))

    async def _follow_role_tokens(self) -> None:
        await self._role_tokens.follow(self._state, self._roles.served(), rotate=bool(self.config.grants))

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
        await asyncio.to_thread(self._sources.prepare, self.config)
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
                self._session_tokens,
                self._role_tokens,
                self._identity.token_files,
                self._identity.service_accounts,
            ),
            region=self._sources.region or self.config.region,
            hosts=[listener_host(listen, self._assigned) for listen in self.config.metadata.listen],
            audit=self._audit,
        )

    async def _open_admin(self) -> None:
        """Open the control plane, or move it; without it the data plane goes on."""
        from imds_proxy.admin import app  # noqa: PLC0415 - after the listeners are open
        from imds_proxy.admin.pages import Documents  # noqa: PLC0415 - the same
        from imds_proxy.telemetry.metrics import Metrics  # noqa: PLC0415 - the same

        wanted, old = self.config.admin.listen, self._admin
        if old is not None and old[0] == wanted:
            old[1].follow(self.config.admin)
            return
        documents = Documents(self._status, Metrics(self._measured), lambda: self.config)
        try:
            listening = open_listener(wanted, self._assigned)
            self._admin = wanted, await app.start(documents, self._identity.connections, listening, wanted)
        except ListenError as error:
            log.error("no control plane", extra={"error": error.message, "advice": error.advice})  # noqa: TRY400
            return
        if old is not None:
            await old[1].close()

    def _renewed(self) -> None:
        """After every attempt of any role."""
        self._systemd.attempted()
        self._outputs.refresh()
        self._systemd.status()

    def _spawn(self, work: Any) -> None:
        task = asyncio.create_task(work)
        self._background.add(task)
        task.add_done_callback(self._background.discard)


def _tell_unexpected(_: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """What nobody caught: told without the text of it, which may hold a secret."""
    error = context.get("exception")
    log.error("unexpected error", extra={"where": context.get("message"), "error": told(error) if error else "none"})
