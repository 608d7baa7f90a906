"""The limit of open files: raised, shared out, and told as what it is when it is reached."""

import asyncio
import errno
import resource
import subprocess
import sys

import pytest

from imds_proxy.errors import Unreachable
from imds_proxy.host.open_files import Shares, exhausted, limit, shares
from imds_proxy.host.run_command import run_command
from support.open_files import no_file_left

RAISED = (
    "from imds_proxy.host.open_files import raise_limit; import resource; print(raise_limit(), *resource.getrlimit(7))"
)


def with_limits(soft: int, hard: int, code: str) -> str:
    """What a Python program prints under these limits of open files."""
    command = ["prlimit", f"--nofile={soft}:{hard}", sys.executable, "-c", code]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=30).stdout.strip()


@pytest.mark.parametrize(
    ("available", "expected"),
    [
        (1024, Shares(768, 64, 192)),
        (64, Shares(20, 4, 40)),
        (256, Shares(192, 16, 48)),
        (4096, Shares(3072, 128, 896)),
        (524_288, Shares(4096, 128, 520_064)),
    ],
)
def test_the_usual_limits_are_shared_out(available, expected):
    """Were all given to clients, those who hold connections open would take the renewals' sockets."""
    assert shares(available) == expected


def test_every_limit_leaves_something_for_each():
    """A host with a low limit would serve nobody, or renew nothing."""
    for available in (*range(1, 600), *range(600, 30_000, 97), 1 << 30):
        found = shares(available)
        assert 1 <= found.data_plane <= 4096
        assert 4 <= found.control_plane <= 128
        if available >= 45:
            assert found.data_plane + found.control_plane + found.reserved == available
            assert found.reserved >= 40


def test_the_soft_limit_becomes_the_hard_one():
    """Under systemd's usual soft limit of 1024, clients would be refused where the host allows 524288."""
    assert with_limits(64, 2048, RAISED) == "2048 2048 2048"
    assert with_limits(2048, 2048, RAISED) == "2048 2048 2048"


def test_a_hard_limit_beyond_what_the_kernel_takes_changes_nothing(monkeypatch):
    """A daemon would not start where the limit cannot be raised."""

    def refuse(*_):
        raise ValueError("not allowed to raise maximum limit")

    monkeypatch.setattr(resource, "getrlimit", lambda _: (512, resource.RLIM_INFINITY))
    monkeypatch.setattr(resource, "setrlimit", refuse)
    from imds_proxy.host.open_files import raise_limit  # noqa: PLC0415 - beside what it is tried with

    assert raise_limit() == 512
    monkeypatch.setattr(resource, "setrlimit", lambda *_: None)
    assert raise_limit() == 1 << 20
    monkeypatch.setattr(resource, "getrlimit", lambda _: (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    assert limit() == 1 << 20


async def test_a_command_gets_the_soft_limit_that_programs_expect():
    """A helper that uses select() would crash on the numbers that the daemon's own limit allows."""
    code = "import resource, time; time.sleep(0.2); print(*resource.getrlimit(resource.RLIMIT_NOFILE))"
    printed = await run_command("deploy", (sys.executable, "-c", code), timeout=20, what="command")
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    assert printed.decode().split() == [str(min(1024, hard)), str(hard)]


async def test_a_command_that_finds_no_file_left_says_so():
    """The operator would correct the command's path where the limit is what is wrong."""
    await asyncio.sleep(0)
    with no_file_left(), pytest.raises(Unreachable) as found:
        await run_command("deploy", ("/bin/true",), timeout=20, what="command")
    assert "too many open files (limit " in found.value.message
    assert "LimitNOFILE=" in found.value.advice


def test_the_error_is_found_behind_those_that_libraries_make_of_it():
    """A library's words for it ("cannot connect") would send the operator to the firewall."""
    wrapped = RuntimeError("cannot connect")
    wrapped.__cause__ = OSError(errno.EMFILE, "Too many open files")
    what, advice = exhausted(wrapped) or ("", "")
    assert what == f"this process has too many open files (limit {limit()})"
    assert "LimitNOFILE=" in advice
    what, advice = exhausted(OSError(errno.ENFILE, "Too many open files in system")) or ("", "")
    assert what == "this host has too many open files"
    assert "fs.file-max" in advice
    assert exhausted(OSError(errno.ECONNREFUSED, "refused")) is None
    assert exhausted(None) is None
