"""Standard output and standard error of every verb: whatever the locale, wherever they lead, whatever is printed.

What is printed for people holds nothing that a terminal obeys. A character that the locale has not is written by
another one, or as an escape. Output that cannot be written ends a verb with 1 and one line on standard error; the
reader of a pipe who has seen enough (`| head -1`) is told nothing.
"""

import codecs
import contextlib
import errno
import io
import locale
import os
import sys
from collections.abc import Iterator
from typing import BinaryIO, Final, TextIO

from imds_proxy.errors import OutputError
from imds_proxy.printable import is_unicode, printable_lines

FAILURE: Final = 1
_STDOUT, _STDERR = 1, 2
_ENCODING_ERRORS: Final = "imds_proxy.terminal"
_IN_ASCII: Final = {"…": "...", "→": "->", "·": "-", "■": "o", "✓": "+", "✗": "x"}
_STANDARD: Final = {0: os.O_RDONLY, _STDOUT: os.O_RDONLY, _STDERR: os.O_WRONLY}
"""How the null device takes the place of a closed descriptor: writing to output fails as it did, errors are lost."""


class Output(io.TextIOWrapper):
    """A standard stream.

    Its `problem` is why standard output could not be written, when it first could not. Errors of standard error are
    passed over: there is no other place to tell of them.
    """

    problem: OSError | None = None
    replaced: TextIO | None = None
    """The interpreter's own, which would close what is below both when nothing refers to it any more."""
    tells: bool = False
    """Whether a write that fails raises OutputError: so it is for standard output."""

    def write(self, text: str) -> int:
        """Write for people."""
        with self._failing():
            super().write(printable_lines(text))
        return len(text)

    def flush(self) -> None:
        """Write what is held back."""
        if not self.closed:
            with self._failing():
                super().flush()

    def write_bytes(self, data: bytes) -> None:
        """Write for a program, as it is."""
        with self._failing():
            super().flush()
            self.buffer.write(data)

    def give_up(self) -> None:
        """Let the null device have what cannot be written: the interpreter would complain of it at its end."""
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, self.fileno())
        os.close(null)
        super().flush()

    @contextlib.contextmanager
    def _failing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            self.problem = self.problem or error
            if self.tells:
                raise OutputError(f"standard output cannot be written: {error.strerror}") from None


def prepare() -> None:
    """Put both streams in place; nothing where they are not the process's own, as in a test."""
    for number, flags in _STANDARD.items():
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, flags)  # the lowest free number is this one; a program that is run does not inherit it
    if sys.stdin is None:
        sys.stdin = open(0, closefd=False, encoding="ascii")  # noqa: SIM115 - for the life of the process
    codecs.register_error(_ENCODING_ERRORS, _another_way)
    for number, name in ((_STDOUT, "stdout"), (_STDERR, "stderr")):
        stream = getattr(sys, name)
        if stream is getattr(sys, f"__{name}__") and not isinstance(stream, Output):
            output = _output(stream, number)
            setattr(sys, name, output)
            setattr(sys, f"__{name}__", output)  # the interpreter flushes it at its end


def finish(code: int) -> int:
    """Write what is held back; the exit code: `code`, but not 0 where the output of a verb is not whole."""
    failed = False
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OutputError):
            stream.flush()
        if isinstance(stream, Output) and stream.problem is not None:
            _say_why(stream)
            failed = failed or stream.tells
            stream.give_up()
    return code or FAILURE if failed else code


def write_exactly(text: str) -> None:
    """Write text for a program, in the bytes that names of files and variables have."""
    try:
        data = os.fsencode(text)
    except UnicodeEncodeError:  # of a config, in a locale that has not its characters
        data = text.encode("utf-8", "surrogateescape")
    if isinstance(sys.stdout, Output):
        sys.stdout.write_bytes(data)
    else:
        sys.stdout.write(text)


def screen() -> TextIO:
    """Standard output for a program that paints on a terminal: its commands are left in."""
    encoding = sys.stdout.encoding
    return open(sys.stdout.fileno(), "w", encoding=encoding, errors="replace", closefd=False)


def only_ascii() -> bool:
    """Whether JSON for standard output has to escape what is not ASCII."""
    return not is_unicode(sys.stdout.encoding)


def in_this_locale(text: str) -> str:
    """Text as it will look on standard output, for what is laid out in columns."""
    encoding = sys.stdout.encoding or "utf-8"
    return text if is_unicode(encoding) else text.encode(encoding, _ENCODING_ERRORS).decode(encoding)


def _say_why(stream: Output) -> None:
    if stream.tells and stream.problem is not None and stream.problem.errno != errno.EPIPE:
        print(f"imds-proxy: standard output cannot be written: {stream.problem.strerror}", file=sys.stderr)


def _output(stream: TextIO | None, number: int) -> Output:
    if not isinstance(stream, io.TextIOWrapper):  # it was closed when the interpreter started
        raw: BinaryIO = io.BufferedWriter(io.FileIO(number, "wb", closefd=False))
        encoding, lines = locale.getencoding(), number == _STDERR
    else:
        encoding, lines, raw = stream.encoding, stream.line_buffering, stream.buffer
    output = Output(raw, encoding=encoding, errors=_ENCODING_ERRORS, line_buffering=lines)
    output.replaced = stream
    output.tells = number == _STDOUT
    return output


def _another_way(error: UnicodeError) -> tuple[str, int]:
    """How Python is to write what an encoding has not."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    missing = error.object[error.start : error.end]
    return "".join(_IN_ASCII.get(c) or c.encode("ascii", "backslashreplace").decode() for c in missing), error.end
