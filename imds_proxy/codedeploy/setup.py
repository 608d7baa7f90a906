"""What a host needs on disk for its agent, worked out before anything is written.

In: the config file, a session's ARN, paths, a region. Out: the files to write, each with what to show of it. Errors:
ConfigError, and FileError where one cannot be written.
"""

from dataclasses import dataclass
from pathlib import Path

from imds_proxy.codedeploy import config_entry
from imds_proxy.codedeploy.onpremises import MODE, OnPremises, credentials_file_mistake
from imds_proxy.codedeploy.replace import replace
from imds_proxy.errors import ConfigError
from imds_proxy.host import utf8
from imds_proxy.host.utf8 import NotUtf8Error


@dataclass(frozen=True, slots=True)
class Change:
    """A file to write."""

    path: Path
    content: str
    what: str
    """For the operator, before the part that is shown."""
    shown: str
    """What is new in it. Never what was there before, which may hold a key."""

    def apply(self) -> None:
        """Write it; raises FileError."""
        replace(self.path, self.content, MODE)


def onpremises_file(wanted: OnPremises, path: Path) -> Change | None:
    """The on-premises file; None where it is as it should be.

    Raises:
        ConfigError: The agent could not use a credentials file at that path.
    """
    if mistake := credentials_file_mistake(wanted.credentials_file):
        raise ConfigError(f"{wanted.credentials_file} {mistake}")
    text = wanted.text()
    there = path.exists()
    if there and _read(path) == text:
        return None
    return Change(path, text, f"{path}{', in place of the one that is there' if there else ''}:", text)


def config_file(path: Path, role: str, credentials_file: str) -> Change | None:
    """The config with a `[[files]]` entry for the agent; None where it has it. Raises ConfigError."""
    if mistake := credentials_file_mistake(credentials_file):
        raise ConfigError(f"{credentials_file} {mistake}")
    there = path.exists()  # or else what there is of a config is in conf.d
    text = config_entry.added(_read(path) if there else "", role, credentials_file, path)
    if text is None:
        return None
    return Change(path, text, f"{path}{', at its end' if there else ''}:", config_entry.entry(role, credentials_file))


def _read(path: Path) -> str:
    """The text with its ends of lines as they are."""
    try:
        return utf8.decoded(path.read_bytes())
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}") from None
    except NotUtf8Error as error:
        raise ConfigError(f"{path} {error.message}", (error.advice,)) from None
