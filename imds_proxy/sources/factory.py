"""Config to source. Each source's module is imported when a config first names it: a host pays for what it uses."""

import asyncio
import contextlib
import logging
from collections.abc import Callable
from functools import cached_property
from typing import TYPE_CHECKING, Any

from imds_proxy.aws.region import named_region
from imds_proxy.aws.settings import find_variants
from imds_proxy.config.model import Config
from imds_proxy.config.role_base import RoleConfig
from imds_proxy.config.roles import RolesAnywhereConfig, StsConfig
from imds_proxy.credentials import Credentials
from imds_proxy.errors import ConfigError, Invalid
from imds_proxy.host.clock import Clock
from imds_proxy.host.extras import how_to_install
from imds_proxy.host.file_watcher import FileWatcher
from imds_proxy.host.threads import in_thread
from imds_proxy.host.tls import KeptContexts
from imds_proxy.partitions import USUAL, is_known, nearest
from imds_proxy.sources.interface import Context, Source, unexpected

if TYPE_CHECKING:
    from imds_proxy.aws.session import AwsChain

log = logging.getLogger(__name__)


class SourceFactory:
    """Makes sources that share one AWS chain.

    Args:
        clock: Told what time AWS says it is.
        watcher: Of the files of all sources; None: one of its own.
    """

    def __init__(self, clock: Clock, watcher: FileWatcher | None = None) -> None:
        self._clock = clock
        self._watcher = watcher or FileWatcher()
        self._tls = KeptContexts()
        self.region: str | None = None
        """The region that somebody named: the config, the environment or the AWS profile; None where nobody did, or
        named what is no region."""
        self._no_region = ""
        self._variants = USUAL

    async def look_for_region(self, config: Config, within: float) -> None:
        """Have a quick look for the region, before anybody asks for it; `prepare` finds it for good."""
        with contextlib.suppress(TimeoutError, ConfigError):
            async with asyncio.timeout(within):
                self.region = await in_thread(named_region, config.region)

    def prepare(self, config: Config) -> None:
        """Import what the config needs and find AWS's settings. Takes its time: call it beside the loop."""
        self._no_region = ""
        try:
            self.region = named_region(config.region)
        except ConfigError as error:  # the roles that need it say so at every attempt; the others go on
            self.region, self._no_region = None, error.message
        if self._no_region:
            log.error("the region that is set is not used", extra={"error": self._no_region})
        if self.region is not None and not is_known(self.region):
            extra = {"region": self.region} | ({"nearest": near} if (near := nearest(self.region)) else {})
            log.warning("this host's botocore knows no such region; it is called all the same", extra=extra)
        if any(isinstance(settings, RolesAnywhereConfig) for settings in config.roles.values()):
            self._variants = find_variants(lambda: self._chain)
        for settings in config.roles.values():
            try:
                maker(settings)
            except ModuleNotFoundError as error:  # `make` tells of it
                how_to_install(settings.source, str(error.name))
            except Exception:  # noqa: BLE001, S110 - the same
                pass

    def make(self, name: str, settings: RoleConfig, parent: Callable[[], Credentials | None]) -> Source:
        """The source of one role; `parent` gives the credentials of the role it is obtained with, if there is one."""
        if self._no_region and isinstance(settings, StsConfig) and not settings.sts_regions:
            error = Invalid(f'role "{name}": {self._no_region}', "correct it there, or set region in the config")
            return _Unusable(error)
        chain, tls, watcher = (lambda: self._chain), self._tls, self._watcher
        context = Context(self._clock, chain, self.region, parent, tls, watcher, self._variants)
        try:
            return maker(settings)(name, settings, context)
        except ModuleNotFoundError as error:
            return _Unusable(not_installed(name, settings.source, str(error.name)))
        except Exception as error:  # noqa: BLE001 - the other roles go on
            return _Unusable(unexpected(name, error))

    @cached_property
    def _chain(self) -> "AwsChain":
        from imds_proxy.aws.session import AwsChain  # 300 ms and 11 MB, where they are needed

        return AwsChain()


class _Unusable(Source):
    """In place of a source that cannot be made: the other roles go on."""

    def __init__(self, error: Invalid) -> None:
        self._error = error

    async def fetch(self) -> Credentials:
        raise self._error


def not_installed(role: str, source: str, module: str) -> Invalid:
    """What is said of a source whose extra is missing."""
    return Invalid(
        f'role "{role}": source = "{source}" needs the Python package {module}, which is not installed',
        how_to_install(source, module),
    )


def judge(name: str, settings: RoleConfig) -> None:
    """Raise Invalid where the extra of a role's source is not installed."""
    try:
        maker(settings)
    except ModuleNotFoundError as error:
        raise not_installed(name, settings.source, str(error.name)) from None


def maker(settings: RoleConfig) -> Callable[[str, Any, Context], Source]:
    """`make` of a role's source. Raises ModuleNotFoundError where its extra is not installed."""
    match settings.source:
        case "assume-role":
            from imds_proxy.sources.assume_role import make as assume_role

            return assume_role
        case "roles-anywhere":
            from imds_proxy.sources.roles_anywhere.source import make as roles_anywhere

            return roles_anywhere
        case "web-identity":
            from imds_proxy.sources.web_identity.source import make as web_identity

            return web_identity
        case "process":
            from imds_proxy.sources.process import make as process

            return process
        case "file":
            from imds_proxy.sources.file import make as file

            return file
        case "http":
            from imds_proxy.sources.http.source import make as http

            return http
        case _:
            from imds_proxy.sources.ambient import make as ambient

            return ambient
