"""What the fuzz targets share: how many examples, documents that are nearly right, and DER that is changed inside."""

import copy
import json
import os

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from imds_proxy.errors import ImdsProxyError

TIMES = int(os.environ.get("FUZZ_TIMES", "1"))
"""How many times as many examples as in a usual run; `make fuzz` sets it."""
HUGE = "a number of 5000 digits"
"""Stands for it: such a number cannot be shown."""
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.just(HUGE),
    st.floats(),
    st.text(max_size=20),
    st.sampled_from(["", "0", "2027-01-15T08:00:00Z", "9999-12-31T23:59:59-23:59", "0001-01-01T00:00:00+23:59", "1h"]),
)
VALUES = st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner))
"""Whatever JSON can say, a number of 5,001 digits among it."""
NESTED = ["[" * 100_000, '{"a":' * 100_000, "[" * 100_000 + "]" * 100_000, '{"a":' * 5000 + "1" + "}" * 5000]
DIGITS = "9" * 5000


def examples(count):
    """The settings of a target that takes so many examples in a usual run."""
    return settings(max_examples=count * TIMES, deadline=None, suppress_health_check=list(HealthCheck))


def outcome(call, *errors):
    """What a call returns; the error where it raises one of the project's own (or of `errors`). Others escape."""
    try:
        return call()
    except (ImdsProxyError, *errors) as error:
        return error


def as_json(value) -> bytes:
    """JSON text."""
    return json.dumps(value).replace(json.dumps(HUGE), DIGITS).encode()


def as_read(value):
    """The same as a parser hands it on that has no limit on digits."""
    if isinstance(value, dict):
        return {key: as_read(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [as_read(inner) for inner in value]
    return 10**5000 if value == HUGE else value


@st.composite
def nearly(draw, document):
    """The document with some values, at any depth, replaced, removed, doubled or renamed."""
    document = json.loads(json.dumps(document))
    for _ in range(draw(st.integers(1, 3))):
        places = list(_places(document))
        if not places:
            break
        inside, key = draw(st.sampled_from(places))
        match draw(st.sampled_from(["replace", "replace", "remove", "wrap", "rename"])):
            case "replace":
                inside[key] = draw(VALUES)
            case "remove":
                del inside[key]
            case "wrap":
                inside[key] = draw(st.sampled_from([[inside[key]], {"a": inside[key]}, str(inside[key])]))
            case "rename" if isinstance(inside, dict):
                inside[draw(st.text(max_size=10))] = inside.pop(key)
    return document


def _places(value):
    if isinstance(value, dict | list):
        for key in value if isinstance(value, dict) else range(len(value)):
            yield value, key
            yield from _places(value[key])


@st.composite
def changed(draw, data: bytes):
    """The bytes with a few of them changed, removed or added, or cut off."""
    data = bytearray(data)
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, max(len(data) - 1, 0)))
        match draw(st.sampled_from(["flip", "remove", "insert", "cut", "repeat"])):
            case "flip" if data:
                data[at] ^= draw(st.integers(1, 255))
            case "remove":
                del data[at : at + draw(st.integers(1, 40))]
            case "insert":
                data[at:at] = draw(st.binary(min_size=1, max_size=20))
            case "cut":
                del data[at:]
            case "repeat":
                data[at:at] = data[at : at + 20]
    return bytes(data)


# DER (X.690): a tree of tags, changed inside with every length put right

_CONSTRUCTED = 0x20
_ODD = [
    b"",
    b"\x00",
    b"\xff",
    b"\xff" * 30,
    b"\x00" * 9,
    b"\x7f" * 600,
    b"991332256199Z",
    b"20991301000000Z",
    b"00000101000000Z",
    b"99991231235959Z",
    b"490101000000Z",
    b"\x2a\x03",
    b"\x2a\x86\x48\xce\x3d\x04\x03\x09",
    b"\xd8\x00",
    b"\xe4\xf6\xfc",
    "\U0001f600".encode("utf-16-be"),
]
"""Negative and huge numbers, times that no calendar has, unknown identifiers, text in another encoding."""
_TAGS = list(bytes.fromhex("01 02 03 04 05 06 0c 12 13 14 16 17 18 1c 1e 30 31 80 a0 a3"))


def parse_der(data: bytes) -> list:
    """A list of [tag, content], where the content of what is constructed, or holds DER, is such a list again."""
    found, at = [], 0
    while at < len(data):
        tag, length, at = data[at], data[at + 1], at + 2
        if length & 0x80:
            size = length & 0x7F
            length, at = int.from_bytes(data[at : at + size]), at + size
        content = data[at : at + length]
        if len(content) != length:
            raise ValueError("cut off")
        found.append([tag, _inner(tag, content)])
        at += length
    return found


def _inner(tag, content):
    if tag & _CONSTRUCTED:
        return parse_der(content)
    if tag == 0x04 and content[:1] in {b"\x30", b"\x04", b"\x03"}:  # the value of an extension
        try:
            return parse_der(content)
        except (ValueError, IndexError):
            return content
    return content


def write_der(nodes: list) -> bytes:
    return b"".join(_written(tag, content) for tag, content in nodes)


def _written(tag, content):
    data = write_der(content) if isinstance(content, list) else content
    size = (len(data).bit_length() + 7) // 8
    length = bytes([len(data)]) if len(data) < 0x80 else bytes([0x80 | size]) + len(data).to_bytes(size)
    return bytes([tag]) + length + data


def _nodes(nodes):
    for index, node in enumerate(nodes):
        yield nodes, index
        if isinstance(node[1], list):
            yield from _nodes(node[1])


@st.composite
def changed_der(draw, data: bytes):
    """The DER with one to three of its values changed, removed, doubled, or put elsewhere."""
    tree = parse_der(data)
    for _ in range(draw(st.integers(1, 3))):
        places = list(_nodes(tree))
        if not places:
            break
        siblings, index = draw(st.sampled_from(places))
        match draw(st.sampled_from(["content", "content", "tag", "remove", "double", "swap", "bytes"])):
            case "content":
                siblings[index][1] = draw(st.sampled_from(_ODD))
            case "tag":
                siblings[index][0] = draw(st.sampled_from(_TAGS))
            case "remove":
                del siblings[index]
            case "double":
                siblings.insert(index, copy.deepcopy(siblings[index]))
            case "swap":
                others, at = draw(st.sampled_from(places))
                siblings[index] = copy.deepcopy(others[at])
            case "bytes" if isinstance(siblings[index][1], bytes):
                siblings[index][1] = draw(changed(siblings[index][1]))
    return write_der(tree)
