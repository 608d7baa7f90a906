"""`imds-proxy check`: is the config right, and does every role work, without serving."""

import argparse
import asyncio
import time
from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING, Any

from imds_proxy.cli import options as shared
from imds_proxy.cli.options import DEFAULT_PATH
from imds_proxy.config import Config

if TYPE_CHECKING:
    from imds_proxy.clock import Clock
    from imds_proxy.credentials import Credentials


def register(verbs: Any) -> None:
    """Add the verb."""
    text = "Validate the config file, then try every role once and say what AWS answers."
    verb = verbs.add_parser("check", help="validate the config and try every role once", description=text)
    shared.add_config(verb)
    verb.add_argument(
        "--as",
        dest="caller",
        metavar="KEY=VALUE",
        help="say what a caller would get and by which grant, and try nothing: user=build, address=172.17.0.2, "
        "service-account=team/app, or other keys of a grant, with commas between them; and role=ARN, as an annotation"
        " eks.amazonaws.com/role-arn has it",
    )
    verb.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Print a line per role, per unsafe path, and per listener whose port another user has; 1 if any is not well."""
    from imds_proxy.callers.remarks import remarks
    from imds_proxy.callers.service_accounts import missing_package
    from imds_proxy.cli.check_paths import print_unsafe_paths, state_remark
    from imds_proxy.host.process_hardening import harden
    from imds_proxy.telemetry import log

    log.configure("WARNING", "text")
    harden()
    config = shared.require_config(options.config)
    print(f"{options.config or DEFAULT_PATH}: valid")
    if options.caller is not None:
        from imds_proxy.cli.check_as import check_as

        return check_as(config, options.caller)
    if config.service_accounts is not None and (error := missing_package()) is not None:
        raise error
    for remark in remarks(config):
        print(f"  remark: {remark}")
    if (movable := state_remark(config)) is not None:
        print(f"  remark: {movable}")
    unsafe = print_unsafe_paths(config)
    foreign = _foreign_listeners(config)
    no_tls = _try_tls(config)
    return asyncio.run(_try_roles(config)) or int(unsafe) or foreign or no_tls


def _foreign_listeners(config: Config) -> int:
    """Print the listeners of the config at which another user listens now; 1 if there are any."""
    from imds_proxy.addresses import SYSTEMD_PREFIX, split_listen
    from imds_proxy.cli.listener_owner import check_address
    from imds_proxy.errors import ForeignListenerError

    found = 0
    for listen in dict.fromkeys((*config.metadata.listen, config.admin.listen)):
        if listen.startswith(SYSTEMD_PREFIX):
            continue
        try:
            check_address(*split_listen(listen))
        except ForeignListenerError as error:
            found = 1
            print(f"  listener {listen}: {error.message}\n  → {error.advice}")
    return found


def _try_tls(config: Config) -> int:
    """Print why the control plane's certificate, key and client CA cannot be used; 1 if they cannot."""
    from imds_proxy.admin import tls
    from imds_proxy.errors import SourceError

    try:
        if (files := tls.TlsFiles.of(config.admin)) is not None:
            tls.read(files)
    except SourceError as error:
        print(f"  {tls.message_of(error)}\n  → {error.advice}")
        return 1
    return 0


async def _try_roles(config: Config) -> int:
    from imds_proxy.clock import Clock
    from imds_proxy.credentials import Credentials, timestamp
    from imds_proxy.errors import SourceError
    from imds_proxy.sources import obtain
    from imds_proxy.sources.factory import SourceFactory

    clock = Clock()
    sources = SourceFactory(clock)
    sources.prepare(config)
    width = max(map(len, config.roles))
    failed = 0
    obtained: dict[str | None, Credentials] = {}
    for name in parents_first(config):
        settings = config.roles[name].nobodys
        try:
            source = sources.make(name, settings, partial(obtained.get, settings.parent))
            credentials = obtained[name] = await obtain(name, source, clock)
            whose, remark = await _whose(name, credentials, sources.region, clock)
        except SourceError as error:
            failed = 1
            print(f"{name:<{width}}  {error.outcome}: {error.message}")
            if error.advice:
                print(f"{'':<{width}}  → {error.advice}")
        else:
            minutes = round((credentials.expiration - time.time()) / 60)
            until = f"until {timestamp(credentials.expiration)} ({minutes} min)"
            print(f"{name:<{width}}  ok: {whose}, {until}{remark}")
    return failed


async def _whose(name: str, credentials: "Credentials", region: str | None, clock: "Clock") -> tuple[str, str]:
    """Whose session it is, from AWS where its source does not know; and a remark where AWS could not say.

    Raises:
        Denied: AWS does not accept the credentials.
    """
    if credentials.session_arn is not None:
        return credentials.session_arn, ""
    from imds_proxy.errors import Unreachable
    from imds_proxy.sources.aws_chain import AwsChain
    from imds_proxy.sources.sts import fallback_region, identify

    region = region or fallback_region(name, credentials.role_arn)
    try:
        return await identify(name, credentials, AwsChain(), region, clock), ""
    except Unreachable as error:
        return f"key …{credentials.key_hint}", f", AWS could not be asked whose they are: {error.message}"


def parents_first(config: Config) -> Iterator[str]:
    """The roles in an order in which each comes after the one it is obtained with."""
    done: set[str | None] = {None}
    while len(done) <= len(config.roles):
        for name, settings in config.roles.items():
            if name not in done and settings.parent in done:
                done.add(name)
                yield name
