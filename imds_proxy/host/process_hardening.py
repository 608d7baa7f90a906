"""Keep the memory of this process from core dumps, from other processes of the same user, and from swap.

prctl(2) PR_SET_DUMPABLE, setrlimit(2) RLIMIT_CORE, mlockall(2). A program that this process starts gets none of it but
the limit of 0 for core dumps, because execve(2) sets the rest back.
"""

import logging
import os
import platform
import resource
from typing import Any, Final

log = logging.getLogger(__name__)

_PR_SET_DUMPABLE: Final = 4
# MCL_CURRENT | MCL_FUTURE | MCL_ONFAULT; these machines have numbers of their own, see asm/mman.h of each.
_OTHER_NUMBERS: Final = ("ppc", "sparc", "alpha")
_LOCK_WHAT_IS_TOUCHED: Final = 0xE000 if platform.machine().startswith(_OTHER_NUMBERS) else 0x7


def harden() -> None:
    """Call once, before the first secret is read. What fails is a line in the log; the process goes on without it.

    Once it is done, `/proc/PID/mem`, `environ` and `maps` belong to root, no debugger of this user can attach, and a
    crash leaves no core, whatever `/proc/sys/kernel/core_pattern` says. Memory is locked, as it is touched, only where
    RLIMIT_MEMLOCK is unlimited: under any other limit the allocation that reaches it would fail.
    """
    try:
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    except (OSError, ValueError) as error:
        _report("the limit of core dumps cannot be set", error)
    try:
        libc = _libc()
        _call(libc.prctl, _PR_SET_DUMPABLE, 0, 0, 0, 0)
    except (ImportError, AttributeError, MemoryError, OSError) as error:
        _report("core dumps and processes of the same user can read this process's memory", error)
        return
    if resource.getrlimit(resource.RLIMIT_MEMLOCK)[0] == resource.RLIM_INFINITY:
        _lock_memory(libc)


def _lock_memory(libc: Any) -> None:
    try:
        _call(libc.mlockall, _LOCK_WHAT_IS_TOUCHED)
    except (AttributeError, OSError) as error:  # a libc without it, a kernel before 4.4, or a sandbox
        _report("memory is not locked: it can be swapped out", error)


def _libc() -> Any:
    import ctypes  # noqa: PLC0415 - some builds of Python lack it, and some sandboxes refuse what its import does

    return ctypes.CDLL(None, use_errno=True)


def _call(function: Any, *arguments: int) -> None:
    """A system call of libc; raises OSError when it fails."""
    import ctypes  # noqa: PLC0415 - as above

    # The kernel takes each as a whole register, and the upper half of an int's is not defined.
    function.argtypes = [ctypes.c_int, *[ctypes.c_ulong] * (len(arguments) - 1)]
    if function(*arguments) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def _report(what: str, error: Exception) -> None:
    log.warning(what, extra={"error": getattr(error, "strerror", None) or type(error).__name__})
