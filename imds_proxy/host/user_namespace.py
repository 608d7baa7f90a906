"""Which uid stands for the users that this process's user namespace lacks ("user_namespaces(7)")."""

from pathlib import Path
from typing import Final

_EVERY_USER: Final = ["0", "0", "4294967295"]  # the map of the first user namespace
_OVERFLOW_UID: Final = 65534


def unmapped_uid() -> int | None:
    """The uid that each user shows whom this process's user namespace lacks; None where it lacks none."""
    try:
        if Path("/proc/self/uid_map").read_text("ascii").split() == _EVERY_USER:
            return None
        return int(Path("/proc/sys/kernel/overflowuid").read_text("ascii"))
    except OSError:
        return _OVERFLOW_UID
