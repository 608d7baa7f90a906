"""What to do about a file or folder with the wrong owner or mode: what fits a host, a container, or a pod.

In a pod there is no chmod: owner and mode come from the volume's `defaultMode` and the pod's `fsGroup`. In a container
they are those of the host's folder, in the numbers of the container's user namespace.
"""

import os
from collections.abc import Callable, Mapping
from enum import Enum
from pathlib import Path
from typing import Final

_SERVICE_ACCOUNT: Final = "/run/secrets/kubernetes.io"  # which pods have whose service account is mounted
_CONTAINER_FILES: Final = ("/.dockerenv", "/run/.containerenv")
_AGAIN: Final = "and replace what was in it if others may have read it"


class Place(Enum):
    """Where this process runs."""

    HOST = "host"
    CONTAINER = "container"
    POD = "pod"


def place(environment: Mapping[str, str] = os.environ, exists: Callable[[str], bool] | None = None) -> Place:
    """Where this process runs, by what an engine leaves there.

    Args:
        environment: Of this process.
        exists: Whether there is a file of this path; left out: asks the file system.
    """
    exists = exists or (lambda path: Path(path).exists())
    if environment.get("KUBERNETES_SERVICE_HOST") or exists(_SERVICE_ACCOUNT):
        return Place.POD
    if environment.get("container") or any(map(exists, _CONTAINER_FILES)):
        return Place.CONTAINER
    return Place.HOST


def readable(path: str) -> str:
    """How to let this process read a file that it may not."""
    if place() is Place.POD:
        return f"{_fs_group()}, so that a Secret with defaultMode: 0400 is root's, with mode 0440 and that group"
    how = f"chown it, or chmod u+r {path}, and chmod +x its folders"
    return f"let the user the daemon runs as{_in_numbers()} read it: {how}"


def private(path: str, owner: int) -> str:
    """How to keep a secret in a file from others.

    Args:
        path: Of the file.
        owner: Its uid.
    """
    if place() is Place.POD:
        unless_root = "" if os.geteuid() == 0 else f", and {_fs_group()}"
        return f"mount its Secret with defaultMode: 0400{unless_root}; {_AGAIN.removeprefix('and ')}"
    if owner not in {0, os.geteuid()}:
        return f"chown it to root or to the user the daemon runs as{_in_numbers()}, {_AGAIN}"
    mode = 640 if owner == 0 != os.geteuid() else 600  # group read is how root lets the daemon read it
    return f"chmod {mode} {path}, {_AGAIN}"


def unchangeable(path: str, mode: int = 644) -> str:
    """How to keep a file or folder that is trusted from being changed by others.

    Args:
        path: Of the file or folder.
        mode: That fits it, in the digits that chmod takes.
    """
    if place() is Place.POD:
        return "mount it from a Secret or a ConfigMap, whose files are root's"
    return f"chown it to root or to the user the daemon runs as{_in_numbers()}, and chmod {mode} {path}"


def state_folder(path: Path) -> str:
    """How to give this process a folder for its state."""
    uid, gid = os.geteuid(), os.getegid()
    if place() is Place.POD:
        return f"mount an emptyDir there, and {_fs_group()}"
    if place() is Place.CONTAINER:
        return (
            f"mount a named volume there, or a folder of uid {uid}'s: chown {uid}:{gid} and chmod 700 it on the host"
            " (rootless: podman unshare chown, or the volume option U)"
        )
    return f"chown it to this user (uid {uid}) and chmod 700 {path}"


def _fs_group() -> str:
    return f"set fsGroup: {os.getegid()} in the pod's securityContext"


def _in_numbers() -> str:
    return f" (uid {os.geteuid()} here)" if place() is Place.CONTAINER else ""
