"""A reader of DER (X.690) that takes what OpenSSL takes: pure, of bytes in memory."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

BOOLEAN: Final = 0x01
INTEGER: Final = 0x02
BIT_STRING: Final = 0x03
OCTET_STRING: Final = 0x04
OBJECT_ID: Final = 0x06
SEQUENCE: Final = 0x30
SET: Final = 0x31

_LONG_TAG: Final = 0x1F
_LONG_LENGTH: Final = 0x80
_MOST_LENGTH_BYTES: Final = 4


@dataclass(frozen=True, slots=True)
class Value:
    """One value: its tag with the class's bits, its content, and all of its bytes."""

    tag: int
    content: bytes
    whole: bytes

    def parts(self) -> list["Value"]:
        """The values that it is made of; raises ValueError where it is not made of any."""
        return list(values(self.content))

    def of(self, tag: int) -> "Value":
        """Itself; raises ValueError where its tag is another."""
        if self.tag != tag:
            raise ValueError("another tag")
        return self

    def number(self) -> int:
        """An INTEGER's; raises ValueError."""
        if not self.of(INTEGER).content:
            raise ValueError("no number")
        return int.from_bytes(self.content, "big", signed=True)

    def name(self) -> str:
        """An OBJECT IDENTIFIER's numbers with dots between them; raises ValueError."""
        numbers, number = [], 0
        for byte in self.of(OBJECT_ID).content:
            number = number << 7 | byte & 0x7F
            if not byte & 0x80:
                numbers.append(number)
                number = 0
        if not numbers:
            raise ValueError("no name")
        first = min(numbers[0] // 40, 2)
        return ".".join(map(str, (first, numbers[0] - 40 * first, *numbers[1:])))


def first(data: bytes) -> Value:
    """The value that the data begin with; raises ValueError where it is not complete."""
    if len(data) < 2 or data[0] & _LONG_TAG == _LONG_TAG:  # noqa: PLR2004 - a tag and a length
        raise ValueError("no value")
    length, start = data[1], 2
    if length & _LONG_LENGTH:
        count = length & ~_LONG_LENGTH
        if not 0 < count <= _MOST_LENGTH_BYTES:
            raise ValueError("no length")
        start += count
        length = int.from_bytes(data[2:start], "big")
    end = start + length
    if end > len(data):
        raise ValueError("not complete")
    return Value(data[0], data[start:end], data[:end])


def values(data: bytes) -> Iterator[Value]:
    """All of them, one after the other; raises ValueError where the data are something else."""
    while data:
        value = first(data)
        yield value
        data = data[len(value.whole) :]
