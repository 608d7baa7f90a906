"""A session in a profile of an INI file, as the AWS CLI and the programs that log people in write it.

"Configuration and credential file settings" of the AWS CLI user guide; read as strictly as botocore does. In: bytes.
Out: one session. Errors: Invalid; no message repeats a line of the file.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from imds_proxy.aws.ini_text import EXPIRATIONS, IniError, parse
from imds_proxy.credentials import ISO_TIME, Credentials, Secret, parse_time
from imds_proxy.errors import Invalid
from imds_proxy.host import utf8
from imds_proxy.host.redaction import hidden
from imds_proxy.host.utf8 import NotUtf8Error

# AWS has no key for it. These are written by saml2aws, okta-aws-cli and gimme-aws-creds (the first), aws-google-auth,
# aws-azure-login, aws-mfa and AWSume (the last).
_TOKENS: Final = ("aws_session_token", "aws_security_token")
_VALUE: Final = re.compile(r"[!-~]+")
_ACCOUNT: Final = re.compile(r"\d{12}", re.ASCII)
_LONG_LIVED: Final = (
    "long-lived keys are not handed on: put a session there, or give the key to this daemon alone and use"
    ' source = "assume-role"'
)


@dataclass(frozen=True, slots=True)
class Profile:
    """Where a session is, and what is known of it besides.

    Args:
        name: The profile.
        place: Role and file, for the message.
        end: Of the session with that key id, where its profile does not say it; seconds since the epoch.
    """

    name: str
    place: str
    end: Callable[[str], float] | None

    def read(self, body: bytes, obtained: float) -> Credentials:
        """The profile's session, said to be obtained at a time.

        Raises:
            Invalid: The file is no INI file, has no such profile, or holds no session, or nobody says when it ends.
        """
        fields = self._fields(body)
        key, secret = self._value(fields, "aws_access_key_id"), self._value(fields, "aws_secret_access_key")
        token = next((name for name in _TOKENS if fields.get(name)), None)
        if token is None:
            raise self._invalid("no aws_session_token, so these are long-lived keys", _LONG_LIVED)
        account = fields.get("aws_account_id", "")
        return Credentials(
            access_key_id=key,
            secret_access_key=Secret(secret),
            session_token=Secret(self._value(fields, token)),
            expiration=self._expiration(fields, key),
            obtained=obtained,
            account=account if _ACCOUNT.fullmatch(account) else None,
        )

    def _fields(self, body: bytes) -> dict[str, str]:
        try:
            parser = parse(utf8.decoded(body))
        except NotUtf8Error as error:
            raise Invalid(f"{self.place}: it {error.message}", error.advice) from None
        except IniError as error:
            raise Invalid(f"{self.place}: {error.message}", "have it written as an INI file") from None
        for section in (self.name, f"profile {self.name}"):
            if parser.has_section(section):
                return dict(parser[section])
        there = ", ".join(sorted(name.removeprefix("profile ") for name in parser.sections())) or "none"
        raise Invalid(
            f"{self.place}: no such profile in it; there are: {hidden(there)}", "correct profile, or the file"
        )

    def _value(self, fields: dict[str, str], name: str) -> str:
        value = fields.get(name, "")
        if not value:
            raise self._invalid(f"{name} is missing", "have it write the three keys of a session")
        if not _VALUE.fullmatch(value):
            raise self._invalid(f"{name} is not what AWS has there", "one value on one line, without spaces")
        return value

    def _expiration(self, fields: dict[str, str], key: str) -> float:
        """What the profile says (the soonest, if it says several), or else what is known besides."""
        said = [name for name in EXPIRATIONS if fields.get(name)]
        # Without a zone a time is the host's to one program (AWSume) and UTC to another (aws-mfa).
        moments = [parse_time(fields[name]) for name in said]
        if known := [moment for moment in moments if moment is not None]:
            return min(known)
        if self.end is not None:
            return self.end(key)
        if said:
            what = f"{said[0]} is no {ISO_TIME}"
        else:
            what = f"no {EXPIRATIONS[0]}, {EXPIRATIONS[1]} or {EXPIRATIONS[2]}, so nobody knows when this session ends"
        raise self._invalid(what, "have it written there, or set lifetime: how long a session lives from being written")

    def _invalid(self, what: str, advice: str) -> Invalid:
        return Invalid(f"{self.place}: {what}", advice)
