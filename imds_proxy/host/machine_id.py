"""The machine id, and whether it identifies this machine for good.

"machine-id(5)" and "Container Interface" of systemd.

In: files, the environment. Out: 32 hexadecimal digits, or None. No errors: what cannot be read is not there.
"""

import os
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Final

MACHINE_ID_FILES: Final = (Path("/etc/machine-id"), Path("/var/lib/dbus/machine-id"))

_MACHINE_ID: Final = re.compile(r"(?!0{32})[0-9a-f]{32}")
# Docker, Podman, and what systemd notes when it is started in a container.
_CONTAINER_FILES: Final = ("/.dockerenv", "/run/.containerenv", "/run/systemd/container")
# Set by Podman, LXC and systemd-nspawn, and by Kubernetes in every pod.
_CONTAINER_VARIABLES: Final = ("container", "KUBERNETES_SERVICE_HOST")
# What systemd puts over /etc/machine-id where that cannot be written: another one at each boot.
_OF_THIS_BOOT: Final = Path("/run/machine-id")


def read_machine_id(paths: Iterable[Path] = MACHINE_ID_FILES) -> str | None:
    """The content of the first file that has any, without white space; None where there is none."""
    for path in paths:
        try:
            if identity := path.read_text("ascii").strip():
                return identity
        except (OSError, UnicodeDecodeError):
            continue
    return None


def is_of_this_boot() -> bool:
    """Whether the machine id is one that systemd made for this boot alone."""
    try:
        return os.path.samefile(_OF_THIS_BOOT, MACHINE_ID_FILES[0])  # noqa: PTH121 - mounted there, not linked
    except OSError:
        return False


def stable_machine_id(
    machine_id: str | None, environment: Mapping[str, str], exists: Callable[[str], bool], *, of_this_boot: bool
) -> str | None:
    """The machine id, if it will be the same after a reboot and belongs to no other machine; else None.

    In a container it is the image's (the same in each), the host's, or new at each start: none of these identifies it.
    "uninitialized", which an image has before its first boot, is no id.

    Args:
        machine_id: What `read_machine_id` gives.
        environment: Of this process.
        exists: Whether there is a file of this path.
        of_this_boot: As `is_of_this_boot` says.
    """
    if machine_id is None or not _MACHINE_ID.fullmatch(machine_id):
        return None
    in_container = any(map(exists, _CONTAINER_FILES)) or any(environment.get(name) for name in _CONTAINER_VARIABLES)
    return None if in_container or of_this_boot else machine_id
