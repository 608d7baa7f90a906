"""What an access key id and a secret key look like, and whether the two were mistaken for each other.

A key id is shown to people by its last four characters and sent in the clear; a secret key that stands in its place
would be too. "AccessKey" of the IAM API reference: an id has 16 to 128 letters and digits. Those that AWS makes are 20
capitals and digits, secret keys 40 characters of base64, session tokens hundreds of them. Doubles of AWS have ids of
any other form, such as `test`.
"""

import re
from typing import Final

_KEY_ID: Final = re.compile(r"(?:AKIA|ASIA)[A-Z0-9]{12,28}")
_LONGEST_ID: Final = 128
_SHORTEST_WITH_SIGNS: Final = 16
"""An id has none of + / =, which a secret key of base64 mostly has; a short one may be anybody's invention."""
_SHORTEST_MIXED: Final = 32
"""From so many characters on, capitals, small letters and digits together are drawn at random."""
_SIGNS: Final = re.compile(r"[+/=]")
_MIXED: Final = re.compile(r"(?=.*[a-z])(?=.*[A-Z])(?=.*[0-9]).*", re.DOTALL)
_SENDABLE: Final = re.compile(r"[!-~]+")
_LETTERS: Final = re.compile(r"(?=.*[a-z])(?=.*[A-Z])[A-Za-z0-9]{40}", re.DOTALL)


def looks_secret(key_id: str) -> bool:
    """Whether what stands in the place of a key id has the form of a secret key or of a session token."""
    if len(key_id) > _LONGEST_ID:
        return True
    if len(key_id) >= _SHORTEST_WITH_SIGNS and _SIGNS.search(key_id):
        return True
    return bool(_LETTERS.fullmatch(key_id)) or (len(key_id) >= _SHORTEST_MIXED and bool(_MIXED.fullmatch(key_id)))


def are_swapped(key_id: str, secret_key: str) -> bool:
    """Whether a pair must not be used: the id looks secret, or the secret key looks like an id of AWS's."""
    return looks_secret(key_id) or bool(_KEY_ID.fullmatch(secret_key))


def fault(value: str) -> str | None:
    """What keeps a key id, a secret key or a session token from being sent; None for one that can be. Nothing of it."""
    if _SENDABLE.fullmatch(value):
        is_quoted = len(value) > 1 and value[0] == value[-1] and value[0] in "\"'"
        return "stands in quotes, which are taken as a part of it" if is_quoted else None
    if not value:
        return "is empty"
    if value.endswith(("\r", "\n")):
        return "ends with an end of line (CR or LF), as a file with Windows line ends leaves it"
    return "holds a space, an end of line or another character that no key has"


def hint(key_id: str) -> str:
    """How a key is named to people: its last four characters, and nothing of what looks secret."""
    return "***" if looks_secret(key_id) else key_id[-4:]


SWAPPED: Final = "the access key id has the form of a secret, or the secret key that of an id: are the two swapped?"
SWAPPED_ADVICE: Final = (
    "where they come from, write the id (AKIA… or ASIA…, 20 capitals and digits) as the id, and the 40 characters as"
    " the secret key; neither was sent anywhere, but replace a secret that others may have read as the id"
)
