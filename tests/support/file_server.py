"""A file system that can hang, as that of a file server does when the server is gone."""

import os
import shutil
import signal
import subprocess
import time
from contextlib import contextmanager
from pathlib import Path

import pytest

from support.daemon import wait


class FileServer:
    """What is in `path`, until it hangs: then whoever looks at it waits."""

    def __init__(self, path: Path, process: subprocess.Popen, control: Path):
        self.path, self._process = path, process
        self._waiting = control / str(os.minor(path.stat().st_dev)) / "waiting"

    def hang(self) -> None:
        """Stop it, with no request in its hands: who waits for the answer to one could not even be killed."""
        while True:
            self._process.send_signal(signal.SIGSTOP)
            wait(self._is_stopped, 5, "a file server that stands still")
            if self._waiting.read_text().strip() == "0":
                return
            self.go_on()
            time.sleep(0.01)

    def _is_stopped(self) -> bool:
        threads = Path(f"/proc/{self._process.pid}/task").iterdir()
        return all((thread / "stat").read_text().rpartition(")")[2].split()[0] == "T" for thread in threads)

    def go_on(self) -> None:
        self._process.send_signal(signal.SIGCONT)


@contextmanager
def file_server(folder: Path):
    """A file server's folder, mounted at `folder`/mounted."""
    if shutil.which("bindfs") is None or os.geteuid() != 0:
        pytest.skip("a file system that hangs takes bindfs, and root")
    behind, mounted, control = (folder / name for name in ("behind", "mounted", "control"))
    for each in (behind, mounted, control):
        each.mkdir()
    if subprocess.run(["mount", "-t", "fusectl", "none", control], check=False).returncode != 0:
        pytest.skip("no file system may be mounted here")
    process = subprocess.Popen(["bindfs", "-f", behind, mounted], stderr=subprocess.PIPE, text=True)
    try:
        wait(lambda: process.poll() is not None or mounted.is_mount(), 10, "a mount")
        if process.poll() is not None:
            pytest.skip(f"bindfs: {process.stderr.read().strip()}")
        yield FileServer(mounted, process, control)
    finally:
        process.send_signal(signal.SIGCONT)
        for each in (mounted, control):
            subprocess.run(["umount", "--lazy", each], check=False, capture_output=True)
        process.wait(10)
        process.stderr.close()
