"""Open files: the limit of this process, how it is shared out, and what is said when none is left.

A connection is a file. Where clients may take them all, no renewal has a socket for its call and no program a pipe.
"""

import errno
import os
import resource
import socket
from dataclasses import dataclass
from typing import Final

_NO_HARD_LIMIT: Final = 1 << 20
"""What a kernel allows one process unless `fs.nr_open` says otherwise."""
_FOR_PROGRAMS: Final = 1024
"""select(2) breaks on a higher number, which is why systemd starts every service with this soft limit."""

_MOST_DATA_PLANE: Final = 4096
_MOST_CONTROL_PLANE: Final = 128
_LEAST_CONTROL_PLANE: Final = 4
_LEAST_RESERVED: Final = 40
"""The daemon itself has some 20 open; a renewal takes a few more, a command three."""


@dataclass(frozen=True, slots=True)
class Shares:
    """How many files each part may have open; together no more than the limit, unless that is too low for any use.

    Args:
        data_plane: Connections of the data plane's clients.
        control_plane: Connections of the control plane's clients.
        reserved: For renewals, commands, state, the audit, files and the listeners themselves. Not a cap.
    """

    data_plane: int
    control_plane: int
    reserved: int


def raise_limit() -> int:
    """Raise the soft limit of this process to the hard one; the number of files that may be open then."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _NO_HARD_LIMIT if hard == resource.RLIM_INFINITY else hard
    if soft != resource.RLIM_INFINITY and soft < wanted:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        except (OSError, ValueError):  # beyond fs.nr_open: what is in force stays
            return soft
    return wanted


def limit() -> int:
    """The number of files that this process may have open at this time."""
    soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return _NO_HARD_LIMIT if soft == resource.RLIM_INFINITY else soft


def shares(available: int) -> Shares:
    """Share out a limit: three quarters to the data plane, a sixteenth to the control plane, and the rest reserved.

    Args:
        available: Files that may be open; 1024 gives 768, 64 and 192. Where they are few, the data plane has less.
    """
    control_plane = min(max(available // 16, _LEAST_CONTROL_PLANE), _MOST_CONTROL_PLANE)
    data_plane = min(max(available * 3 // 4, 1), max(available - control_plane - _LEAST_RESERVED, 1), _MOST_DATA_PLANE)
    return Shares(data_plane, control_plane, max(available - data_plane - control_plane, 0))


def limit_program(pid: int) -> None:
    """Give a program that was just started the soft limit that programs expect, instead of this process's own.

    Best effort: a program that runs as another user keeps what it inherited, and so does one whose first instruction is
    to look.
    """
    try:
        hard = resource.prlimit(pid, resource.RLIMIT_NOFILE)[1]
        soft = _FOR_PROGRAMS if hard == resource.RLIM_INFINITY else min(_FOR_PROGRAMS, hard)
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (soft, hard))
    except (OSError, ValueError):
        return


def exhausted(error: BaseException | None) -> tuple[str, str] | None:
    """What to say of an error that there are no more files to be had, and the advice; None for any other error.

    Libraries wrap it: what it was raised from counts too. A name that is not found may be one, because the resolver
    does not say so.
    """
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        number = _none_left() if isinstance(error, socket.gaierror) else getattr(error, "errno", None)
        if (said := _said(number)) is not None:
            return said
        error = _cause(error)
    return None


def shortage() -> tuple[str, str] | None:
    """The same if no file can be opened at this moment: for what passes over a file that it cannot open."""
    return _said(_none_left())


def _said(number: int | None) -> tuple[str, str] | None:
    if number not in _WORDS:
        return None
    what, advice = _WORDS[number]
    return what.format(limit=limit()), advice


def _cause(error: BaseException) -> BaseException | None:
    """What an error was made of: by Python, by aiohttp or by botocore."""
    given = getattr(error, "kwargs", None)
    causes = getattr(error, "os_error", None), given.get("error") if isinstance(given, dict) else None
    return next((cause for cause in causes if isinstance(cause, BaseException)), error.__cause__ or error.__context__)


def _none_left() -> int | None:
    """The system's number of the error if no file can be opened at this moment."""
    try:
        os.close(os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC))
    except OSError as error:
        return error.errno
    return None


_WORDS: Final = {
    errno.EMFILE: (
        "this process has too many open files (limit {limit})",
        "raise LimitNOFILE= of the service, or ulimit -n; it is retried",
    ),
    errno.ENFILE: (
        "this host has too many open files",
        "raise the sysctl fs.file-max, or see which process has them: lsof; it is retried",
    ),
}
