"""The role that is asked for at `/v1/credentials/VALUE` or `…/security-credentials/VALUE`: its ARN, or its name.

The value comes from an annotation of the pod (`eks.amazonaws.com/role-arn`, or kube2iam's `iam.amazonaws.com/role`),
but it is the client that sends it: it chooses among the roles that are granted, and gives no other.
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
_ARN: Final = r"arn:aws[a-z-]*:iam::[0-9]{12}:role/([A-Za-z0-9_+=,.@-]+/)*[A-Za-z0-9_+=,.@-]{1,64}"
_ROLE: Final = re.compile(_ARN + r"|[A-Za-z0-9_][A-Za-z0-9_+=,.@-]{0,63}")
_ROLE_WITH_PATH: Final = re.compile(_ARN + r"|([A-Za-z0-9_+=,.@-]+/)*[A-Za-z0-9_+=,.@-]{1,64}")
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


def is_role(name: str) -> bool:
    """Whether a name has the form of a role's ARN, or of its name with or without its path."""
    return len(name) <= _LONGEST and _ROLE_WITH_PATH.fullmatch(name) is not None


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

    def named(self, granted: Sequence[str], asked: str) -> str | None:
        """The granted role that an instance metadata client asks for; None: there is none, or several fit.

        The list shows the name in the config. kube2iam and kiam show what a pod's annotation has, an ARN or a name with
        its path; clients that are configured with that, or that keep it, go on asking for it.
        """
        if asked in granted:
            return asked
        if not is_role(asked):
            return None
        if asked.startswith("arn:"):
            return self.among(granted, asked)
        names = {name: self._iam_name(name) for name in granted}
        exact = [name for name in granted if names[name] == asked]
        fitting = exact or [name for name in granted if names[name].rpartition("/")[2] == asked]
        return fitting[0] if len(fitting) == 1 else None

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

    def _iam_name(self, name: str) -> str:
        """What IAM calls a role, with its path; without where only its session tells; "" where nothing does."""
        live = self._live(name)
        arn = self._arns.get(name) or (live.role_arn if live is not None else None)
        if arn is not None:
            return arn.partition(":role/")[2]
        session = live.session_arn if live is not None else None
        return (session or "").partition(":assumed-role/")[2].partition("/")[0]

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
