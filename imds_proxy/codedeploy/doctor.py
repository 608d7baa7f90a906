"""Whether this host would deploy, line by line.

In: the host's files and processes, the daemon's roles, the network. Out: findings. Nothing is changed, and AWS is asked
for nothing.
"""

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal

from imds_proxy.codedeploy import agent, agent_credentials, egress, imds_probe, onpremises
from imds_proxy.codedeploy.agent import Host
from imds_proxy.codedeploy.daemon_roles import SHORTEST_LIFE, RunningRole
from imds_proxy.codedeploy.onpremises import LINUX_CREDENTIALS, LINUX_FILE, OnPremises
from imds_proxy.errors import ConfigError, Unreachable

READ_AGAIN_AFTER: Final = 25 * 60
"""Seconds until the agent reads the file again (CODEDEPLOY.md): with less left, it would go on with a dead key."""

_SETUP: Final = "imds-proxy codedeploy setup --role ROLE writes it"
_EC2: Final = 200
Level = Literal["ok", "warn", "FAIL"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One line: how it is, and what to do about it."""

    level: Level
    what: str
    advice: str = ""


@dataclass(frozen=True, slots=True)
class Doctor:
    """Looks at one host.

    Args:
        roles: What the daemon holds; None where it does not answer.
        role: The one the agent should be; None: whichever the on-premises file names.
        host: Whose files and processes.
        file: The on-premises file; None: where the agent's own config says, or its default.
        metadata_status: What `GET /latest/meta-data` answers on the link-local address.
        now: Wall time.
    """

    roles: Mapping[str, RunningRole] | None
    role: str | None = None
    host: Host = field(default_factory=Host)
    file: str | None = None
    metadata_status: Callable[[], int | None] = imds_probe.status
    now: Callable[[], float] = time.time

    def findings(self) -> Iterator[Finding]:
        """Every finding, as soon as it is known."""
        found, finding = self._file()
        yield finding
        role, finding = self._session(found)
        yield finding
        path = self.host.path(found.credentials_file if found else LINUX_CREDENTIALS)
        processes = agent.users(self.host)
        yield self._fresh(path, role)
        yield self._readable(path, set(processes.values()))
        yield self._metadata()
        yield from self._egress(found)
        yield self._running(processes)

    def _file(self) -> tuple[OnPremises | None, Finding]:
        path = self.host.path(self.file or agent.settings(self.host).get("on_premises_config_file") or LINUX_FILE)
        try:
            found = onpremises.load(path)
        except ConfigError as error:
            return None, Finding("FAIL", f"on-premises file: {error.message}", _SETUP)
        return found, Finding("ok", f"on-premises file: {path}")

    def _session(self, found: OnPremises | None) -> tuple[RunningRole | None, Finding]:
        """The role that the agent is, and whether the file says so."""
        if self.roles is None:
            return None, Finding("FAIL", "session: the daemon does not answer", "systemctl status imds-proxy")
        if found is None:
            return None, Finding("warn", "session: not compared, for want of an on-premises file")
        for role in self._candidates():
            if role.session_arn == found.session_arn:
                return role, Finding("ok", f'session: {found.session_arn} is role "{role.name}"')
        wanted = next(iter(self._candidates()), None)
        what = f'role "{wanted.name}" is {wanted.session_arn or "without a session"}' if wanted else "no role is it"
        advice = "give the role the session_name that was registered, or run setup and register this host anew"
        return wanted, Finding("FAIL", f"session: the file says {found.session_arn}, but {what}", advice)

    def _candidates(self) -> list[RunningRole]:
        """The role that is meant; all of them, the default one first, where none is."""
        roles = self.roles or {}
        if self.role is not None:
            return [roles[self.role]] if self.role in roles else []
        return sorted(roles.values(), key=lambda role: not role.default)

    def _fresh(self, path: Path, role: RunningRole | None) -> Finding:
        keep = "is there a [[files]] entry for it, and does the daemon's log say that it could not write it?"
        try:
            held = agent_credentials.load(path)
        except ConfigError as error:
            return Finding("FAIL", f"credentials file: {error.message}", keep)
        if role is not None and role.key is not None and held.key != role.key:
            return Finding("FAIL", f"credentials file: {path} holds key {held.key}, the daemon {role.key}", keep)
        expires = held.expires or (role.expires if role else None)
        if expires is None:
            return Finding("warn", f"credentials file: {path} does not say until when its key {held.key} lives")
        left = expires - self.now()
        what = f"credentials file: {path} holds key {held.key} for {max(left, 0) / 60:.0f} more minutes"
        if left < READ_AGAIN_AFTER:
            return Finding("FAIL", f"{what}; the agent reads it every 25", keep)
        return Finding("warn" if left < SHORTEST_LIFE else "ok", what)

    def _readable(self, path: Path, users: set[agent.User]) -> Finding:
        try:
            reasons = {user: agent.why_unreadable(path, user) for user in users or {agent.ROOT}}
        except OSError as error:
            what = f"agent's access: {path} cannot be looked at: {error.strerror}"
            return Finding("FAIL", what, "run this as root" if isinstance(error, PermissionError) else "as above")
        if reason := next(filter(None, reasons.values()), None):
            advice = "set owner, group or mode in its [[files]] entry, and chmod +x its folders"
            return Finding("FAIL", f"agent's access: {reason}", advice)
        return Finding("ok", f"agent's access: {', '.join(sorted(map(str, reasons)))} may read {path}")

    def _metadata(self) -> Finding:
        place = f"instance metadata: GET /latest/meta-data on {imds_probe.ADDRESS[0]}"
        status = self.metadata_status()
        if status == _EC2:
            advice = "leave [instance] out of the config; or this is EC2, or another metadata service listens there"
            return Finding("FAIL", f"{place} answers 200: the agent would take this host for EC2", advice)
        return Finding("ok", f"{place} answers {status or 'nothing'}")

    def _egress(self, found: OnPremises | None) -> Iterator[Finding]:
        if found is None:
            yield Finding("warn", "egress: not tried, for want of a region")
            return
        settings = agent.settings(self.host)
        for service in egress.SERVICES:
            try:
                way = egress.way(service, found.region, settings)
                egress.reach(way)
            except Unreachable as error:
                yield Finding("FAIL", f"egress: {service}: {error.message}", error.advice)
            else:
                yield Finding("ok", f"egress: {service}: {way}")

    def _running(self, processes: Mapping[int, agent.User]) -> Finding:
        if not processes:
            return Finding("FAIL", "agent: is not running", "systemctl enable --now codedeploy-agent")
        first = min(processes)
        return Finding("ok", f"agent: process {first}, as {processes[first]}")
