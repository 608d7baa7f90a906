"""The roles in the view of `status --watch`: a row, and as much more of each as there is room for. Pure."""

from collections.abc import Iterator, Sequence
from enum import IntEnum
from typing import Any, Final

from rich.text import Text

from imds_proxy.cli.status import duration
from imds_proxy.cli.status_facts import Level, RoleNow, clock_time, daemon_time, moment, timeline
from imds_proxy.cli.status_page import Page
from imds_proxy.cli.status_symbols import OUTCOMES, STATES, STYLES

_WIDE: Final = 130
"""Columns from which the last day stands beside a role, not under it."""
_NARROW: Final = 66
"""Columns below which a day has 24 columns, not 48."""
_FIXED: Final = 33
"""Columns of a row beside name, bar and day."""
_SHORTEST_BAR: Final = 6
_LONGEST_BAR: Final = 40


class Detail(IntEnum):
    """How much is shown of a role beside its row, and the last error with what to do."""

    NOTHING = 0
    DAY = 1
    ALL = 2


class Table:
    """The roles on a page.

    Args:
        page: Where they are to stand.
        document: Complete.
        elapsed: Seconds since that was made.
        roles: In the order in which they are shown.
    """

    def __init__(self, page: Page, document: dict[str, Any], elapsed: float, roles: Sequence[RoleNow]) -> None:
        self._page, self._roles, self._symbols = page, roles, page.symbols
        self._now, self._began = daemon_time(document, elapsed), moment(document["started"])
        longest = max((len(_title(role)) for role in roles[: page.height]), default=0)
        self._name = min(max(longest, len("ROLE")), max(page.width // 4, 12))
        self._columns = 48 if page.width >= _NARROW else 24
        self._beside = page.width >= _WIDE
        left = page.width - self._name - _FIXED - (self._columns + 2 if self._beside else 0)
        self._bar = min(max(left, _SHORTEST_BAR), _LONGEST_BAR)

    def lines(self, well: Detail, troubled: Detail, room: int) -> list[Text] | None:
        """All roles, those that are well in one detail and the troubled ones in another; None: there is no room."""
        lines = self._head()
        has_days = self._beside or well or (troubled and any(role.level for role in self._roles))
        legend = [Text()] * (well == Detail.ALL) + (self._legend() if has_days else [])
        for number, role in enumerate(self._roles):
            lines += [Text()] * (number > 0 and well == Detail.ALL)
            lines += self._role(role, troubled if role.level else well)
            if len(lines) + len(legend) > room:
                return None
        return [*lines, *legend] if self._roles else []

    def cut(self, room: int) -> list[Text]:
        """As many roles as fit, with one line for an error, and how many more there are."""
        lines = self._head()
        for number, role in enumerate(self._roles):
            block = [self._row(role), *(Text.assemble("  ", error) for error in self._error(role))]
            if len(lines) + len(block) + 1 > room:
                return [*lines, self._rest(self._roles[number:])]
            lines += block
        return lines

    def _rest(self, roles: Sequence[RoleNow]) -> Text:
        if troubled := sum(bool(role.level) for role in roles):
            return Text(f"  … and {troubled:,} more in trouble, {len(roles) - troubled:,} well", "bold red")
        return Text(f"  … and {len(roles):,} more, all well", "dim")

    def _head(self) -> list[Text]:
        day = "LAST 24 H" if self._beside else ""
        life = f"LIFE, {self._symbols.mark} next renewal"
        life = life if len(life) <= self._bar else "LIFE"
        head = f"  {'ROLE':<{self._name}} STATE    {life:<{self._bar}}    LEFT  {'RENEWAL':<10}  {day}"
        return [Text(head.rstrip(), "dim")]

    def _role(self, role: RoleNow, detail: Detail) -> Iterator[Text]:
        yield self._row(role)
        if detail >= Detail.DAY and not self._beside:
            yield Text.assemble(("  24 h ago ", "dim"), self._day(role), (" now", "dim"))
        if detail >= Detail.ALL:
            yield from self._origin(role)
        yield from self._failure(role)

    def _row(self, role: RoleNow) -> Text:
        """State, life and next renewal on one line."""
        style = _style(role)
        name = Text(_title(role), "bold")
        name.truncate(self._name, overflow="ellipsis", pad=True)
        row = Text.assemble((f"{self._symbols.levels[role.level]} ", f"bold {STYLES[role.level]}"), name)
        row.append(f" {role.state:<8.8} ", style).append_text(self._life(role, style))
        row.append(f" {_left(role):>7}  ", "bold").append(f"{_renewal(role):<10}")
        return row.append("  ").append_text(self._day(role)) if self._beside else row

    def _life(self, role: RoleNow, style: str) -> Text:
        """A bar that drains, with a mark where the next renewal is planned."""
        if role.left is None or role.life <= 0:
            return Text(" " * self._bar)
        full = min(-int(-role.left / role.life * self._bar // 1), self._bar)  # rounded up: alive is never empty
        bar = Text(self._symbols.full * full, style).append(self._symbols.empty * (self._bar - full), "dim")
        if role.next_in is None or not 0 < role.next_in < role.left:
            return bar
        at = min(int((role.left - role.next_in) / role.life * self._bar), self._bar - 1)
        return Text.assemble(bar[:at], (self._symbols.mark, "bold"), bar[at + 1 :])

    def _day(self, role: RoleNow) -> Text:
        """The outcomes of the last day, the newest on the right."""
        day = Text()
        for outcome in timeline(role.told["history"], self._now, self._began, self._columns):
            if outcome:
                day.append(*self._of_outcome(outcome))
            else:
                day.append(" " if outcome is None else self._symbols.nothing, "dim")
        return day

    def _of_outcome(self, outcome: str) -> tuple[str, str]:
        """Its symbol and style."""
        letter, style = OUTCOMES.get(outcome, ("?", "bold red"))
        return letter or self._symbols.success, style

    def _legend(self) -> list[Text]:
        legend = Text.assemble((f"{24 * 60 // self._columns} min a column:", "dim"))
        for outcome in OUTCOMES:
            word = "renewed" if outcome == "success" else outcome
            legend.append("  ").append(*self._of_outcome(outcome)).append(f"={word}", "dim")
        return [Text.assemble("  ", line) for line in legend.wrap(self._page.console, self._page.width - 2)]

    def _origin(self, role: RoleNow) -> Iterator[Text]:
        """Where it comes from, what it is, and who may have it."""
        told, arn = role.told, role.told["session_arn"] or role.told["role_arn"]
        pieces = [f"{told['source']} from {told['from']}" if told["from"] else str(told["source"])]
        pieces += [f"key {told['key']}"] if told["key"] else []
        pieces += ["the default role"] if told["default"] else []
        pieces += ["on demand"] if told["on_demand"] else []
        pieces += [f"{told['sessions']} session(s) of service accounts"] if told["sessions"] is not None else []
        yield from self._page.wrapped(", ".join(pieces) + (f": {arn}" if arn else ""), 2)
        if told["grants"] is not None:
            yield from self._page.wrapped(f"given to {'; '.join(told['grants']) or 'nobody'}", 2)

    def _failure(self, role: RoleNow) -> Iterator[Text]:
        """Why the last renewal failed, and what to do."""
        for error in self._error(role):
            yield from self._page.wrapped(error, 2)
            yield from self._page.advice(role.told["failure"]["advice"], 2)

    def _error(self, role: RoleNow) -> Iterator[Text]:
        """Why the last renewal failed, on one line of any width; none if it did not."""
        if not (failure := role.told["failure"]):
            return
        whose = f" for {failure['service_account']}" if "service_account" in failure else ""
        at = moment(failure["at"])
        when = f" at {clock_time(at) if at else failure['at']}"
        said = f": {failure['message']}" if failure["message"] else ""
        yield Text.assemble((f"{failure['outcome']}{whose}", f"bold {STYLES[role.level]}"), when, said)


def _title(role: RoleNow) -> str:
    return f"{role.name} *" if role.told["default"] else role.name


def _style(role: RoleNow) -> str:
    """Of its state and its bar."""
    return STYLES[role.level] if role.level else STATES.get(role.state, STYLES[Level.WELL])


def _left(role: RoleNow) -> str:
    return "-" if role.left is None else duration(int(role.left))


def _renewal(role: RoleNow) -> str:
    if role.next_in is None:
        return "-"
    if role.next_in >= 1:
        return f"in {duration(int(role.next_in))}"
    return "late" if role.is_late else "now"
