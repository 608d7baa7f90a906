"""Text files that people and other programs write: UTF-8, with the byte order mark that Windows puts first or without.

In: the bytes of a file. Out: the same without the mark, or its text. Errors: NotUtf8Error; no message repeats anything
of the file.
"""

import codecs
import re
from typing import Final

from imds_proxy.errors import ImdsProxyError

_UTF_16: Final = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
_WITHOUT_MARK: Final = re.compile(rb"(?:[\t-~]\0){2}|(?:\0[\t-~]){2}")
_ADVICE: Final = "write it as UTF-8 (Windows PowerShell: Set-Content -Encoding ascii, or utf8; its > writes UTF-16)"


class NotUtf8Error(ImdsProxyError):
    """A file is text of another kind, or none; the message goes on after its name.

    Args:
        what: What is wrong.
        line: Where, counted from 1; None: from its beginning.
    """

    def __init__(self, what: str, line: int | None = None) -> None:
        super().__init__(what if line is None else f"{what} (line {line})", _ADVICE)
        self.what = what
        self.line = line


def without_mark(content: bytes) -> bytes:
    """The content without a byte order mark; nothing binary that this program reads begins with one.

    Raises:
        NotUtf8Error: It is UTF-16: by its mark, or by a NUL beside each of its first characters.
    """
    if content.startswith(_UTF_16) or _WITHOUT_MARK.match(content):
        raise NotUtf8Error("is UTF-16 text, and UTF-8 is needed")
    return content.removeprefix(codecs.BOM_UTF8)


def decoded(content: bytes) -> str:
    """The text without a byte order mark. Raises NotUtf8Error."""
    content = without_mark(content)
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise NotUtf8Error("is not UTF-8 text, perhaps Latin-1 (ISO 8859-1, Windows-1252)", line) from None
