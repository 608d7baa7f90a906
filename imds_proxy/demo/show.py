"""The demonstration: an AWS double, the real daemon, and unmodified clients, told line by line."""

import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

from imds_proxy.cli.status import duration
from imds_proxy.demo.aws_double import AwsDouble
from imds_proxy.demo.processes import Client, Daemon, clients_in, running_daemon
from imds_proxy.errors import ImdsProxyError

ROTATIONS = 2
_ROLE = "deploy"
_ROTATE_EVERY = 8
_TIME_LIMIT = 120.0
_COLUMNS = "{:<10}{:<8}{:<8}{:<11}{:<10}{}"


@dataclass(slots=True)
class Seen:
    """What the demonstration has shown so far."""

    keys: list[str] = field(default_factory=list)
    used: dict[str, set[str]] = field(default_factory=dict)
    """By client, the keys that AWS accepted from it."""

    def complete(self, clients: list[Client]) -> bool:
        """Whether every client has used the first key and each of the two that followed."""
        wanted = set(self.keys[: ROTATIONS + 1])
        return len(wanted) > ROTATIONS and all(wanted <= self.used.get(client.name, set()) for client in clients)


def show(*, once: bool, clients: Path | None) -> int:
    """Run until Ctrl-C, or with `once` for two rotations taken up by every client; 1 if anything was wrong."""
    try:
        with AwsDouble() as aws, tempfile.TemporaryDirectory(prefix="imds-proxy-demo-") as folder:
            programs = clients_in(clients)
            config, environment = _host(aws, Path(folder))
            with running_daemon(config, environment) as daemon:
                _introduce(aws, daemon, programs)
                return _follow(aws, daemon, programs, once=once)
    except KeyboardInterrupt:
        print("\nstopped")
        return 0


def _host(aws: AwsDouble, folder: Path) -> tuple[str, dict[str, str]]:
    """A host outside AWS: the config of its daemon, and the environment with its one key."""
    role_arn = aws.add_role("DeployRole", aws.user_arn("on-premises-host"))
    key_id, secret = aws.add_user("on-premises-host", [role_arn])
    config = f"""
        region = "eu-west-1"
        state_dir = "{folder / "state"}"
        [renewal]
        max_age = "{_ROTATE_EVERY}s"   # for the show: by itself an hour's session is renewed after 30 minutes
        [roles.{_ROLE}]
        role_arn = "{role_arn}"
        sts_endpoint = "{aws.url}"
    """
    return config, {"AWS_ACCESS_KEY_ID": key_id, "AWS_SECRET_ACCESS_KEY": secret}


def _introduce(aws: AwsDouble, daemon: Daemon, programs: list[Client]) -> None:
    print(f"AWS double   {aws.url}  (moto, with signatures, permissions and expiry enforced)")
    print(f"imds-proxy   {daemon.endpoint}  (process {daemon.pid}, its key only in its own environment)")
    print(f"status page  {daemon.target.admin}/")
    print(f"clients      {', '.join(client.name for client in programs)}: each a new process a line, told only")
    print(f"             AWS_EC2_METADATA_SERVICE_ENDPOINT={daemon.endpoint}")
    print(f"rotation     every {_ROTATE_EVERY} s, to have something to see\n")
    print(_COLUMNS.format("TIME", "ROLE", "KEY", "LEFT", "REQUESTS", "AWS ACCEPTED"), flush=True)


def _follow(aws: AwsDouble, daemon: Daemon, programs: list[Client], *, once: bool) -> int:
    seen, deadline = Seen(), time.monotonic() + _TIME_LIMIT
    while not (once and seen.complete(programs)):
        if once and time.monotonic() > deadline:
            print(f"\nFAILED: {ROTATIONS} rotations were not taken up by every client within {_TIME_LIMIT:.0f} s")
            return 1
        try:
            _round(aws, daemon, programs, seen)
        except ImdsProxyError as error:
            print(f"\nFAILED: {error}")
            return 1
    print(f"\nOK: {ROTATIONS} rotations, {len(aws.calls)} signed calls, none refused")
    return 0


def _round(aws: AwsDouble, daemon: Daemon, programs: list[Client], seen: Seen) -> None:
    """One line: what the daemon holds, and what AWS accepted from each client. Raises ImdsProxyError for a refusal."""
    results = [_call(aws, daemon, client, seen) for client in programs]
    current, status = aws.issued()[-1], daemon.status()
    role = status["roles"][0]
    if current not in seen.keys:
        if seen.keys:
            print(f"          rotated: …{seen.keys[-1][-4:]} → …{current[-4:]}")
        seen.keys.append(current)
    left = duration(role["seconds_left"])
    line = _COLUMNS.format(time.strftime("%H:%M:%S"), _ROLE, role["key"], left, status["requests"], "  ".join(results))
    print(line, flush=True)


def _call(aws: AwsDouble, daemon: Daemon, client: Client, seen: Seen) -> str:
    """Let a client call AWS; which key AWS saw decides, not what the client says."""
    before = len(aws.calls)
    output = client.run(daemon.endpoint, aws.url)
    calls = [call for call in aws.calls[before:] if call.action == "GetCallerIdentity"]
    if len(calls) != 1 or calls[0].status != 200 or "assumed-role/DeployRole" not in output:  # noqa: PLR2004 - HTTP's OK
        raise ImdsProxyError(f"{client.name} did not get through as the role: {calls} {output.strip()[-500:]}")
    key = calls[0].key_id
    seen.used.setdefault(client.name, set()).add(key)
    return f"{client.name} …{key[-4:]}"
