"""What a status document says of a host beside its roles, for the view of `status --watch`. Pure."""

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any, Final

from imds_proxy.cli.status import duration
from imds_proxy.cli.status_facts import Level, certificates, clock_off, daemon_time, moment

_LISTED: Final = 3
"""Well things of a kind that are named; the rest are counted."""
_LIMITED: Final = (
    "limited to this user's roles; root, the daemon's user and those in [admin] allowed_users see everything"
)


@dataclass(frozen=True, slots=True)
class Fact:
    """One line of the host.

    Args:
        label: What it is about.
        text: What there is to say.
        level: How much that asks for attention.
        advice: What to do about it.
    """

    label: str
    text: str
    level: Level = Level.WELL
    advice: str = ""


def facts(document: dict[str, Any], elapsed: float) -> list[Fact]:
    """All there is to say."""
    now = daemon_time(document, elapsed)
    found = [*_listed(_files(document, now)), *_listed(_certificates(document, elapsed))]
    found += [*_base_key(document, now), *_listeners(document), *_clock(document), *_config(document, now)]
    found += [Fact("requests", _requests(document)), *_audit(document)]
    return [*found, Fact("this view", _LIMITED)] if document["limited"] else found


def _listed(found: Iterable[Fact]) -> Iterator[Fact]:
    """The troubled ones, a few of the others, and how many more there are."""
    ranked = sorted(found, key=lambda fact: -fact.level)
    shown = max(sum(bool(fact.level) for fact in ranked), _LISTED)
    for number, fact in enumerate(ranked[:shown]):
        yield fact if number == 0 else replace(fact, label="")
    if len(ranked) > shown:
        yield Fact("", f"… and {len(ranked) - shown:,} more, all well")


def _files(document: dict[str, Any], now: float) -> Iterator[Fact]:
    for file in document["files"]:
        written, failure = moment(file["written"]), file["failure"]
        since = f"written {duration(int(now - written))} ago" if written else "never written"
        if failure:
            yield Fact("files", f"{failure['message']} ({since})", Level.TROUBLE, failure["advice"])
        else:
            yield Fact("files", f"{file['path']} ({file['format']} of {', '.join(file['roles'])}), {since}")
        for warning in file["warnings"]:
            yield Fact("files", f"{file['path']}: {warning}", Level.ATTENTION)


def _certificates(document: dict[str, Any], elapsed: float) -> Iterator[Fact]:
    for level, role, left in certificates(document, elapsed):
        when = f"ends in {duration(int(left))}" if left > 0 else "has ended"
        yield Fact(
            "certificates", f"of {role}: {when}", level, "replace it: nothing is renewed after its end" if level else ""
        )


def _base_key(document: dict[str, Any], now: float) -> Iterator[Fact]:
    if (key := document["base_key"]) is None:
        return
    created = moment(key.get("created"))
    made = f"made {duration(int(now - created))} ago" if created else "age not known yet"
    outcomes = dict(key.get("rotations") or {})
    failed = sum(count for outcome, count in outcomes.items() if outcome != "success")
    counts = f", {outcomes.get('success', 0)} rotation(s)" + (f", {failed} failed" if failed else "")
    yield Fact("base key", made + counts, Level.ATTENTION if failed else Level.WELL)


def _listeners(document: dict[str, Any]) -> Iterator[Fact]:
    if down := document["listeners_down"]:
        yield Fact("listeners", f"not open: {', '.join(down)}", Level.TROUBLE, "the log says why; it is tried again")
    if opened := document["listeners"]:
        yield Fact("" if down else "listeners", f"open: {', '.join(opened)}")


def _clock(document: dict[str, Any]) -> Iterator[Fact]:
    if off := clock_off(document):
        yield Fact("clock", off, Level.ATTENTION, "set this host's clock (chronyc makestep)")
    else:
        skew = abs(int(document["clock_skew_seconds"]))
        yield Fact("clock", f"within {skew} s of AWS's" if skew else "agrees with AWS's")


def _config(document: dict[str, Any], now: float) -> Iterator[Fact]:
    config = document["config"]
    loaded = moment(config["loaded"])
    since = f"read {duration(int(now - loaded))} ago" if loaded else ""
    if config["error"]:
        used = f" (in use: the one {since})" if since else ""
        yield Fact("config", f"the last reload changed nothing: {config['error']}{used}", Level.ATTENTION)
    elif since:
        yield Fact("config", since)


def _requests(document: dict[str, Any]) -> str:
    """Counts by protocol and status."""
    protocols: dict[str, Counter[str]] = {}
    for answered in document["answers"]:
        statuses = protocols.setdefault(str(answered["protocol"]), Counter())
        statuses[str(answered["status"] or "closed")] += answered["count"]
    counted = [f"{protocol} {_counts(statuses)}" for protocol, statuses in sorted(protocols.items())]
    text = "; ".join([f"{document['requests']:,}", *counted])
    limited = f"; {document['limited_requests']:,} over the rate limit" if document["limited_requests"] else ""
    return f"{text}{limited}; {document['connections']:,} connections"


def _counts(statuses: Counter[str]) -> str:
    return ", ".join(f"{status}: {count:,}" for status, count in sorted(statuses.items()))


def _audit(document: dict[str, Any]) -> Iterator[Fact]:
    if failures := document["audit_write_failures"]:
        yield Fact("audit", f"its file could not be written {failures} time(s)", Level.ATTENTION)
