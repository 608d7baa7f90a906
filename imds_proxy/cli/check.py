"""`imds-proxy check`: is the config right, has this host what it needs, and does every role work, without serving."""

import argparse
import asyncio
import time
from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from imds_proxy.cli import options as shared
from imds_proxy.config.model import Config
from imds_proxy.printable import printable, printable_lines

if TYPE_CHECKING:
    from imds_proxy.cli.check_finding import Finding
    from imds_proxy.credentials import Credentials
    from imds_proxy.host.clock import Clock


def register(verbs: Any) -> None:
    """Add the verb."""
    text = (
        "Validate the config file, look at what this host has for it, then try every role once and say what AWS"
        " answers. Exit codes: 0, 1 for what is wrong on this host or with a role, 2 for mistakes in the config."
    )
    verb = verbs.add_parser(
        "check", help="validate the config, look at this host, and try every role once", description=text
    )
    shared.add_config(verb)
    verb.add_argument(
        "--as",
        dest="caller",
        metavar="KEY=VALUE",
        help="say what a caller would get and by which grant, and try nothing: user=build, address=172.17.0.2, "
        "service-account=team/app, or other keys of a grant, with commas between them; and role=ARN, as an annotation"
        " eks.amazonaws.com/role-arn has it",
    )
    less = verb.add_mutually_exclusive_group()
    less.add_argument(
        "--offline",
        action="store_true",
        help="ask nobody and run nothing: the config and this host alone, for configuration management and packages",
    )
    less.add_argument(
        "--form",
        action="store_true",
        help="the config alone, for one of another host, as in CI: neither this host is looked at nor a role tried",
    )
    verb.add_argument(
        "--user", metavar="USER", help="as root: judge this host as that user (default: the one that its unit names)"
    )
    verb.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Print what is wrong, and a line per role that was tried; 1 if anything is not well."""
    from imds_proxy.host.process_hardening import harden
    from imds_proxy.telemetry import log

    log.configure("WARNING", "text")
    harden()
    if options.form or options.caller is not None:
        return _form(options)
    from imds_proxy.cli.check_host import Host

    host = Host(shared.config_path(options.config), options.user, offline=options.offline)
    config = shared.require_config(options.config, host.beside_mistakes)
    found = list(host.findings(config, sources=options.offline))
    wrong = [each for each in found if not each.is_remark]
    plural = "finding" if len(wrong) == 1 else "findings"
    print(f"{', '.join(config.places.files)}: valid" + (f"; on this host {len(wrong)} {plural}" if wrong else ""))
    print(f"  {host.judged_as}")
    for each in sorted(found, key=lambda each: not each.is_remark):
        _print_finding(config, each)
    if options.offline:
        print(_NOT_TRIED)
        return int(bool(wrong))
    return asyncio.run(_try_roles(config)) or int(bool(wrong))


_NOT_TRIED: Final = (
    "not tried (--offline): no role was asked for credentials, no name looked up in DNS, no program run, nothing"
    " connected to. Users and groups are those that this host knows. Without --offline, each role is tried"
)
_NOT_LOOKED_AT: Final = (
    "not looked at (--form): this host, its addresses, files, users and programs; and no role was tried"
)


def _form(options: argparse.Namespace) -> int:
    """What the config says, wherever it is read."""
    config = shared.require_config(options.config)
    print(f"{', '.join(config.places.files)}: valid")
    if options.caller is not None:
        from imds_proxy.cli.check_as import check_as

        return check_as(config, options.caller)
    print(_NOT_LOOKED_AT)
    return 0


def _print_finding(config: Config, finding: "Finding") -> None:
    what = printable(config.places.told(finding.path, finding.what) if finding.key else finding.what)
    print(f"  remark: {what}" if finding.is_remark else what)
    if finding.advice:
        print(f"  → {printable_lines(finding.advice)}")


async def _try_roles(config: Config) -> int:
    from imds_proxy.credentials import Credentials, timestamp
    from imds_proxy.errors import SourceError
    from imds_proxy.host.clock import Clock
    from imds_proxy.sources import obtain, unexpected
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
        except Exception as error:  # noqa: BLE001 - whatever a library raises, the other roles are tried
            told = error if isinstance(error, SourceError) else unexpected(name, error)
            failed = 1
            print(f"{name:<{width}}  {told.outcome}: {told.message}")
            if told.advice:
                print(f"{'':<{width}}  → {told.advice}")
        else:
            minutes = round((credentials.expiration - time.time()) / 60)
            until = f"until {timestamp(credentials.expiration)} ({minutes} min)"
            print(f"{name:<{width}}  ok: {printable(whose)}, {until}{printable(remark)}")
    return failed


async def _whose(name: str, credentials: "Credentials", region: str | None, clock: "Clock") -> tuple[str, str]:
    """Whose session it is, from AWS where its source does not know; and a remark where AWS could not say.

    Raises:
        Denied: AWS does not accept the credentials.
    """
    if credentials.session_arn is not None:
        return credentials.session_arn, ""
    from imds_proxy.aws.session import AwsChain
    from imds_proxy.aws.sts import fallback_region, identify
    from imds_proxy.errors import Unreachable

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
