"""What CodeDeploy takes as an instance's name and tags, so that a mistake shows before any call.

In: what an operator typed. Out: names and tags. Errors: ConfigError, with every mistake. "Limits" of the CodeDeploy
user guide, "Tag" and "AddTagsToOnPremisesInstances" of the CodeDeploy API reference.
"""

import re
from collections.abc import Iterator, Sequence
from typing import Final

from imds_proxy.errors import ConfigError

_LONGEST_NAME: Final = 100
_MOST_TAGS: Final = 10
_LONGEST_KEY, _LONGEST_VALUE = 128, 256
_NAME: Final = re.compile(r"[A-Za-z0-9._+=,@-]*")


def instance_name(name: str) -> str:
    """The name, if CodeDeploy would take it; raises ConfigError with all that is wrong with it."""
    if mistakes := tuple(_mistakes_in_name(name)):
        raise ConfigError(f"instance name {name!r} is none that CodeDeploy takes", mistakes)
    return name


def tags(values: Sequence[str]) -> dict[str, str]:
    """`KEY=VALUE` each, by key; raises ConfigError with every mistake. A value may hold further `=`."""
    pairs = [value.partition("=") for value in values]
    mistakes = [mistake for pair in pairs for mistake in _mistakes_in_tag(*pair)]
    keys = [key for key, _, _ in pairs]
    mistakes += [f"{key}: is given twice" for key in dict.fromkeys(keys) if keys.count(key) > 1]
    if len(pairs) > _MOST_TAGS:
        mistakes.append(f"{len(pairs)} tags: an instance has {_MOST_TAGS} at most")
    if mistakes:
        raise ConfigError("tags that CodeDeploy does not take", tuple(mistakes))
    return {key: value for key, _, value in pairs}


def _mistakes_in_name(name: str) -> Iterator[str]:
    if not name:
        yield "is empty"
    if len(name) > _LONGEST_NAME:
        yield f"has {len(name)} characters: at most {_LONGEST_NAME}"
    if not _NAME.fullmatch(name):
        remark = "; a MAC address may be written with -" if ":" in name else ""
        yield f"expected letters, digits and . _ + = , @ -{remark}"
    if name.startswith("i-"):
        yield "starts with i-, as instances of EC2 do"


def _mistakes_in_tag(key: str, equals: str, value: str) -> Iterator[str]:
    if not key or not equals or not value:
        yield f"{key}{equals}{value}: expected KEY=VALUE: CodeDeploy wants both"
    if len(key) > _LONGEST_KEY:
        yield f"{key[:20]}…: a key of {len(key)} characters: at most {_LONGEST_KEY}"
    if len(value) > _LONGEST_VALUE:
        yield f"{key[:20]}: a value of {len(value)} characters: at most {_LONGEST_VALUE}"
