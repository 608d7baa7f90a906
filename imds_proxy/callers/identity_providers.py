"""Everything by which callers prove who they are, as the config wants it and across reloads."""

import asyncio
import logging

from imds_proxy.callers.grant_token_files import TokenFiles
from imds_proxy.callers.grant_warnings import remarks
from imds_proxy.callers.kubernetes.verifier import ServiceAccounts
from imds_proxy.callers.peer import Callers
from imds_proxy.callers.socket_owner import SocketOwners
from imds_proxy.callers.user_database import Accounts
from imds_proxy.config.model import Config
from imds_proxy.host.file_watcher import FileWatcher
from imds_proxy.host.threads import in_thread

log = logging.getLogger(__name__)


class Identity:
    """The connections, tokens and files of one daemon's callers.

    Args:
        watcher: Tells when files change.
    """

    def __init__(self, watcher: FileWatcher) -> None:
        self.connections = Callers(SocketOwners(), Accounts())
        self.service_accounts = ServiceAccounts(watcher)
        self.token_files = TokenFiles(watcher)
        self._remarking: asyncio.Task[None] | None = None

    async def follow(self, config: Config) -> None:
        """Take the tokens and files that `config` names, and say what in it may not be meant."""
        if not self.connections.works():
            advice = "needs the kernel's tcp_diag, and RestrictAddressFamilies with AF_NETLINK"
            log.warning("callers have no user here: grants by user or group fit nobody", extra={"advice": advice})
        self.connections.look_for_units(unit for grant in config.grants for unit in grant.unit)
        await self.service_accounts.follow(config)
        await self.connections.warm_up()
        await self.token_files.follow(grant.token_file for grant in config.grants if grant.token_file)
        self._remarking = asyncio.create_task(_remark(config), name="remark on the config")

    async def close(self) -> None:
        """Ask nobody, fetch and read nothing any more."""
        if self._remarking is not None:
            self._remarking.cancel()
        self.connections.close()
        await self.service_accounts.close()
        await self.token_files.close()


async def _remark(config: Config) -> None:
    for remark in await in_thread(list, remarks(config)):
        log.warning("the config may not say what is meant", extra={"remark": remark})
