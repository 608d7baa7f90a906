"""`imds-proxy check --offline`: what roles need on this host. Nobody is asked for credentials, and nothing is run."""

import asyncio
import os
from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING

from imds_proxy.aws import session_name
from imds_proxy.cli.check_finding import Finding, Key
from imds_proxy.config.http_role import HttpConfig
from imds_proxy.config.model import Config
from imds_proxy.config.roles import (
    AmbientConfig,
    AssumeRoleConfig,
    FileConfig,
    ProcessConfig,
    RolesAnywhereConfig,
    WebIdentityConfig,
)
from imds_proxy.errors import ImdsProxyError, Invalid
from imds_proxy.host import command_start
from imds_proxy.host.clock import Clock
from imds_proxy.host.read_private import read_file
from imds_proxy.sources import factory
from imds_proxy.sources.interface import obtain

if TYPE_CHECKING:
    from imds_proxy.config.role_base import RoleConfig

Part = tuple[Key, Callable[[], object]]
"""A key of a role's table, and what raises an error where it is of no use."""


def findings(config: Config) -> Iterator[Finding]:
    """What roles could not use."""
    clock = Clock()
    for name, settings in config.roles.items():
        key: Key = ("roles", name)
        try:
            factory.judge(name, settings)
        except Invalid as error:
            yield Finding.of((*key, "source"), error)
            continue
        for part, judge in _parts(name, settings, clock):
            try:
                judge()
            except ImdsProxyError as error:
                yield Finding.of((*key, *part), error)


def _parts(name: str, settings: "RoleConfig", clock: Clock) -> Iterator[Part]:
    template = getattr(settings, "session_name", None)
    if template is not None:  # a host of another name has no other id
        yield ("session_name",), partial(session_name.render_without_dns, template, "host")
    match settings:
        case AssumeRoleConfig() | AmbientConfig() if settings.profile is not None:
            yield ("profile",), partial(_profile, name, settings.profile)
        case ProcessConfig():
            yield ("command",), partial(_program, name, "command", settings.command)
        case WebIdentityConfig():
            yield from _web_identity(name, settings)
        case RolesAnywhereConfig():
            yield ("certificate",), partial(_certificate, name, settings, clock)
        case FileConfig():
            yield ("path",), partial(_file, name, settings, clock)
        case HttpConfig():
            yield (), partial(_http, name, settings, clock)


def _program(name: str, key: str, command: tuple[str, ...]) -> None:
    command_start.judge(command, f'role "{name}": {key} {command[0]}')


def _profile(name: str, profile: str) -> None:
    """Raise Invalid where neither of the AWS files has a profile."""
    from botocore.session import Session

    if profile not in Session().available_profiles:
        files = " or ".join(
            os.environ.get(variable, default)
            for variable, default in (
                ("AWS_SHARED_CREDENTIALS_FILE", "~/.aws/credentials"),
                ("AWS_CONFIG_FILE", "~/.aws/config"),
            )
        )
        raise Invalid(f'role "{name}": there is no profile "{profile}" in {files}', "add it there, or correct profile")


def _web_identity(name: str, settings: WebIdentityConfig) -> Iterator[Part]:
    from imds_proxy.sources.web_identity.oidc_token import read_token

    def token(path: str) -> None:
        read_token(name, read_file(name, path, "token_file", private=False), f"token_file {path}")

    if settings.token_command is not None:
        yield ("token_command",), partial(_program, name, "token_command", settings.token_command)
    if settings.token_file is not None:
        yield ("token_file",), partial(token, settings.token_file)


def _certificate(name: str, settings: RolesAnywhereConfig, clock: Clock) -> None:
    """Read and prove the pair, but for a key on a token: to sign with it may ask its holder."""
    from imds_proxy.sources.roles_anywhere import key_files, key_pair

    files = key_files.read(name, settings)
    if settings.pkcs11_module is not None:
        read_file(name, settings.pkcs11_module, "pkcs11_module", private=False)
        return
    pair = key_files.pair_of(name, settings, files, None)
    key_pair.acceptable(name, pair, clock.now())
    key_pair.belongs(name, pair)
    key_pair.alive(name, pair, clock.now())


def _file(name: str, settings: FileConfig, clock: Clock) -> None:
    from imds_proxy.sources.file import FileSource

    asyncio.run(obtain(name, FileSource(name, settings, clock), clock))


def _http(name: str, settings: HttpConfig, clock: Clock) -> None:
    from imds_proxy.sources.http.source import Http

    Http(name, settings, clock).judge()
