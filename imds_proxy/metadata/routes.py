"""Which document a request target means (PROTOCOL.md 2, 4 and 5).

The names of documents are also the metrics' label: a fixed few, whatever a client sends.
"""

import re
from dataclasses import dataclass
from typing import Final
from urllib.parse import unquote

from imds_proxy.metadata.asked_role import asked_role, is_role

TOKEN: Final = "token"  # noqa: S105 - a document's name
VERSIONS: Final = "versions"
IAM: Final = "iam"
INFO: Final = "info"
ROLE_LIST: Final = "role_list"
CREDENTIALS: Final = "credentials"
EXTENDED: Final = "credentials_extended"
CONTAINER: Final = "container"
"""A role by its name, over the container protocol; answered as CREDENTIALS, like the next."""
SERVICE_ACCOUNT: Final = "service_account"
"""The role of whoever shows a service account's token; its name is the role asked for, empty where none is."""
INSTANCE: Final = "instance"
UNKNOWN: Final = "unknown"

_VERSION = re.compile(r"latest|1\.0|20[0-9]{2}-[0-9]{2}-[0-9]{2}")


@dataclass(frozen=True, slots=True)
class Route:
    """A document, and which of its kind: a role's name, or a path under the version for INSTANCE."""

    document: str
    name: str = ""


def route(target: str) -> Route:
    """The route of a request target."""
    parts = _parts(target)
    match [unquote(part) for part in parts] if "%" in target else parts:
        case ["roles", name]:
            return Route(CONTAINER, name)
        case ["v1", "credentials", *asked]:
            return Route(SERVICE_ACCOUNT, asked_role("/".join(parts[2:])) if asked else "")
        case ["roles" | "v1", *_]:
            return Route(CONTAINER)
        case ["latest", "api", "token"]:
            return Route(TOKEN)
        case []:
            return Route(VERSIONS)
        case [version, *path] if _VERSION.fullmatch(version):
            return _iam(path[2:]) if path[:2] == ["meta-data", "iam"] else Route(INSTANCE, "/".join(path))
    return Route(UNKNOWN)


def _iam(path: list[str]) -> Route:
    match path:
        case []:
            return Route(IAM)
        case ["info"]:
            return Route(INFO)
        case ["security-credentials" | "security-credentials-extended"]:
            return Route(ROLE_LIST)
        case ["security-credentials", *name] if _is_one(name):
            return Route(CREDENTIALS, "/".join(name))
        case ["security-credentials-extended", *name] if _is_one(name):
            return Route(EXTENDED, "/".join(name))
    return Route(UNKNOWN)


def _is_one(name: list[str]) -> bool:
    """Whether the rest of a path is one role's name: kube2iam's and kiam's have the role's path in it."""
    return len(name) == 1 or is_role("/".join(name))


def _parts(target: str) -> list[str]:
    """A request target's path between its slashes; repeated and final ones do not count."""
    path = target.partition("?")[0]
    if path[:7].lower() == "http://":  # absolute form, as through a proxy
        path = path[7:].partition("/")[2]
    return [part for part in path.split("/") if part]
