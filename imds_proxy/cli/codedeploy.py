"""`imds-proxy codedeploy WHAT`: a CodeDeploy agent outside AWS, from nothing to deployments."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from imds_proxy.cli import daemon_client
from imds_proxy.cli import options as shared
from imds_proxy.config.model import Config
from imds_proxy.errors import ConfigError, DaemonUnreachableError, ImdsProxyError
from imds_proxy.printable import printable

if TYPE_CHECKING:
    from imds_proxy.codedeploy.registration import Registry
    from imds_proxy.codedeploy.setup import Change

_FILE_HELP = "the on-premises file (default: the agent's)"


def register(verbs: Any) -> None:
    """Add the verb."""
    text = "Make this host one that CodeDeploy deploys to: the agent's files, its registration, and what is missing."
    verb = verbs.add_parser("codedeploy", help="set up and register a CodeDeploy agent", description=text)
    what = verb.add_verbs(title="what", metavar="WHAT")
    _add_setup(what)
    for name, run, help_ in (
        ("register", _register, "register this host's session under a name"),
        ("tag", _tag, "add tags, or change their values"),
        ("untag", _untag, "remove tags"),
        ("show", _show, "show what CodeDeploy has about a name"),
        ("deregister", _deregister, "no more deployments; the name stays taken for 24 hours"),
    ):
        parser = what.add_parser(name, help=help_, description=f"{help_[0].upper()}{help_[1:]}.")
        _add_operator(parser)
        parser.set_defaults(run=run)
        if name in {"register", "tag", "untag"}:
            parser.add_argument("--tag", metavar="KEY=VALUE", action="append", default=[], required=name != "register")
        if name == "register":
            parser.add_argument("--session-arn", metavar="ARN", help="left out: as the on-premises file says")
    doctor = what.add_parser(
        "doctor", help="would this host deploy?", description="Say whether this host would deploy."
    )
    shared.add_config(doctor)
    doctor.add_argument("--role", metavar="ROLE", help="the agent's role here (default: as its session says)")
    doctor.add_argument("--onpremises-file", metavar="FILE", help=_FILE_HELP)
    doctor.set_defaults(run=_doctor)


def _add_setup(what: Any) -> None:
    text = "Write the agent's on-premises file, and the [[files]] entry that keeps its credentials file fresh."
    setup = what.add_parser("setup", help="write what the agent needs on this host", description=text)
    shared.add_config(setup)
    setup.add_argument("--role", metavar="ROLE", required=True, help="the agent's role here")
    setup.add_argument(
        "--region", type=shared.region, metavar="REGION", help="where CodeDeploy is (default: as in the config)"
    )
    setup.add_argument("--platform", choices=("linux", "windows"), default="linux", help="of the agent's host")
    setup.add_argument("--output", metavar="FILE", type=Path, help=_FILE_HELP)
    setup.add_argument(
        "--credentials-file", metavar="PATH", help="what the agent reads (default: in /var/lib/imds-proxy)"
    )
    setup.add_argument("--written-as", metavar="PATH", help="the same file as the daemon sees it, if by another path")
    setup.add_argument("--yes", action="store_true", help="do not ask")
    setup.set_defaults(run=_setup)


def _add_operator(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--instance-name", metavar="NAME", required=True)
    parser.add_argument("--profile", metavar="NAME", help="the operator's AWS profile")
    parser.add_argument(
        "--region", type=shared.region, metavar="REGION", help="default: as the on-premises file says, or the profile"
    )
    parser.add_argument("--onpremises-file", metavar="FILE", help=_FILE_HELP)


# setup


def _setup(options: argparse.Namespace) -> int:
    changes = _changes(options)
    if not changes:
        print("Everything is as it should be.")
        return 0
    for change in changes:
        print(f"{change.what}\n\n{_indented(change.shown)}")
    if not options.yes and not _agreed():
        print("Nothing was written.")
        return 1
    for change in changes:
        change.apply()
        print(printable(f"written: {change.path}"))
    print(_NEXT_WINDOWS if options.platform == "windows" else _NEXT)
    return 0


_NEXT = """
Next:
  systemctl reload imds-proxy              # it keeps the credentials file from now on
  imds-proxy codedeploy register --instance-name NAME --tag KEY=VALUE --profile OPERATOR
  systemctl restart codedeploy-agent       # it reads the on-premises file when it starts
  imds-proxy codedeploy doctor"""
_NEXT_WINDOWS = """
Next: put that file at C:\\ProgramData\\Amazon\\CodeDeploy\\conf.onpremises.yml of the Windows host, and have its
credentials file kept by a daemon that reaches it: systemctl reload imds-proxy, if an entry was added above.
Then: imds-proxy codedeploy register, and on that host: Restart-Service codedeployagent"""


def _changes(options: argparse.Namespace) -> "list[Change]":
    from imds_proxy.codedeploy import daemon_roles, onpremises, setup

    config = shared.require_config(options.config)
    windows = options.platform == "windows"
    known = daemon_roles.roles(daemon_client.status(shared.target(options)))
    arn = daemon_roles.usable_session_arn(options.role, known)
    read = options.credentials_file or (onpremises.WINDOWS_CREDENTIALS if windows else onpremises.LINUX_CREDENTIALS)
    written = options.written_as or (None if windows else read)
    output = options.output or Path(onpremises.WINDOWS_NAME if windows else onpremises.LINUX_FILE)
    wanted = onpremises.OnPremises(arn, read, _region(options, config))
    entry = setup.config_file(shared.config_path(options.config), options.role, written) if written else None
    return [change for change in (entry, setup.onpremises_file(wanted, output)) if change]


def _region(options: argparse.Namespace, config: Config) -> str:
    from imds_proxy.aws.region import named_region

    region = options.region or named_region(config.region)
    if region is None:
        raise ConfigError("no region: give --region REGION, or set region in the config")
    return region


def _agreed() -> bool:
    try:
        return input("Write this? [y/N] ").strip().lower() in {"y", "yes"}
    except EOFError:  # nobody there: a script says --yes
        print()
        return False


def _indented(text: str) -> str:
    return "".join(f"    {line}\n" for line in text.splitlines())


# Registration


def _register(options: argparse.Namespace) -> int:
    from imds_proxy.codedeploy import onpremises, validation

    name, tags = validation.instance_name(options.instance_name), validation.tags(options.tag)
    arn = options.session_arn or onpremises.load(_onpremises_path(options)).session_arn
    if mistake := onpremises.session_arn_mistake(arn):
        raise ConfigError(f"--session-arn: {mistake}")
    registry = _registry(options)
    new = registry.register(name, arn)
    print(f"{name} is registered for {arn}{'' if new else ', as it was'}")
    if tags:
        registry.tag(name, tags)
        print(f"tagged: {', '.join(options.tag)}")
    return 0


def _tag(options: argparse.Namespace) -> int:
    from imds_proxy.codedeploy import validation

    name, tags = validation.instance_name(options.instance_name), validation.tags(options.tag)
    _registry(options).tag(name, tags)
    print(f"{name} is tagged: {', '.join(options.tag)}")
    return 0


def _untag(options: argparse.Namespace) -> int:
    from imds_proxy.codedeploy import validation

    name, tags = validation.instance_name(options.instance_name), validation.tags(options.tag)
    _registry(options).untag(name, tags)
    print(f"{name} is without: {', '.join(options.tag)}")
    return 0


def _show(options: argparse.Namespace) -> int:
    from imds_proxy.codedeploy import validation
    from imds_proxy.credentials import timestamp

    instance = _registry(options).show(validation.instance_name(options.instance_name))
    print(f"name          {instance.name}\nregistered    for {instance.arn}")
    if instance.registered is not None:
        print(f"              at {timestamp(instance.registered)}")
    if instance.deregistered is not None:
        print(f"deregistered  at {timestamp(instance.deregistered)}; the name stays taken for 24 hours")
    for key, value in instance.tags.items():
        print(f"tag           {key}={value}")
    return 0


def _deregister(options: argparse.Namespace) -> int:
    from imds_proxy.codedeploy import validation

    name = validation.instance_name(options.instance_name)
    _registry(options).deregister(name)
    print(f"{name} is deregistered; the name stays taken for 24 hours")
    return 0


def _registry(options: argparse.Namespace) -> "Registry":
    from imds_proxy.codedeploy.api import CodeDeploy
    from imds_proxy.codedeploy.registration import Registry

    return Registry(CodeDeploy(options.profile, options.region or _files_region(options)))


def _files_region(options: argparse.Namespace) -> str | None:
    """The region of this host's agent, where it has one."""
    from imds_proxy.codedeploy import onpremises

    try:
        return onpremises.load(_onpremises_path(options)).region
    except ConfigError:
        return None


def _onpremises_path(options: argparse.Namespace) -> Path:
    from imds_proxy.codedeploy.onpremises import LINUX_FILE

    return Path(options.onpremises_file or LINUX_FILE)


# doctor


def _doctor(options: argparse.Namespace) -> int:
    from imds_proxy.codedeploy import daemon_roles
    from imds_proxy.codedeploy.doctor import Doctor

    try:
        roles = daemon_roles.roles(daemon_client.status(shared.target(options)))
    except DaemonUnreachableError:
        roles = None
    if roles is not None and options.role not in {None, *roles}:
        raise ImdsProxyError(f'the daemon has no role "{options.role}"', f"it has: {', '.join(roles)}")
    file = str(Path(options.onpremises_file).absolute()) if options.onpremises_file else None
    failed = 0
    for finding in Doctor(roles, options.role, file=file).findings():
        failed += finding.level == "FAIL"
        print(f"{finding.level:<5} {printable(finding.what)}", flush=True)
        if finding.advice and finding.level != "ok":
            print(f"      → {printable(finding.advice)}")
    print(f"This host would not deploy: {failed} to mend." if failed else "This host would deploy.")
    return int(bool(failed))
