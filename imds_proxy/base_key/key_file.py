"""The shared credentials file: one profile's key read and replaced, and every other byte left as it is.

"Configuration and credential file settings" of the AWS CLI user guide; read as strictly as botocore does. In: a path
and a profile. Out: its key, or the file with another key in it. Errors: Denied, Invalid; no message repeats a line.
"""

import os
import re
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from imds_proxy import access_key
from imds_proxy.aws.ini_text import IniError, lines, parse
from imds_proxy.aws.shared_credentials import Sections, reads, sections_of
from imds_proxy.base_key.access_keys import KeyPair
from imds_proxy.base_key.words import LABEL, told
from imds_proxy.credentials import Secret
from imds_proxy.errors import Denied, Invalid, SourceError
from imds_proxy.host import atomic_file, utf8
from imds_proxy.host.atomic_file import Access
from imds_proxy.host.read_private import read_file
from imds_proxy.host.redaction import hidden
from imds_proxy.host.utf8 import NotUtf8Error

ID, SECRET = "aws_access_key_id", "aws_secret_access_key"
_TOKENS: Final = ("aws_session_token", "aws_security_token")
_OPTION: Final = re.compile(r"(\s*\w+\s*[=:]\s*)(\S+)(\s*)")
_VALUE: Final = re.compile(r"[!-~]+")
_UNFIT: Final = "write the profile as [NAME] and one line for each key, as `aws configure` does"


@dataclass(frozen=True, slots=True)
class CredentialsFile:
    """One profile of a file.

    Args:
        path: Without symbolic links, so that a link to it stays one.
        profile: The section's name.
    """

    path: Path
    profile: str

    def read(self) -> KeyPair:
        """The key that the profile holds now.

        Raises:
            Denied: This user may not read the file.
            Invalid: It is open to other users, no INI file, or holds no long-lived key of this profile alone.
        """
        return self._key(self._parse(self._text()))

    def rehearse(self) -> None:
        """Replace the file with a copy of itself: whatever would keep a new key from it shows before there is one.

        Raises:
            Denied, Invalid: It cannot be replaced, or not without changing more than the key.
        """
        text = self._text()
        old = self._key(self._parse(text))
        self._with(text, KeyPair("A" * len(old.id), Secret("a" * len(old.secret.reveal()))))
        self._replace(text)

    def replace_key(self, old: KeyPair, new: KeyPair) -> None:
        """Put `new` in the place of `old`; a reader, or a crash, sees the old file or the new one.

        Raises:
            Denied, Invalid: It cannot be replaced, or it holds another key than `old` by now.
        """
        text = self._text()
        if self._key(self._parse(text)) != old:
            raise self._invalid("was changed meanwhile", "nothing: the next run takes it as it is then")
        self._replace(self._with(text, new))

    def _text(self) -> str:
        try:
            content = read_file(LABEL, str(self.path), "shared credentials file", private=True)
        except SourceError as error:
            raise told(error) from None
        try:
            return utf8.decoded(content)
        except NotUtf8Error as error:
            raise self._invalid(error.message, error.advice) from None

    def _parse(self, text: str) -> Sections:
        try:
            return sections_of(parse(text))
        except IniError as error:
            raise self._invalid(f"is no INI file that can be read: {error.message}", _UNFIT) from None

    def _key(self, profiles: Sections) -> KeyPair:
        fields = profiles.get(self.profile, {})
        if not fields.get(ID) or not fields.get(SECRET):
            raise self._invalid(f'has no key in its profile "{self.profile}"', "correct [base_key] profile")
        if access_key.are_swapped(fields[ID], fields[SECRET]):
            raise self._invalid(f'in its profile "{self.profile}": {access_key.SWAPPED}', access_key.SWAPPED_ADVICE)
        if any(fields.get(name) for name in _TOKENS):
            advice = "whoever writes them there renews them: leave [base_key] out"
            raise self._invalid(f'has temporary credentials in its profile "{self.profile}"', advice)
        if others := [name for name, its in profiles.items() if name != self.profile and its.get(ID) == fields[ID]]:
            what = f'has the key of profile "{self.profile}" in "{hidden(others[0])}" too'
            raise self._invalid(
                what, f'in "{hidden(others[0])}", name the other one: source_profile, or credential_process'
            )
        return KeyPair(fields[ID], Secret(fields[SECRET]))

    def _with(self, text: str, new: KeyPair) -> str:
        """The text with another key in it, proven by reading it: nothing else may differ."""
        values = {ID: new.id, SECRET: new.secret.reveal()}
        edited = "".join(_edited(text, self.profile, values))
        wanted = self._parse(text)
        wanted[self.profile] |= values
        if not all(map(_VALUE.fullmatch, values.values())) or not reads(edited, wanted):
            raise self._invalid("cannot be changed without touching more than the key", _UNFIT)
        return edited

    def _replace(self, text: str) -> None:
        advice = f"let the user the daemon runs as write it and its folder, {self.path.parent}; or leave [base_key] out"
        try:
            _replace(self.path, text.encode())
        except PermissionError as error:
            raise Denied(f"{self.path} cannot be replaced: {error.strerror}", advice) from None
        except OSError as error:
            raise self._invalid(f"cannot be replaced: {error.strerror}", advice) from None

    def _invalid(self, what: str, advice: str) -> Invalid:
        return Invalid(f"shared credentials file {self.path} {what}", advice)


def _edited(text: str, profile: str, values: dict[str, str]) -> Iterator[str]:
    """The lines with the values of one section's options replaced."""
    for line in lines(text):
        is_one = line.section == profile and line.key in values and not line.goes_on
        if is_one and (option := _OPTION.fullmatch(line.text)):
            yield f"{option[1]}{values[line.key or '']}{option[3]}"
        else:
            yield line.text


def _replace(path: Path, content: bytes) -> None:
    """Replace the file; the new one has the old one's owner, group and mode."""
    with atomic_file.open_folder(path.parent) as folder:
        status = os.stat(path.name, dir_fd=folder, follow_symlinks=False)
        if not stat.S_ISREG(status.st_mode):
            raise OSError(0, "it is no regular file any more")
        if status.st_nlink > 1:
            raise OSError(0, "it has hard links, which would go on holding the old key")
        atomic_file.remove_leftovers(folder, path.name, status.st_uid, any_age=True)  # one process at a time rotates
        atomic_file.replace_in(folder, path.name, content, Access.of(status))
