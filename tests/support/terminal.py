"""A terminal for tests: a program in a pseudo-terminal, what it has written, and what stands on the screen."""

import codecs
import fcntl
import os
import re
import select
import struct
import subprocess
import sys
import termios
import time
from pathlib import Path
from typing import Self

# Makes standard input the controlling terminal, and then becomes the program: keys and resizing are signals only so.
_LAUNCHER = """
import fcntl, os, sys, termios
os.setsid()
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
os.execvp(sys.argv[1], sys.argv[1:])
"""
_PIECE = re.compile(
    r"\x1b\[(\d+);(\d+)H|\x1b\[H|\x1b\[\?1049([hl])|\x1b\[\?25([hl])|\x1b\[[0-9;]*[mJK]|(\r)|(\n)|([^\x1b])"
)
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")


class Terminal:
    """A program in a terminal of a size.

    Args:
        command: The program and its arguments.
        environment: All of its environment.
        columns: Of the window.
        rows: Of the window.
    """

    def __init__(self, command: list[str], environment: dict[str, str], columns: int = 80, rows: int = 40):
        self.raw = ""
        """All that was written."""
        self.alternate, self.cursor_shown = False, True
        self.is_overrun = False
        """Whether something was written past the last column or row."""
        self.columns, self.rows = columns, rows
        self._decoder = codecs.getincrementaldecoder("utf-8")()
        self._rest = ""
        self._clear()
        self._master, self.slave = os.openpty()
        self.resize(columns, rows)
        self.settings = termios.tcgetattr(self.slave)
        self.process = subprocess.Popen(
            [sys.executable, "-c", _LAUNCHER, *command],
            env={"TERM": "xterm-256color"} | environment,
            stdin=self.slave,
            stdout=self.slave,
            stderr=self.slave,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()
        os.close(self._master)
        os.close(self.slave)

    def resize(self, columns: int, rows: int) -> None:
        """As somebody who pulls at the window."""
        self.columns, self.rows = columns, rows
        self._clear()
        fcntl.ioctl(self._master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def type(self, keys: str) -> None:
        os.write(self._master, keys.encode())

    def signal(self, number: int) -> None:
        self.process.send_signal(number)

    def read(self, seconds: float = 0.1) -> None:
        """What is written within a time."""
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0:
            if select.select([self._master], [], [], left)[0]:
                self._feed(self._decoder.decode(os.read(self._master, 65536)))

    def wait(self, text: str, seconds: float = 20.0) -> str:
        """The words on the screen, once a regular expression fits them."""
        return self.wait_until(lambda: re.search(text, self.words), seconds, text)

    def wait_until(self, condition, seconds: float, what) -> str:
        """The words on the screen, once a condition holds."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            self.read()
            if condition():
                self.read(0.2)  # to the end of what is being painted
                return self.words
        raise AssertionError(f"not within {seconds} s: {what}; screen:\n{self.screen}\nlast: {self.raw[-500:]!r}")

    def end(self, seconds: float = 10.0) -> int:
        """The exit code, once it has ended by itself; all it has written is read."""
        self.wait_until(lambda: self.process.poll() is not None, seconds, "its end")
        self.read(0.3)
        return self.process.returncode

    @property
    def screen(self) -> str:
        return "\n".join("".join(row).rstrip() for row in self._cells).rstrip()

    @property
    def words(self) -> str:
        """The screen as one line, however it is broken into lines."""
        return " ".join(self.screen.split())

    @property
    def has_colour(self) -> bool:
        """Whether a colour was set; bold and dim are none."""
        codes = {int(code or 0) for each in _COLOUR.findall(self.raw) for code in each[2:-1].split(";")}
        return bool(codes & {*range(30, 50), *range(90, 108)})

    def _clear(self) -> None:
        self._cells = [[" "] * self.columns for _ in range(self.rows)]
        self._row = self._column = 0

    def _feed(self, text: str) -> None:
        self.raw += text
        text, self._rest = self._rest + text, ""
        at = 0
        while at < len(text):
            piece = _PIECE.match(text, at)
            if piece is None:  # a code that is not whole yet
                assert len(text) - at < 20, f"an escape code that this terminal does not know: {text[at : at + 20]!r}"
                self._rest = text[at:]
                return
            self._obey(piece)
            at = piece.end()

    def _obey(self, piece: re.Match[str]) -> None:
        row, column, alternate, cursor, back, down, character = piece.groups()
        if row or piece[0] == "\x1b[H":
            self._row, self._column = int(row or 1) - 1, int(column or 1) - 1
        elif alternate:
            self.alternate = alternate == "h"
            self._clear()
        elif cursor:
            self.cursor_shown = cursor == "h"
        elif back:
            self._column = 0
        elif down:
            self._row += 1
        elif character:
            if self._row < self.rows and self._column < self.columns:
                self._cells[self._row][self._column] = character
            else:
                self.is_overrun = True
            self._column += 1


def stopped(process: subprocess.Popen) -> bool:
    """Whether a process is stopped, as by Ctrl-Z."""
    return Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"
