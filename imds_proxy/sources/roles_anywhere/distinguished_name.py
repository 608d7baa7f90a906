"""A distinguished name of a certificate as text (RFC 4514), whatever its strings are encoded in. Pure."""

from collections.abc import Iterator
from typing import Final

from imds_proxy.host.der import SEQUENCE, SET, Value

_BMP_STRING, _UNIVERSAL_STRING, _UTF8_STRING = 0x1E, 0x1C, 0x0C
_TEXTS: Final = {_UTF8_STRING, 0x12, 0x13, 0x14, 0x16, 0x1A, 0x1B}
"""UTF8, Numeric, Printable, Teletex, IA5, Visible and General: what a CA calls them says little of what is in them."""
_NAMES: Final = {
    "2.5.4.3": "CN",
    "2.5.4.6": "C",
    "2.5.4.7": "L",
    "2.5.4.8": "ST",
    "2.5.4.9": "STREET",
    "2.5.4.10": "O",
    "2.5.4.11": "OU",
    "0.9.2342.19200300.100.1.1": "UID",
    "0.9.2342.19200300.100.1.25": "DC",
}
_ESCAPED: Final = '\\"+,;<>'


def written(name: Value) -> str:
    """A Name, the most particular part first: `CN=host.example.com,O=Example`; raises ValueError for what is none."""
    parts = (relative.of(SET) for relative in reversed(name.of(SEQUENCE).parts()))
    return ",".join("+".join(_attributes(part)) for part in parts)


def _attributes(relative: Value) -> Iterator[str]:
    for attribute in relative.parts():
        kind, value = attribute.of(SEQUENCE).parts()
        yield f"{_NAMES.get(kind.name(), kind.name())}={_text(value)}"


def _text(value: Value) -> str:
    if value.tag in {_BMP_STRING, _UNIVERSAL_STRING}:
        return _escaped(value.content.decode("utf-16-be" if value.tag == _BMP_STRING else "utf-32-be", "replace"))
    if value.tag not in _TEXTS:
        return f"#{value.whole.hex()}"
    try:
        return _escaped(value.content.decode())
    except UnicodeDecodeError:
        return _escaped(value.content.decode("latin-1"))


def _escaped(text: str) -> str:
    text = "".join(f"\\{char}" if char in _ESCAPED else "\\00" if char == "\0" else char for char in text)
    if text.startswith(("#", " ")):
        text = f"\\{text}"
    return f"{text[:-1]}\\ " if text.endswith(" ") and text != "\\ " else text
