"""Session tokens (IMDSv2): stateless, so that neither a restart nor a flood of requests costs anybody theirs.

A token is base64url of `version (1) | expiry in ms (6) | MAC (17)`: 32 header-safe characters. The MAC is HMAC-SHA256
over version, expiry and the caller the token was given to (PROTOCOL.md 9).
"""

import hmac
import logging
import secrets
from base64 import urlsafe_b64decode, urlsafe_b64encode
from binascii import Error as Base64Error
from dataclasses import dataclass

from imds_proxy.callers.grant_token_files import TokenFiles
from imds_proxy.callers.kubernetes.verifier import ServiceAccounts
from imds_proxy.host.state_dir import StateDir, StateError
from imds_proxy.metadata.role_tokens import RoleTokens

log = logging.getLogger(__name__)

LONGEST_TTL = 21600

_VERSION = b"\x01"
_EXPIRY_BYTES = 6
_MAC_BYTES = 17
_HEAD_BYTES = len(_VERSION) + _EXPIRY_BYTES
_TOKEN_CHARACTERS = (_HEAD_BYTES + _MAC_BYTES) * 4 // 3
_VERIFIED_KEPT = 1024
"""Tokens whose MAC is not computed again; forgetting one costs 10 µs and nothing else."""

_KEY_BYTES = 32
_KEY_FILE = "token.key"


class SessionTokens:
    """Issues and checks tokens under one key.

    Args:
        key: The key; left out: one of this process alone, until there is one that is kept.
    """

    def __init__(self, key: bytes | None = None) -> None:
        self._key = key or secrets.token_bytes(_KEY_BYTES)
        self._keys: tuple[bytes, ...] = (self._key,)
        self._verified: dict[tuple[str, bytes], int] = {}

    def __repr__(self) -> str:
        return "SessionTokens(***)"

    def use_key(self, key: bytes) -> None:
        """Issue under `key` from now on; tokens under those before hold until their end."""
        self._key = key
        self._keys = (key, *self._keys)

    def issue(self, ttl: int, principal: bytes, now: float) -> str:
        """A token for `ttl` seconds."""
        head = _VERSION + int((now + ttl) * 1000).to_bytes(_EXPIRY_BYTES)
        return urlsafe_b64encode(head + _mac(self._key, head, principal)).decode()

    def seconds_left(self, token: str, principal: bytes, now: float) -> int:
        """How long a token still holds, rounded up; 0 for one that is expired, forged, or another caller's."""
        expiry = self._verified.get((token, principal)) or self._verify(token, principal)
        left = (expiry + 999 - int(now * 1000)) // 1000
        if left <= 0:
            return 0
        return min(left, LONGEST_TTL)  # a clock that was set back makes no token eternal

    def _verify(self, token: str, principal: bytes) -> int:
        """When a token expires, in milliseconds since the epoch; 0 for one that is none of ours."""
        if len(token) != _TOKEN_CHARACTERS:
            return 0
        try:
            raw = urlsafe_b64decode(token)
        except (Base64Error, ValueError):
            return 0
        head, mac = raw[:_HEAD_BYTES], raw[_HEAD_BYTES:]
        fits = [hmac.compare_digest(mac, _mac(key, head, principal)) for key in self._keys]
        if not any(fits) or head[:1] != _VERSION:
            return 0
        if len(self._verified) >= _VERIFIED_KEPT:
            self._verified.clear()
        expiry = self._verified[token, principal] = int.from_bytes(head[1:])
        return expiry


def _mac(key: bytes, head: bytes, principal: bytes) -> bytes:
    return hmac.digest(key, head + principal, "sha256")[:_MAC_BYTES]


@dataclass(frozen=True, slots=True)
class Tokens:
    """Every kind of token that proves who asks.

    Args:
        session: Of the instance metadata protocol.
        roles: Of the container protocol: of each role that has one in the state directory.
        files: Those in the files that grants name.
        service_accounts: Says whose a service account's token is.
    """

    session: SessionTokens
    roles: RoleTokens
    files: TokenFiles
    service_accounts: ServiceAccounts


def load_or_make_key(state: StateDir | None) -> bytes:
    """The key kept in the state directory, made there when it is missing.

    Where it cannot be kept, or is rubbish, a key of this process alone, with a word in the log: clients then fetch a
    new token after a restart, which the Rust SDK does only after hours (PROTOCOL.md 9).
    """
    if state is not None:
        try:
            return _kept_key(state)
        except StateError as error:
            extra = {"error": error.message, "advice": error.advice}
            log.warning("session tokens will not outlive this process", extra=extra)
    return secrets.token_bytes(_KEY_BYTES)


def _kept_key(state: StateDir) -> bytes:
    key = state.read(_KEY_FILE)
    if key is None:
        key = secrets.token_bytes(_KEY_BYTES)
        state.write(_KEY_FILE, key)
    if len(key) != _KEY_BYTES:
        raise StateError(f"{state.path / _KEY_FILE} does not hold {_KEY_BYTES} bytes", "remove it to have one made")
    return key
