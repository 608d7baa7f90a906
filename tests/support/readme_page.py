"""A README that is followed: its files written, its commands run one after the other."""

import os
import re
import subprocess
from pathlib import Path

_BLOCK = re.compile(r"^```(sh|yaml)\n(.*?)^```$", re.DOTALL | re.MULTILINE)


def files(text):
    """Each YAML block that begins with its name, as {path: content}."""
    named = (re.match(r"# (\S+\.yaml)\n", block) for kind, block in _BLOCK.findall(text) if kind == "yaml")
    return {match[1]: match.string for match in named if match}


def commands(text):
    """Every line of every shell block, in order."""
    return [line for kind, block in _BLOCK.findall(text) if kind == "sh" for line in block.splitlines() if line]


def follow(line, folder, programs, **variables):
    """Run a line as somebody would who reads it; what it prints.

    Args:
        line: Of a shell block.
        folder: Where it is run.
        programs: {name: path} of what is not in /usr/bin.
        variables: Environment.
    """
    bin_folder = folder / ".bin"
    bin_folder.mkdir(exist_ok=True)
    for name, path in programs.items():
        if not (bin_folder / name).exists():
            (bin_folder / name).symlink_to(Path(path).resolve())
    environment = {"PATH": f"{bin_folder}:/usr/bin:/bin", "HOME": str(folder), "LANG": os.environ.get("LANG", "C")}
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", line],
        cwd=folder,
        env=environment | variables,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, f"{line}\n{done.stdout}{done.stderr}"
    return done.stdout
