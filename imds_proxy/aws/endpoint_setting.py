"""The endpoints that the environment or the AWS profile names: which setting says one, and whether it is a URL.

In: a session of botocore's. Out: what is wrong with the one that holds for a service. "Service-specific endpoints" of
the AWS SDKs and Tools guide has the order.
"""

import os
import re
from collections.abc import Iterator
from typing import Any, Final
from urllib.parse import urlsplit

from imds_proxy.aws.setting_error import SettingError
from imds_proxy.config.http_role import is_this_host
from imds_proxy.errors import Invalid
from imds_proxy.host.redaction import hidden

SIGNING_IN: Final = ("sts", "sso", "sso_oidc", "signin")
"""The services that are asked on the way to credentials, as their settings name them."""

_PRINTABLE: Final = re.compile(r"[!-~]+")
_LABEL: Final = r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
_HOST: Final = re.compile(rf"(?:{_LABEL}\.)*{_LABEL}\.?|[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*(?:%\w+)?")


def check(session: Any, *services: str) -> None:
    """Raise SettingError where the endpoint that holds for one of the services is no URL.

    Args:
        session: Of botocore or aiobotocore.
        services: As the settings name them: `sts`, `sso_oidc`.
    """
    if session.get_config_variable("ignore_configured_endpoint_urls"):
        return
    for service in services:
        setting, url = next(((name, value) for name, value in _named(session, service) if value), ("", ""))
        if setting and (what := fault(url)) is not None:
            raise SettingError(_malformed(setting, url, what))


def is_broken(session: Any) -> SettingError | None:
    """What `check` raises for any of the services that are asked for credentials; None where they are well."""
    try:
        check(session, *SIGNING_IN)
    except SettingError as error:
        return error
    return None


def fault(url: str) -> str | None:
    """Why it is no URL of a service; None for one that may be."""
    if not _PRINTABLE.fullmatch(url):
        return "holds a space, an end of line or another character that no URL has"
    if not re.match(r"(?i)https?://", url):
        return "does not begin with https://"
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        return _address_fault(url)
    if "@" in parts.netloc:
        return "holds a user or password"
    if not host or not _HOST.fullmatch(host):
        return "has no host name or address after https://"
    if port == 0:
        return _address_fault(url)
    return None


def _address_fault(url: str) -> str:
    place = url.partition("://")[2].partition("/")[0]
    if place.count(":") > 1 and not re.fullmatch(r"\[[^\[\]]+\](?::\d+)?", place):
        return "has an IPv6 address that is not in brackets, as in https://[::1]:4566"
    return "has a port that is no number from 1 to 65535"


def _named(session: Any, service: str) -> Iterator[tuple[str, str]]:
    """The settings that may name the endpoint of a service, the first one first, and their values."""
    for variable in (f"AWS_ENDPOINT_URL_{service.upper()}", "AWS_ENDPOINT_URL"):
        yield variable, os.environ.get(variable, "")
    profile = session.get_scoped_config()
    if (section := profile.get("services")) is not None:
        place = f"[services {section}] of the AWS config file"
        yield f"endpoint_url of {service} in {place}", _of(session, section, service)
    yield f"endpoint_url of the AWS profile {session.profile or 'default'}", str(profile.get("endpoint_url") or "")


def _of(session: Any, section: str, service: str) -> str:
    services = (session.full_config.get("services") or {}).get(section)
    if not services:
        raise SettingError.invalid(
            f"the AWS profile names [services {section}], and the AWS config file has no such section",
            "add the section, or remove services from the profile",
        )
    settings = services.get(service, {})
    if not isinstance(settings, dict):
        raise SettingError.invalid(
            f"{service} in [services {section}] of the AWS config file has a value, where settings belong below it",
            f"write {service} = and, on the next line and indented, endpoint_url = https://…",
        )
    return str(settings.get("endpoint_url") or "")


def _malformed(setting: str, url: str, what: str) -> Invalid:
    return Invalid(f'{setting} is "{hidden(url)}", which {what}', f"correct it{_suggestion(url)}, or remove it")


def _suggestion(url: str) -> str:
    """The URL that was probably meant, where that is plain."""
    bare = url.strip().strip("\"'")
    scheme = re.match(r"(?i)https?(?=:/)", bare)
    place = re.sub(r"(?i)^(?:[a-z]*:/*|/+)(?=[^0-9])", "", bare) if scheme or "://" in bare else bare
    for each in (scheme[0],) if scheme else ("http", "https"):
        meant = f"{each}://{place}"
        if fault(meant) is None and (each == "https" or is_this_host(meant)):
            return f", as in {hidden(meant)}"
    return ", as in https://sts.eu-west-1.amazonaws.com"
