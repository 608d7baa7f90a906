"""Config to source.

`source = "web-identity"` is made by `make` of `web_identity.py`: each module is imported when a config first names it,
so that a host pays for what it uses.
"""

import contextlib
import importlib
import os
from collections.abc import Callable
from functools import cached_property
from typing import TYPE_CHECKING

from imds_proxy.clock import Clock
from imds_proxy.config import Config
from imds_proxy.config_role_common import RoleConfig
from imds_proxy.credentials import Credentials
from imds_proxy.errors import Invalid
from imds_proxy.host.file_watcher import FileWatcher
from imds_proxy.sources.interface import Context, Source
from imds_proxy.sources.tls import KeptContexts

if TYPE_CHECKING:
    from imds_proxy.sources.aws_chain import AwsChain


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
        """The region that somebody named: the config, the environment or the AWS profile; None where nobody did."""

    def prepare(self, config: Config) -> None:
        """Import what the config needs and find the region. Takes its time: call it beside the loop."""
        self.region = config.region or os.environ.get("AWS_REGION") or self._chain.region()
        for settings in config.roles.values():
            with contextlib.suppress(ModuleNotFoundError):  # `make` tells of it
                importlib.import_module(_module(settings))

    def make(self, name: str, settings: RoleConfig, parent: Callable[[], Credentials | None]) -> Source:
        """The source of one role; `parent` gives the credentials of the role it is obtained with, if there is one."""
        context = Context(self._clock, lambda: self._chain, self.region, parent, self._tls, self._watcher)
        try:
            source: Source = importlib.import_module(_module(settings)).make(name, settings, context)
        except ModuleNotFoundError as error:
            return _NotInstalled(name, settings.source, str(error.name))
        return source

    @cached_property
    def _chain(self) -> "AwsChain":
        from imds_proxy.sources.aws_chain import AwsChain  # noqa: PLC0415 - 300 ms and 11 MB, where they are needed

        return AwsChain()


class _NotInstalled(Source):
    """A source whose extra is missing: the other roles go on."""

    def __init__(self, role: str, source: str, module: str) -> None:
        self._error = Invalid(
            f'role "{role}": source = "{source}" needs the Python package {module}, which is not installed',
            f'pip install "imds-proxy[{source}]"',
        )

    async def fetch(self) -> Credentials:
        raise self._error


def _module(settings: RoleConfig) -> str:
    return f"imds_proxy.sources.{settings.source.replace('-', '_')}"
