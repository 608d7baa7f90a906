"""The view of `status --watch`: from a status document to lines of a terminal, as many as fit. Pure."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

from rich.console import Console, ConsoleOptions, RenderResult
from rich.text import Text

from imds_proxy.cli.status import duration
from imds_proxy.cli.status_facts import Answer, Level, answer, clock_time, daemon_time, moment, roles_now
from imds_proxy.cli.status_host import Fact, facts
from imds_proxy.cli.status_page import Page
from imds_proxy.cli.status_symbols import ASCII, STYLES, UNICODE
from imds_proxy.cli.status_table import Detail, Table

_UNBOUNDED: Final = 1_000_000
_LABEL: Final = 13
"""Columns for what a line of the host is about."""
_LEAST_ROLES: Final = 6
"""Lines that roles get before what is well of the host does."""


@dataclass(frozen=True, slots=True)
class Seen:
    """What is known of the daemon at this moment.

    Args:
        where: Its address.
        document: The last one, complete; None: there never was one.
        elapsed: Seconds since that was made.
        error: Why there is no newer one; empty: the last question was answered.
        advice: What to do about that.
    """

    where: str
    document: dict[str, Any] | None = None
    elapsed: float = 0.0
    error: str = ""
    advice: str = ""


class View:
    """All of it, for `Console.print` or `Console.update_screen`.

    Args:
        seen: What to show.
        plain: With symbols that every font has.
    """

    def __init__(self, seen: Seen, *, plain: bool = False) -> None:
        self._seen, self._plain = seen, plain

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """No line is wider than the console; where that has a height, there are no more lines."""
        symbols = ASCII if self._plain or options.ascii_only else UNICODE
        page = Page(console, options.max_width, options.height or _UNBOUNDED, symbols)
        for line in _lines(page, self._seen)[: page.height]:
            line.truncate(page.width, overflow="ellipsis")
            yield line


def _lines(page: Page, seen: Seen) -> list[Text]:
    top = [_title(page, seen), Text(), *_silence(page, seen)]
    if seen.document is None:
        return top
    roles = roles_now(seen.document, seen.elapsed)
    top += [*_answer(page, answer(seen.document, roles, seen.elapsed)), Text()]
    table = Table(page, seen.document, seen.elapsed, roles)
    return [*top, *_body(page, table, facts(seen.document, seen.elapsed), page.height - len(top))]


def _body(page: Page, table: Table, told: Sequence[Fact], room: int) -> list[Text]:
    """Roles and host, with as much of each as there is room for; what is in trouble comes before what is well."""
    whole = _host(page, told)
    short = _host(page, [fact for fact in told if fact.level])
    steps = (
        (Detail.ALL, Detail.ALL, whole),
        (Detail.DAY, Detail.ALL, whole),
        (Detail.NOTHING, Detail.ALL, whole),
        (Detail.NOTHING, Detail.ALL, short),
        (Detail.NOTHING, Detail.NOTHING, short),
    )
    for well, troubled, host in steps:
        lines = table.lines(well, troubled, room - len(host))
        if lines is not None:
            return [*lines, *host]
    host = whole if room - len(whole) >= _LEAST_ROLES else short
    return [*table.cut(room - len(host)), *host]


def _title(page: Page, seen: Seen) -> Text:
    """What is looked at, and the daemon's time."""
    title = Text.assemble(("imds-proxy", "bold"))
    if (document := seen.document) is None:
        return title.append(f"  {seen.where}")
    now = daemon_time(document, seen.elapsed)
    title.append(f" {document['version']}  {seen.where}")
    if started := moment(document["started"]):
        title.append(f"  up {duration(int(now - started))}", "dim")
    right = Text(f"Ctrl-C ends  {clock_time(now)}", "dim")
    gap = page.width - title.cell_len - right.cell_len
    return Text.assemble(title, " " * gap, right) if gap > 1 else title


def _silence(page: Page, seen: Seen) -> Iterator[Text]:
    """That the daemon does not answer, what to do, and how old the rest is."""
    if seen.error:
        yield from page.marked(Level.TROUBLE, f"{seen.error[0].upper()}{seen.error[1:]}", "bold red")
        yield from page.advice(seen.advice, 2)
        if seen.document is not None:
            age = f"What is below is {duration(int(seen.elapsed))} old; the daemon is asked again every 2 s."
            yield from page.wrapped(Text(age, "bold"), 2)
            yield Text()
    elif seen.document is None:
        yield Text("The daemon is asked for its status.")


def _answer(page: Page, said: Answer) -> Iterator[Text]:
    yield from page.marked(said.level, said.text, f"bold {STYLES[said.level]}")
    if said.more:
        yield from page.wrapped(said.more, 2)


def _host(page: Page, told: Iterable[Fact]) -> list[Text]:
    """A paragraph for each thing that is not a role, after an empty line."""
    lines = [Text()]
    for fact in told:
        style = STYLES[fact.level] if fact.level else ""
        mark = page.symbols.levels[fact.level] if fact.level else " "
        label = Text.assemble((f"{mark} ", f"bold {style}"), (f"{fact.label:<{_LABEL}}", "dim"))
        lines += page.labelled(label, Text(fact.text, style))
        lines += page.advice(fact.advice, label.cell_len)
    return lines[len(lines) == 1 :]
