"""How to add a package that an extra of this project needs, to the very environment that this program runs in.

`pip install` alone means the shell's environment; that is another one for a daemon, for a tool of its own (pipx, uv)
and in a container, and of an archive there is none.
"""

import re
import shlex
import sys
import sysconfig
import zipfile
from functools import cache
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Final

_NAME: Final = "imds-proxy"


@cache
def how_to_install(extra: str, module: str) -> str:
    """What to do, for a message. Reads the installation the first time: call it beside the loop.

    Args:
        extra: Of this project.
        module: What could not be imported.
    """
    packages = _packages(extra)
    named = " ".join(shlex.quote(package) for package in packages or [module])
    wanted = shlex.quote(f"{_NAME}[{extra}]") if packages else named
    python, folder = shlex.quote(sys.executable or "python3"), Path(sys.prefix)
    if _is_archive():
        return f"make the archive anew with {named} in it"
    if (folder / "pipx_metadata.json").exists():
        return f"pipx inject {shlex.quote(folder.name)} {named}"
    if (folder / "uv-receipt.toml").exists():
        more = " ".join(f"--with {shlex.quote(package)}" for package in packages or [module])
        return f"uv tool install {more} {_NAME}, with what was given when it was installed"
    if _belongs_to_the_system():
        return (
            f"install the packages of this system that are {named}; or have {_NAME} in an environment of its own"
            f" (python3 -m venv), with {wanted}"
        )
    if find_spec("pip") is not None:
        return f"{python} -m pip install {wanted}"
    return f"uv pip install --python {python} {wanted}: it has no pip of its own; an image is built anew, with {named}"


def _packages(extra: str) -> list[str]:
    """The requirements that an extra adds, by what was installed; none where that says nothing."""
    try:
        requirements = metadata.requires(_NAME) or []
    except metadata.PackageNotFoundError:  # run from a checkout or an archive
        return []
    parts = [requirement.partition(";") for requirement in requirements]
    wanted = re.compile(rf"""extra\s*==\s*["']{re.escape(extra)}["']""")
    return [package.strip() for package, _, marker in parts if wanted.search(marker)]


def _is_archive() -> bool:
    """Whether the program is one file with everything in it: zipapp, shiv, PEX, PyInstaller."""
    if getattr(sys, "frozen", False) or not Path(__file__).is_file():
        return True
    return bool(sys.argv) and zipfile.is_zipfile(sys.argv[0])


def _belongs_to_the_system() -> bool:
    """Whether pip refuses to install there (PEP 668)."""
    in_environment = sys.prefix != sys.base_prefix
    return not in_environment and (Path(sysconfig.get_path("stdlib")) / "EXTERNALLY-MANAGED").exists()
