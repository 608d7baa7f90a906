"""A file system that can hang, as that of a file server does when the server is gone."""

import os
import shutil
import signal
import subprocess
from contextlib import contextmanager
from pathlib import Path

import pytest

from support.daemon import wait


class FileServer:
    """What is in `path`, until it hangs: then whoever looks at it waits."""

    def __init__(self, path: Path, process: subprocess.Popen):
        self.path, self._process = path, process

    def hang(self) -> None:
        self._process.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        self._process.send_signal(signal.SIGCONT)


@contextmanager
def file_server(folder: Path):
    """A file server's folder, mounted at `folder`/mounted."""
    if shutil.which("bindfs") is None or os.geteuid() != 0:
        pytest.skip("a file system that hangs takes bindfs, and root")
    behind, mounted = folder / "behind", folder / "mounted"
    behind.mkdir()
    mounted.mkdir()
    process = subprocess.Popen(["bindfs", "-f", behind, mounted], stderr=subprocess.PIPE, text=True)
    server = FileServer(mounted, process)
    try:
        wait(lambda: process.poll() is not None or mounted.is_mount(), 5, "a mount")
        if process.poll() is not None:
            pytest.skip(f"bindfs: {process.stderr.read().strip()}")
        yield server
    finally:
        server.go_on()
        subprocess.run(["umount", "--lazy", mounted], check=False)
        process.wait(10)
        process.stderr.close()
