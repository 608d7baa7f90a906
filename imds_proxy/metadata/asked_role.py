"""The role that is asked for at `/v1/credentials/VALUE`: a role's ARN, or its name in the config.

The value comes from an annotation of the pod's service account (`eks.amazonaws.com/role-arn`), but it is the client
that sends it: it chooses among the roles that are granted, and gives no other.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Final
from urllib.parse import unquote

from imds_proxy.credentials import Credentials
from imds_proxy.renewal.keeper import Keeper

NO_ROLE: Final = "?"
"""What is asked for by a value that has the form of no role; no role has this name."""

_LONGEST: Final = 640  # characters; IAM has paths of 512 and names of 64
_ROLE: Final = re.compile(
    r"arn:aws[a-z-]*:iam::[0-9]{12}:role/([A-Za-z0-9_+=,.@-]+/)*[A-Za-z0-9_+=,.@-]{1,64}"
    r"|[A-Za-z0-9_][A-Za-z0-9_+=,.@-]{0,63}"
)
_ENCODED: Final = re.compile(r"%(?:3A|2F|2B|3D|2C|40)", re.IGNORECASE)  # : / + = , @


def asked_role(path: str) -> str:
    """The role that the rest of a path names, or NO_ROLE.

    Clients send a URL as it was given to them; of the percent-encoded forms those are taken that RFC 3986 lets a client
    make of the characters of a role: every other one is somebody's try.

    Args:
        path: As it was sent, without a slash before and behind it.
    """
    role = _ENCODED.sub(lambda found: unquote(found[0]), path)
    return role if len(role) <= _LONGEST and _ROLE.fullmatch(role) else NO_ROLE


class AskedRoles:
    """Finds the granted role that is asked for.

    Args:
        arns: The ARN of each role as the config says it; None where only the role's session tells.
        keepers: The roles that are handed out.
    """

    def __init__(self, arns: Mapping[str, str | None], keepers: Mapping[str, Keeper]) -> None:
        self._arns = arns
        self._keepers = keepers

    def among(self, granted: Sequence[str], asked: str) -> str | None:
        """The first granted role that is the asked one; None: there is none.

        A role whose ARN nothing tells yet may be the one: it is taken if no other is. It has no credentials yet.
        """
        verdicts = {name: self._is(name, asked) for name in granted}
        return next((name for wanted in (True, None) for name in granted if verdicts[name] is wanted), None)

    def without_arn(self, granted: Sequence[str]) -> list[str]:
        """Those granted roles that can be asked for by their name alone."""
        return [name for name in granted if self._arns.get(name) is None and not _tells(self._live(name))]

    def _is(self, name: str, asked: str) -> bool | None:
        if not asked.startswith("arn:"):
            return asked == name
        if (arn := self._arns.get(name)) is not None:
            return asked == arn
        live = self._live(name)
        return None if live is None else _is_session_of(asked, live)

    def _live(self, name: str) -> Credentials | None:
        held = keeper.live() if (keeper := self._keepers.get(name)) is not None else None
        return held.credentials if held is not None else None


def _tells(live: Credentials | None) -> bool:
    return live is not None and (live.role_arn or live.session_arn) is not None


def _is_session_of(role_arn: str, session: Credentials) -> bool:
    """Whether a session is of a role. Its own ARN leaves the role's path out, but names are unique in an account."""
    if session.role_arn is not None:
        return session.role_arn == role_arn
    if session.session_arn is None:
        return False
    of_role, of_session = role_arn.split(":"), session.session_arn.split(":")
    kind, _, rest = of_session[-1].partition("/")
    same_account = of_role[1] == of_session[1] and of_role[4] == of_session[4]
    return same_account and kind == "assumed-role" and rest.partition("/")[0] == of_role[-1].rpartition("/")[2]
