"""The agent's two YAML files: one scalar per line, nothing nested.

In: text. Out: keys and values as text. Errors: ConfigError, with the number of the line and nothing of it: an
on-premises file of the older kind holds a secret key.
"""

import json
import re
from typing import Final

from imds_proxy.errors import ConfigError

# The agent's own config writes keys as Ruby's symbols: `:log_dir: '/var/log/…'`.
_LINE: Final = re.compile(r":?(?P<key>[A-Za-z_][A-Za-z0-9_]*)\s*:(?:\s+(?P<value>.*))?")
# With one of / : - in it, it is none of YAML's words: true, no, null.
_PLAIN: Final = re.compile(r"(?=.*[/:-])[A-Za-z/][A-Za-z0-9/\\.:_+=,@-]*(?<!:)")
_NOT_A_VALUE: Final = tuple("[]{}&*!|>%@`")


def read(text: str, *, strict: bool) -> dict[str, str]:
    """The scalars of the top level; raises ConfigError for anything else in it if `strict`, else leaves it out."""
    found: dict[str, str] = {}
    for number, line in enumerate(text.splitlines(), 1):
        bare = line.rstrip()
        if not bare or bare.lstrip().startswith("#") or bare in {"---", "..."}:
            continue
        match = _LINE.fullmatch(bare)
        value = _scalar(match["value"] or "") if match else None
        if match and value is not None and match["key"] not in found:
            found[match["key"]] = value
        elif strict:
            raise ConfigError(f"line {number} is not KEY: VALUE, or is a key that was there before")
    return found


def scalar(value: str) -> str:
    """A value as YAML 1.1 and 1.2 both read it: as it is where that is safe, else in single quotes."""
    return value if _PLAIN.fullmatch(value) else "'" + value.replace("'", "''") + "'"


def _scalar(text: str) -> str | None:
    """The value at the end of a line; None where it is no scalar on this line."""
    text = text.strip()
    if text.startswith("'"):
        match = re.fullmatch(r"'((?:[^']|'')*)'(\s+#.*)?", text)
        return match[1].replace("''", "'") if match else None
    if text.startswith('"'):
        match = re.fullmatch(r'("(?:[^"\\]|\\.)*")(\s+#.*)?', text)
        return _double_quoted(match[1]) if match else None
    text = re.sub(r"(^|\s+)#.*", "", text)
    return None if text.startswith(_NOT_A_VALUE) else text


def _double_quoted(text: str) -> str | None:
    try:
        return str(json.loads(text))
    except ValueError:
        return None
