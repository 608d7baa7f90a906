"""How the daemon is: for `/status.json`, `/readyz` and systemd. No secret, ever."""

from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

from imds_proxy import __version__
from imds_proxy.admin.viewer import EVERYTHING, View
from imds_proxy.callers.grants import describe
from imds_proxy.config.keep_mode import Need
from imds_proxy.config.model import Config
from imds_proxy.credentials import timestamp
from imds_proxy.output_files.all_output_files import Outputs
from imds_proxy.renewal.attempt import Failure
from imds_proxy.renewal.caller_sessions import TaggedSessions
from imds_proxy.renewal.keeper import Keeper
from imds_proxy.renewal.roles import Role, Roles
from imds_proxy.telemetry.history import DAY
from imds_proxy.telemetry.measured import Measured
from imds_proxy.telemetry.stats import ReloadStats, RequestStats

if TYPE_CHECKING:
    from imds_proxy.output_files.output_file import Output


class Status:
    """A view of the running daemon.

    Args:
        measured: What is counted.
        roles: What is kept.
        outputs: The files that are kept fresh.
        config: The present one.
    """

    def __init__(self, measured: Measured, roles: Roles, outputs: Outputs, config: Callable[[], Config]) -> None:
        self._measured = measured
        self._roles = roles
        self._outputs = outputs
        self._config = config
        self._clock = measured.clock
        self._started = self._clock.wall()

    def document(self, view: View = EVERYTHING, roles: Iterable[dict[str, Any]] | None = None) -> dict[str, Any]:
        """The whole of `/status.json`.

        Args:
            view: What its reader sees.
            roles: What `roles` gives for that view; left out: it is asked for here.
        """
        measured, listeners = self._measured, self._measured.listeners()
        down = [entry for entry, address in {**listeners, **measured.control_plane()}.items() if address is None]
        document = {
            "limited": not view.everything,
            "version": __version__,
            "started": timestamp(self._started),
            "time": timestamp(self._clock.wall()),
            "ready": self.is_ready(),
            "clock_skew_seconds": round(self._clock.skew),
            "listeners": [address for address in listeners.values() if address is not None],
            "listeners_down": down,
            "requests": measured.requests.answers.total(),
            "answers": _answers(measured.requests),
            "limited_requests": measured.requests.limited.total(),
            "connections": measured.requests.connections,
            "config": _loaded(measured.reloads, view),
            "roles": list(self.roles(view) if roles is None else roles),
            "files": [_file(output) for output in self._outputs.all()] if view.everything else [],
        }
        if view.everything:
            document |= {"base_key": self._base_key(), "audit_write_failures": measured.requests.audit_write_failures}
        return document

    def roles(self, view: View = EVERYTHING) -> Iterator[dict[str, Any]]:
        """The roles that are seen, one by one: a thousand of them take their time."""
        for name, role in self._roles.items():
            if view.shows(name):
                yield self._role(name, role, view)

    def is_served(self, name: str) -> bool:
        """Whether a role is handed out to somebody."""
        return self._roles.is_given(name)

    def is_ready(self) -> bool:
        """Whether every served role has live credentials and every listener is open.

        A listener of IPv6 does not count on a host without IPv6: nobody could ask there.
        """
        return self._roles.is_ready() and not self._measured.not_open()

    def readiness(self, view: View) -> tuple[bool, dict[str, Any]]:
        """What `is_ready` says, and as much of why not as is seen."""
        ready, not_open = self.is_ready(), self._measured.not_open()
        body: dict[str, Any] = {"ready": ready}
        if view.documents:
            body["missing"] = self.missing(view)
            if not_open:
                body["listeners_down"] = not_open
        return ready, body if view.everything else body | {"limited": True}

    def missing(self, view: View) -> dict[str, str]:
        """As `not_ready`, of the roles that are seen; without error texts where not everything is."""
        if view.everything:
            return self.not_ready()
        return {name: self._reason(name) for name in self.not_ready() if view.shows(name)}

    def not_ready(self) -> dict[str, str]:
        """Why each served role without live credentials has none, by its name; not where nobody asks for any."""
        return {
            name: keeper.failure.message if keeper.failure else "the first credentials are being obtained"
            for name, keeper in self._roles.served().items()
            if keeper.live() is None and not keeper.idle
        }

    def summary(self) -> str:
        """One line, for systemctl status, which shows it to every user: no role's name and no error text.

        It begins with what `is_ready` lacks, if anything: what is served besides is served all the same.
        """
        parts = []
        if missing := self.not_ready():
            reasons = ", ".join(sorted({self._reason(name) for name in missing}))
            parts.append(f"no credentials for {len(missing)} role(s): {reasons}")
        if not_open := self._measured.not_open():
            parts.append(f"{len(not_open)} listener(s) not open")
        more = ["imds-proxy status says more"] * bool(parts)
        live = [keeper.live() for keeper in self._roles.served().values() if not keeper.idle]
        ends = [session.credentials.expiration for session in live if session is not None]
        of_pods = [session for sessions in self._roles.tagged().values() for session in sessions.held()]
        ends += [session.expiration for session in of_pods if session is not None]
        if ends:
            parts.append(f"serving {len(ends)} session(s), the first expires at {timestamp(min(ends))}")
        return "; ".join([*parts, *more]) or "serving on demand; nobody asks at this time"

    def _base_key(self) -> dict[str, Any] | None:
        """The host's own key; None where it does not rotate."""
        if (stats := self._measured.renewals.base_key) is None:
            return None
        return {"created": timestamp(stats.created) if stats.created else None, "rotations": dict(stats.outcomes)}

    def _granted(self, name: str) -> list[str]:
        """Who may have a role: one line for each grant of it."""
        config = self._config()
        if not config.grants:
            return ["every caller" if name == self._roles.default else "who shows its token"] * self.is_served(name)
        return [describe(grant) for grant in config.grants if grant.role == name]

    def _history(self, name: str) -> list[dict[str, Any]]:
        """The attempts of the last day, oldest first; those that ended alike, one after the other, are one entry."""
        spans = self._measured.renewals.history[name].since(self._clock.now() - DAY)
        return [
            {"from": timestamp(span.first), "to": timestamp(span.last), "outcome": span.outcome, "attempts": span.count}
            for span in spans
        ]

    def _reason(self, name: str) -> str:
        """In one word of the metrics' why a role has no credentials."""
        failure = self._roles[name].keeper.failure
        return failure.outcome if failure else "pending"

    def _role(self, name: str, role: Role, view: View) -> dict[str, Any]:
        """One role: what it holds, until when, and what is wrong, if anything."""
        keeper, credentials, sessions = role.keeper, role.keeper.last, role.sessions
        waits = role.plan.need is Need.NONE or keeper.idle
        failure = _failure(keeper.failure) if keeper.failure else None
        if sessions is not None:
            failure = _failure_of_a_session(sessions)
        parent = role.settings.parent
        return {
            "role": name,
            "state": _state(role),
            "source": role.settings.source,
            "from": parent if parent is None or view.shows(parent) else None,
            "role_arn": role.settings.role_arn,
            "served": self._roles.is_given(name),
            "on_demand": keeper.demand is not None,
            "sessions": len(sessions) if sessions is not None else None,
            "default": name == self._roles.default,
            **_certificate(keeper, self._clock.now()),
            "session_arn": credentials.session_arn if credentials else None,
            "key": f"…{credentials.key_hint}" if credentials else None,
            "obtained": timestamp(credentials.obtained) if credentials else None,
            "expires": timestamp(credentials.expiration) if credentials else None,
            "due": timestamp(keeper.due) if not waits else None,
            "seconds_left": max(0, int(credentials.expiration - self._clock.now())) if credentials else 0,
            "next_attempt": None if waits else timestamp(keeper.next_attempt),
            "failure": failure if view.everything or failure is None else _outcome(failure),
            "grants": self._granted(name) if view.everything else None,
            "history": self._history(name),
        }


def _answers(requests: RequestStats) -> list[dict[str, Any]]:
    """What the data plane answered; status 0: the connection was closed without an answer."""
    return [
        {"protocol": protocol, "document": document, "status": status, "count": count}
        for (protocol, document, status), count in sorted(requests.answers.items())
    ]


def _loaded(reloads: ReloadStats, view: View) -> dict[str, Any]:
    """When the config in use was read, and why the last reload changed nothing, if so."""
    error = reloads.error
    shown = error if view.everything or error is None else "the last reload failed"
    return {"loaded": timestamp(reloads.loaded), "error": shown}


def _certificate(keeper: Keeper, now: float) -> dict[str, Any]:
    """When the certificate of a role ends, and whether a new one should be in use by now."""
    if (certificate := keeper.certificate) is None or not certificate.expiration:
        return {"certificate_expires": None, "certificate_late": False}
    return {"certificate_expires": timestamp(certificate.expiration), "certificate_late": certificate.is_late(now)}


def _state(role: Role) -> str:
    """What becomes of a role's credentials.

    `ok`, `failing` (live credentials, the last renewal failed), `expired`, `pending` (never had any), `idle` (on
    demand, and nobody asks), or `unused` (nobody may have it, no file holds it, and no such role is assumed from it).
    """
    if role.plan.need is Need.NONE:
        return "unused"
    if role.sessions is not None:
        return ("failing" if role.sessions.failure() else "ok") if len(role.sessions) else "idle"
    return "idle" if role.keeper.idle else _state_of(role.keeper)


def _state_of(keeper: Keeper) -> str:
    if keeper.live():
        return "failing" if keeper.failure else "ok"
    return "expired" if keeper.last else "pending"


def _failure_of_a_session(sessions: TaggedSessions) -> dict[str, str] | None:
    """The first, and whose session it is."""
    if (found := sessions.failure()) is None:
        return None
    account, failure = found
    return _failure(failure) | {"service_account": str(account), "pod": account.pod}


def _file(output: "Output") -> dict[str, Any]:
    """One file: whose credentials it holds, since when, and what is wrong, if anything."""
    failure, written = output.failure, output.stats.written
    return {
        "path": str(output.path),
        "format": output.entries[0].format,
        "roles": [entry.role for entry in output.entries],
        "written": timestamp(written) if written else None,
        "failure": {"message": failure.message, "advice": failure.advice, "at": timestamp(failure.at)}
        if failure
        else None,
        "warnings": output.warnings,
    }


def _outcome(failure: dict[str, str]) -> dict[str, str]:
    """A failure without its texts, and without the service account whose session it is."""
    return {"outcome": failure["outcome"], "message": "", "advice": "", "at": failure["at"]}


def _failure(failure: Failure) -> dict[str, str]:
    return {
        "outcome": failure.outcome,
        "message": failure.message,
        "advice": failure.advice,
        "at": timestamp(failure.at),
    }
