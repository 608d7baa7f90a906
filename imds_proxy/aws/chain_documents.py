"""What botocore's providers read, looked at before they do: SSO cache, a helper's document, environment.

botocore takes a file that is half written for one that is not there, and fails over a time without a zone with an
exception that names neither. In: what they would read. Out: the same. Errors: Invalid, which names the file or the
field and what mends it; no message repeats a value. "Configuring IAM Identity Center authentication with the AWS CLI"
of the AWS CLI user guide.
"""

import configparser
import json
import os
from pathlib import Path
from typing import Any, Final

import dateutil.parser  # type: ignore[import-untyped]  # as botocore reads a time
from botocore.utils import JSONFileCache

from imds_proxy.aws.ini_text import in_words
from imds_proxy.credentials import ISO_TIME
from imds_proxy.errors import Denied, Invalid
from imds_proxy.host import access_advice, utf8
from imds_proxy.host.utf8 import NotUtf8Error

_EXPIRES, _REGISTRATION_EXPIRES = "expiresAt", "registrationExpiresAt"
ENVIRONMENT_EXPIRATION: Final = "AWS_CREDENTIAL_EXPIRATION"


class SsoCache(JSONFileCache):  # type: ignore[misc]  # botocore publishes no types
    """The tokens that `aws sso login` leaves.

    Args:
        folder: Where they are.
        whose: Role and what is looked up, for the message.
        profile: That wants them; None: no profile of its own.
    """

    def __init__(self, folder: str, whose: str, profile: str | None) -> None:
        super().__init__(folder)
        self._whose = whose
        option = f" --profile {profile}" if profile and profile != "default" else ""
        self._advice = f"as the user the daemon runs as: aws sso login{option}"

    def __getitem__(self, cache_key: str) -> dict[str, Any]:
        """A token as botocore uses it.

        Raises:
            KeyError: There is none.
            Denied: This user may not read it.
            Invalid: It is half written, or not what is kept there.
        """
        path = Path(self._convert_cache_key(cache_key))
        try:
            token = json.loads(utf8.decoded(path.read_bytes()))
        except FileNotFoundError:
            raise KeyError(cache_key) from None
        except PermissionError:
            what = f"{self._whose}: SSO cache {path} may not be read by this user"
            raise Denied(what, access_advice.readable(str(path))) from None
        except OSError as error:
            raise self._invalid(path, f"cannot be read: {error.strerror}") from None
        except (ValueError, RecursionError, NotUtf8Error):
            raise self._invalid(path, "is half written, or no JSON") from None
        if not isinstance(token, dict):
            raise self._invalid(path, "holds no JSON object")
        if missing := [name for name in ("accessToken", _EXPIRES) if name not in token]:
            raise self._invalid(path, f"has no {missing[0]}")
        if not has_zone(token[_EXPIRES]):
            raise self._invalid(path, f"has an {_EXPIRES} that is no {ISO_TIME}")
        if not isinstance(token["accessToken"], str):
            raise self._invalid(path, "has an accessToken that is no text")
        if not has_zone(token.get(_REGISTRATION_EXPIRES)):
            token.pop(_REGISTRATION_EXPIRES, None)  # the token is good until its end, and not renewed without it
        return token

    def _invalid(self, path: Path, what: str) -> Invalid:
        return Invalid(f"{self._whose}: SSO cache {path} {what}", self._advice)


def helper_document(output: bytes, place: str) -> bytes:
    """What a `credential_process` printed. Raises Invalid where botocore could not read it.

    Args:
        output: All of it.
        place: Role and what printed it, for the message.
    """
    advice = "have it print the document of credential_process, version 1, and nothing else"
    try:
        document = json.loads(utf8.decoded(output))
    except (ValueError, RecursionError, NotUtf8Error):
        raise Invalid(f"{place}: {len(output)} bytes that are not JSON", advice) from None
    if not isinstance(document, dict):
        raise Invalid(f"{place}: no JSON object", advice)
    if document.get("Expiration") is not None and not has_zone(document["Expiration"]):
        raise Invalid(f"{place}: Expiration is no {ISO_TIME}", advice)
    return utf8.without_mark(output)


def check_environment(whose: str) -> None:
    """Raise Invalid where the environment has credentials, and says when they end in a way that is a guess."""
    said = os.environ.get(ENVIRONMENT_EXPIRATION)
    if said and os.environ.get("AWS_ACCESS_KEY_ID") and not has_zone(said):
        what = f"{whose}: {ENVIRONMENT_EXPIRATION} in the environment is no {ISO_TIME}"
        raise Invalid(what, "set it with its zone, or leave it out with the keys beside it")


def config_mistake(error: Any) -> tuple[str, str]:
    """What botocore's `ConfigParseError` is about, and what mends it: the file, and where it is wrong."""
    path, cause = error.kwargs.get("path"), error.kwargs.get("error")
    if str(getattr(cause, "line", "")).lstrip("'").startswith("\ufeff"):
        what, advice = "begins with a byte order mark, which the AWS SDKs do not read past", "save it without one"
    elif isinstance(cause, configparser.Error):
        what, advice = f"is not read by the AWS SDKs: {in_words(cause).message}", "correct it there"
    elif isinstance(cause, UnicodeDecodeError):
        what, advice = "is not UTF-8 text", "save it as UTF-8"
    else:
        what, advice = "is not read by the AWS SDKs", "one KEY = VALUE in each line"
    return f"{path} {what}", advice


def has_zone(said: object) -> bool:
    """Whether botocore reads a time of some zone from it."""
    try:
        return isinstance(said, str) and dateutil.parser.parse(said).tzinfo is not None
    except (ValueError, OverflowError):
        return False
