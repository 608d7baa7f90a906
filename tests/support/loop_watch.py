"""`python loop_watch.py REPORT serve …`: imds-proxy, with all that its event loop's thread asks of a disk written down.

Audit events of the interpreter tell of most (sys.addaudithook); what has none is replaced by a function that notes.
REPORT gets a line of JSON for each: the event, what it was about, and the project's frames that led there.
"""

import asyncio
import json
import os
import sys
import threading

_AUDITED = {
    "import",
    "open",
    "os.chmod",
    "os.chown",
    "os.fork",
    "os.link",
    "os.listdir",
    "os.mkdir",
    "os.posix_spawn",
    "os.remove",
    "os.rename",
    "os.rmdir",
    "os.scandir",
    "os.symlink",
    "os.truncate",
    "os.utime",
    "pathlib.Path.glob",
    "shutil.rmtree",
    "socket.getaddrinfo",
    "socket.gethostbyaddr",
    "socket.gethostbyname",
    "socket.getnameinfo",
    "subprocess.Popen",
}
_NOT_AUDITED = ("access", "fsync", "lstat", "readlink", "stat", "statvfs")
_NO_DISK = ("/proc/", "/dev/null")


class Watch:
    """Notes what the thread of the event loop does, while a loop turns in it."""

    def __init__(self, report: str):
        self._lines = os.open(report, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        for name in _NOT_AUDITED:
            setattr(os, name, self._noting(name, getattr(os, name)))
        sys.addaudithook(self._hook)

    def _hook(self, event: str, arguments: tuple) -> None:
        if event in _AUDITED:
            self._note(event, arguments[0] if arguments else "")

    def _noting(self, name: str, original):
        def wrapped(about, *arguments, **options):
            self._note(f"os.{name}", about)
            return original(about, *arguments, **options)

        return wrapped

    def _note(self, event: str, about: object) -> None:
        if threading.current_thread() is not threading.main_thread() or asyncio._get_running_loop() is None:
            return
        if str(about).startswith(_NO_DISK) or (event == "open" and isinstance(about, int)):
            return
        noted = {"event": event, "about": str(about), "frames": list(_frames(sys._getframe(2)))}
        os.write(self._lines, json.dumps(noted).encode() + b"\n")


def _frames(frame):
    while frame is not None:
        yield f"{frame.f_code.co_filename}:{frame.f_lineno} {frame.f_code.co_name}"
        frame = frame.f_back


if __name__ == "__main__":
    Watch(sys.argv.pop(1))
    from imds_proxy.cli.main import main

    sys.exit(main())
