"""Who may do what with a file, in the config's words and in the system's numbers."""

import grp
import pwd
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from imds_proxy.errors import FileError
from imds_proxy.host.atomic_file import Access

_LARGEST_ID: Final = 2**32 - 2  # the one after it means "leave it" to chown


@dataclass(frozen=True, slots=True)
class NamedAccess:
    """Who may do what with a file; owner and group by name or number, None: whoever this process is."""

    mode: int = 0o600
    owner: str | None = None
    group: str | None = None

    def numbers(self) -> Access:
        """The same by number; raises FileError for a user or group that is not there."""
        owner = _number(self.owner, "owner", lambda name: pwd.getpwnam(name).pw_uid)
        group = _number(self.group, "group", lambda name: grp.getgrnam(name).gr_gid)
        return Access(self.mode, owner, group)


def _number(name: str | None, key: str, look_up: Callable[[str], int]) -> int:
    if name is None:
        return -1
    try:
        number = int(name) if name.isdecimal() else look_up(name)
    except KeyError:
        kind = "user" if key == "owner" else "group"
        raise FileError(
            f'cannot be written: there is no {kind} "{name}" on this host', f"create it, or correct {key}"
        ) from None
    if number > _LARGEST_ID:
        raise FileError(f"cannot be written: {number} is no number of an {key}", f"correct {key}")
    return number
