"""Many runs of the command line in one interpreter: each is a process of its own, but none has to import again."""

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from support.daemon import clean_environment

# The child goes on to the end of this program, so that what the interpreter says at its own end is seen as well.
_PROGRAM = """
import importlib, json, os, sys
from imds_proxy.cli import main as cli
folder, runs = sys.argv[1], json.loads(sys.argv[2])
for verb in cli._VERBS:
    importlib.import_module("imds_proxy.cli." + verb.replace("-", "_"))
codes = []
for number, run in enumerate(runs):
    if (child := os.fork()) == 0:
        flags = os.O_WRONLY | os.O_CREAT
        for descriptor, name in ((1, run["out"]), (2, run["err"])):
            opened = os.open(name or f"{folder}/{number}.{descriptor}", flags)
            os.dup2(opened, descriptor)
            os.close(opened)
            if name is None:
                os.close(descriptor)
        sys.exit(cli.main(run["arguments"]))
    codes.append(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
print(json.dumps(codes))
"""
TIME_LIMIT = 120


@dataclass(frozen=True)
class Ran:
    """How a run ended; what it printed, as bytes."""

    arguments: tuple[str, ...]
    code: int
    out: bytes
    err: bytes


def run_each(folder: Path, runs, environment=None, *, out="", err="") -> list[Ran]:
    """Run each list of arguments.

    Args:
        folder: Empty, for what is printed.
        runs: Lists of arguments.
        environment: Further variables, such as the locale.
        out: A file for standard output in place of one that is read; None: it is closed.
        err: The same for standard error.
    """
    given = json.dumps([{"arguments": list(map(str, each)), "out": out, "err": err} for each in runs])
    command = [sys.executable, "-c", _PROGRAM, str(folder), given]
    variables = clean_environment() | (environment or {})
    done = subprocess.run(command, env=variables, capture_output=True, timeout=TIME_LIMIT, check=False)
    assert done.returncode == 0, done.stderr
    return [
        Ran(tuple(map(str, each)), code, _read(folder / f"{number}.1"), _read(folder / f"{number}.2"))
        for number, (each, code) in enumerate(zip(runs, json.loads(done.stdout), strict=True))
    ]


def _read(path: Path) -> bytes:
    return path.read_bytes() if path.exists() else b""
