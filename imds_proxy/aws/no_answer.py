"""What botocore, aiohttp and Python raise where AWS did not answer, as our outcomes with what to do about each.

Only what is about the network, a proxy or TLS is Unreachable: that may go by itself. All else is a setting of this
host, which somebody has to mend.
"""

import os
import ssl
from http import HTTPStatus
from typing import Final
from urllib.parse import urlsplit

import aiohttp
from aiohttp.http_exceptions import HttpProcessingError
from botocore import exceptions as boto

from imds_proxy.aws.call import Call
from imds_proxy.aws.chain_documents import config_mistake
from imds_proxy.aws.guarded_http import InTheClearError, UnsafeAnswerError
from imds_proxy.aws.setting_error import SettingError
from imds_proxy.errors import Denied, Invalid, SourceError, Unreachable
from imds_proxy.host import access_advice
from imds_proxy.host.redaction import hidden
from imds_proxy.host.region_typo import unknown_region
from imds_proxy.host.tls import BUNDLES, bundle_error
from imds_proxy.printable import printable

NOT_AWS: Final = "check sts_endpoint and the proxy: something between here and AWS answers in its place"
CONFIGURATION: Final = (
    "correct the AWS configuration that the daemon runs with: its environment, ~/.aws/config or ~/.aws/credentials"
)
"""What to do where botocore's own words are all that is known."""

_CLEAR_TEXT: Final = (
    "let it begin with https:, or remove it; a role's own sts_endpoint may be http:, with allow_http = true"
)
_NETWORK: Final = (
    boto.ConnectionClosedError,
    boto.ReadTimeoutError,
    boto.ResponseStreamingError,
    boto.ConnectionError,  # and what there is of it: endpoint, proxy, TLS, time limit
    boto.IncompleteReadError,
    boto.CapacityNotAvailableError,
)
_ON_THE_WAY: Final = (OSError, EOFError, aiohttp.ClientError, HttpProcessingError)
"""What a connection ends with, where botocore has no name of its own for it."""
_NO_URL: Final = (aiohttp.InvalidURL, aiohttp.NonHttpUrlClientError)
_NO_CREDENTIALS: Final = (
    boto.PartialCredentialsError,
    boto.NoCredentialsError,
    boto.NoAuthTokenError,
    boto.TokenRetrievalError,
    boto.SSOError,
    boto.LoginError,
)
_PLAIN: Final = (
    *_NO_CREDENTIALS,
    boto.ProfileNotFound,
    boto.CredentialRetrievalError,
    boto.InvalidConfigError,
    boto.ParamValidationError,
)
"""What says in its text all that the name of its class does."""
_OF_A_FILE: Final = (FileNotFoundError, PermissionError, IsADirectoryError, NotADirectoryError)


def without_answer(error: Exception, call: Call) -> SourceError:
    """The error of ours.

    Args:
        error: What was raised.
        call: What was tried.
    """
    cause = cause_of(error)
    for each in filter(None, (error, cause)):
        if (known := _before_sending(each, call)) is not None:
            return known
    if (unread := _of_ca_bundle(error, cause)) is not None:
        fault = bundle_error(next(filter(None, map(os.environ.get, BUNDLES)), "of the AWS profile"), unread)
        return type(fault)(call.message(fault.message), fault.advice)
    if outcome_of(error) is Unreachable:
        return _unreachable(error, cause, call)
    if type(error) is boto.HTTPClientError:
        what = f"the request cannot be sent as the settings want it ({type(cause).__name__})"
        return Invalid(call.message(what), CONFIGURATION)
    if isinstance(error, boto.ConfigParseError):
        what, advice = config_mistake(error)
        return Invalid(call.message(what), f"{CONFIGURATION}: {advice}")
    name = "" if isinstance(error, _PLAIN) else f"{type(error).__name__}: "
    return outcome_of(error)(call.message(f"{name}{_text(error, call)}"), CONFIGURATION)


def _of_ca_bundle(error: Exception, cause: BaseException | None) -> OSError | None:
    """What OpenSSL raised for a file of CAs, where that is the cause; while it connects, its errors are of SSL's own.

    It names no file, and urllib3 has wrapped it once more.
    """
    if cause is None or type(error) not in {boto.HTTPClientError, boto.SSLError}:
        return None
    for each in (cause, *cause.args):
        if isinstance(each, _OF_A_FILE):
            return each
        if isinstance(each, ssl.SSLError) and getattr(each, "library", None) not in {None, "SSL"}:
            return each
    return None


def outcome_of(error: Exception) -> type[SourceError]:
    """Whose trouble it is."""
    if isinstance(error, _NETWORK):
        return Unreachable
    if isinstance(error, boto.HTTPClientError):
        cause = cause_of(error)
        is_network = isinstance(cause, _ON_THE_WAY) and not isinstance(cause, _NO_URL)
        return Unreachable if is_network else Invalid
    if isinstance(error, OSError):  # TimeoutError is one
        return Unreachable
    return Denied if isinstance(error, _NO_CREDENTIALS) else Invalid


def cause_of(error: Exception) -> BaseException | None:
    """What an error of botocore's was made of."""
    given = getattr(error, "kwargs", None)
    cause = given.get("error") if isinstance(given, dict) else None
    return cause if isinstance(cause, BaseException) else None


def _before_sending(error: BaseException, call: Call) -> SourceError | None:
    """What was found here before anything was sent, or in an answer that was not taken."""
    match error:
        case SettingError():
            return type(error.error)(call.message(error.error.message), error.error.advice)
        case UnsafeAnswerError():
            return Invalid(call.message(str(error)), NOT_AWS)
        case InTheClearError():
            return Invalid(call.message(str(error)), _CLEAR_TEXT)
        case PermissionError() if error.filename:
            return Denied(
                call.message(f"{printable(error.filename)} may not be read by this user"),
                access_advice.readable(printable(error.filename)),
            )
        case OSError() if isinstance(error, _OF_A_FILE) and error.filename:
            what = f"{printable(error.filename)} cannot be read: {error.strerror}"
            return Invalid(call.message(what), f"correct the setting that names it: {_naming(error.filename)}")
    return None


def _naming(path: object) -> str:
    """The variables of the environment that name a file."""
    named = sorted(name for name, value in os.environ.items() if value == str(path))
    return " and ".join(named) or "it is in the AWS profile"


def _unreachable(error: Exception, cause: BaseException | None, call: Call) -> SourceError:
    url = str(getattr(error, "kwargs", {}).get("endpoint_url") or "")
    if isinstance(cause, aiohttp.ClientConnectorDNSError):
        if cause.host.lower() != urlsplit(url).hostname:
            what = f"the name of the proxy {hidden(cause.host)} is not found"
            return Unreachable(call.message(what), "correct HTTPS_PROXY, or see why DNS does not answer; it is retried")
        if (region := unknown_region(url)) is not None:
            return Invalid(call.message(region[0]), region[1])
    return Unreachable(call.message(f"{_text(error, call)}{_reason(cause)}"), _network_advice(error, cause, call))


def _reason(cause: BaseException | None) -> str:
    """The system's words for why there is no connection, which botocore leaves out."""
    if isinstance(cause, aiohttp.ClientConnectorDNSError):
        return " (name not found)"
    number = cause.os_error.errno if isinstance(cause, aiohttp.ClientConnectorError) else None
    if isinstance(cause, aiohttp.ClientHttpProxyError):
        return f" (it answered {cause.status})"
    return f" ({os.strerror(number).lower()})" if number and not isinstance(cause, ssl.SSLError) else ""


def _network_advice(error: Exception, cause: BaseException | None, call: Call) -> str:
    if isinstance(error, boto.ProxyConnectionError):
        if getattr(cause, "status", None) == HTTPStatus.PROXY_AUTHENTICATION_REQUIRED:
            return "the proxy in HTTPS_PROXY wants a login: write it as http://USER:PASSWORD@HOST:PORT, or set NO_PROXY"
        return f"the proxy in HTTPS_PROXY does not answer or refuses {call.endpoint}: check it, and NO_PROXY"
    if isinstance(error, boto.SSLError):
        return "the endpoint's certificate is not trusted: set AWS_CA_BUNDLE to the CA your network uses"
    return f"check DNS, route, firewall and HTTPS_PROXY towards {call.endpoint or 'AWS'}; it is retried"


def _text(error: Exception, call: Call) -> str:
    """What botocore says: it may repeat an answer, a file or a helper's words."""
    if type(error) is boto.HTTPClientError:  # of an answer that is no HTTP, its text has a piece
        return f"no HTTP that can be read ({type(cause_of(error)).__name__})"
    text = hidden(error, call.sent)
    return text or ("no answer in time" if isinstance(error, TimeoutError) else type(error).__name__)
