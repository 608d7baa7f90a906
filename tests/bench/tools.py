"""The public programs that the benchmark needs, and what to say when they are missing."""

import os
import shutil
import subprocess
from pathlib import Path

PACKAGES = {"wrk": "wrk", "nginx": "nginx-light"}
_SBIN = "/usr/sbin"  # where Debian keeps nginx, and not on everybody's path


class BenchError(Exception):
    """The benchmark cannot go on, or what it measured is worth nothing."""


def find(program: str) -> str | None:
    """The path of a program."""
    return shutil.which(program, path=os.pathsep.join((os.environ.get("PATH", os.defpath), _SBIN)))


def program(name: str) -> str:
    """The path of a program that `require` has seen."""
    path = find(name)
    if path is None:
        raise BenchError(f"{name} is gone")
    return path


def require() -> None:
    """All programs are there, or BenchError with the command that installs them.

    In a container, as root, that command is run. Not on a machine with systemd: there the package would start nginx as
    a service that nobody asked for.
    """
    if _missing() and os.geteuid() == 0 and shutil.which("apt-get") and not Path("/run/systemd/system").exists():
        _install(_missing())
    if packages := _missing():
        raise BenchError(f"programs are missing; install them with: apt-get install -y {' '.join(packages)}")


def _missing() -> list[str]:
    return [package for name, package in PACKAGES.items() if find(name) is None]


def _install(packages: list[str]) -> None:
    print(f"installing {' '.join(packages)}", flush=True)
    environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    for arguments in (["update", "-q"], ["install", "-q", "-y", "--no-install-recommends", *packages]):
        subprocess.run(["apt-get", *arguments], env=environment, stdout=subprocess.DEVNULL, check=False)
