"""What one line of the audit says: values in, a log record out. Never a secret or a token."""

import logging
import re
from collections import Counter
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Final, Protocol

from imds_proxy.audit.budget import Folded

log = logging.getLogger("imds_proxy.audit")

ROLE_LENGTH: Final = 64
USER_AGENT_LENGTH: Final = 128
_REASON_LENGTH: Final = 1024  # an ARN may have 600 characters, and granted roles may be many
_WORD_LENGTH: Final = 256  # what the host and the config say: names, addresses, paths
_MOST_NAMED: Final = 10  # callers and roles in a line for many
_UNSAFE = re.compile("[^ -~]")

OK: Final = 200
_NO_ANSWER: Final = 0


class ServiceAccount(Protocol):
    """A Kubernetes service account; its text is `NAMESPACE/NAME`."""

    @property
    def pod(self) -> str: ...  # noqa: D102 - the names say it


class Who(Protocol):
    """Who asked, as far as a line tells."""

    @property
    def address(self) -> str: ...  # noqa: D102 - the same
    @property
    def listener(self) -> str: ...  # noqa: D102
    @property
    def uid(self) -> int | None: ...  # noqa: D102
    @property
    def user(self) -> str | None: ...  # noqa: D102
    @property
    def unit(self) -> str | None: ...  # noqa: D102
    @property
    def service_account(self) -> ServiceAccount | None: ...  # noqa: D102
    @property
    def token_file(self) -> str | None: ...  # noqa: D102


class Process(Protocol):
    """A client's process."""

    @property
    def pid(self) -> int: ...  # noqa: D102
    @property
    def command(self) -> str: ...  # noqa: D102


@dataclass(slots=True)
class Burst:
    """Answers of one kind to one caller, from the first one on.

    Args:
        began: When the first was given, seconds since the epoch.
        who: Who asked.
        role: In a client's words.
        document: What was asked for.
        protocol: By which way.
        status: Of the answer; 0: the connection was closed without one.
        key: The last four characters of the key id; "" where none was handed out.
        reason: Why it was refused; "" where the status says all.
        user_agent: Of the first request, in a client's words.
        process: The search for the first one's process; None where there is nothing to go by.
        count: How many there were.
    """

    began: float
    who: Who
    role: str
    document: str
    protocol: str
    status: int
    key: str
    reason: str
    user_agent: str
    process: Future[Process | None] | None
    count: int = 1


def burst_record(burst: Burst) -> logging.LogRecord:
    """The line of a burst; what is not known of it is left out."""
    who, account, process = burst.who, burst.who.service_account, _found(burst.process)
    fields = {
        "uid": who.uid,
        "user": _safe(who.user, _WORD_LENGTH),
        "unit": _safe(who.unit, _WORD_LENGTH),
        "pid": process.pid if process else None,
        "command": _safe(process.command, _WORD_LENGTH) if process else None,
        "address": _safe(who.address, _WORD_LENGTH),
        "listener": _safe(who.listener, _WORD_LENGTH),
        "service_account": _safe(account, _WORD_LENGTH),
        "pod": _safe(account.pod, _WORD_LENGTH) if account else None,
        "token_file": _safe(who.token_file, _WORD_LENGTH),
        "role": _safe(burst.role, ROLE_LENGTH),
        "document": burst.document,
        "protocol": burst.protocol,
        "status": burst.status if burst.status != _NO_ANSWER else "closed",
        "key": _safe(burst.key[-4:], ROLE_LENGTH),
        "reason": _safe(burst.reason, _REASON_LENGTH),
        "user_agent": _safe(burst.user_agent, USER_AGENT_LENGTH),
        "count": burst.count,
    }
    event = "credentials handed out" if burst.status == OK else "credentials refused"
    return _record(event, burst.began, logging.INFO, {key: value for key, value in fields.items() if value is not None})


def more_record(more: Folded, *, handed_out: bool) -> logging.LogRecord:
    """The line for what came when there were too many different entries to tell each."""
    event = "more credentials handed out" if handed_out else "more credentials refused"
    kinds = "roles" if handed_out else "statuses"
    fields = {"count": more.count, "callers": _counts(more.callers), kinds: _counts(more.kinds)}
    return _record(f"{event}, too many to tell each", more.since, logging.WARNING, fields)


def caller_words(who: Who) -> str:
    """A caller in a few words: where many are counted in one line."""
    if who.service_account is not None:
        return _safe(who.service_account, _WORD_LENGTH) or ""
    return f"uid {who.uid}" if who.uid is not None else _safe(who.address, _WORD_LENGTH) or ""


def loss_record(count: int, at: float) -> logging.LogRecord:
    """The line for those that were lost while the file could not be written."""
    return _record("audit lines lost", at, logging.WARNING, {"count": count})


def tell(record: logging.LogRecord) -> None:
    """A line to the log."""
    if log.isEnabledFor(record.levelno):
        log.handle(record)


def _record(event: str, at: float, level: int, fields: dict[str, object]) -> logging.LogRecord:
    """As the log's own formatters take it; its time is when it happened, not when it is written."""
    head = {"name": log.name, "levelno": level, "levelname": logging.getLevelName(level), "msg": event, "created": at}
    return logging.makeLogRecord(head | fields)


def _counts(counter: Counter[str]) -> str:
    """`deploy: 12, logs: 3`, the ten most frequent ones, and how many more there are."""
    told = [f"{_safe(name, _WORD_LENGTH)}: {count}" for name, count in counter.most_common(_MOST_NAMED)]
    return ", ".join(told + [f"and {len(counter) - len(told)} more"] * (len(counter) > len(told)))


def _found(process: Future[Process | None] | None) -> Process | None:
    """What a search has found by now."""
    if process is None or not process.done() or process.cancelled() or process.exception() is not None:
        return None
    return process.result()


def _safe(value: object, length: int) -> str | None:
    """A word that no terminal and no reader of lines takes for anything else; None for an empty one."""
    return _UNSAFE.sub("?", str(value)[:length]) if value is not None and value != "" else None
