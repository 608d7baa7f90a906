"""`[service_accounts]`: whose token a pod shows, judged from memory. What costs much to import waits for the config.

In: the config, and tokens. Out: accounts. Errors: NotAccepted, KeysMissing.
"""

import asyncio
import importlib
import logging
from typing import TYPE_CHECKING, Final

from imds_proxy.callers.caller import ServiceAccount
from imds_proxy.callers.kubernetes.token import NotAccepted, account_of, read
from imds_proxy.config.grants import ServiceAccountsConfig
from imds_proxy.config.model import Config
from imds_proxy.errors import ImdsProxyError
from imds_proxy.host.extras import how_to_install
from imds_proxy.host.file_watcher import FileWatcher

if TYPE_CHECKING:
    from imds_proxy.callers.kubernetes.jwks import SigningKeys
    from imds_proxy.callers.kubernetes.jwks_refresh import KeySet

log = logging.getLogger(__name__)

__all__ = ["KeysMissing", "NotAccepted", "ServiceAccounts", "missing_package"]

_KEY_SET: Final = "imds_proxy.callers.kubernetes.jwks_refresh"
_PACKAGES: Final = {"jwt": "PyJWT"}  # where the module has another name
_NOT_YET: Final = "the keys to verify the token with are not here yet"


class KeysMissing(ImdsProxyError):  # noqa: N818 - a verdict, not a fault
    """The keys to judge a token with are not here yet: try again."""


class ServiceAccounts:
    """The daemon's side: the issuer's keys are kept fresh beside everything else, as the config wants it.

    Args:
        watcher: Tells when files change; None: one of its own.
    """

    def __init__(self, watcher: FileWatcher | None = None) -> None:
        self._watcher = watcher
        self._settings: ServiceAccountsConfig | None = None
        self._followed = False
        self._keys: KeySet | None = None
        self._task: asyncio.Task[None] | None = None

    def verify(self, token: str, now: float) -> ServiceAccount:
        """Whose token it is.

        Args:
            token: As the client sent it.
            now: Wall time, seconds since the epoch.

        Raises:
            NotAccepted: It proves nothing here.
            KeysMissing: Its key may be among those that are being fetched.
        """
        if self._settings is None:
            raise NotAccepted("no [service_accounts] are configured here") if self._followed else KeysMissing(_NOT_YET)
        unverified = read(token)
        # A claim counts once the signature is verified; but what cannot be accepted makes nobody fetch keys.
        account = account_of(unverified.claims, self._settings, now)
        self._known_keys(unverified.key_id).verify(unverified)
        return account

    def _known_keys(self, key_id: str) -> "SigningKeys":
        """The keys, with the one that is named."""
        keys = self._keys.keys if self._keys is not None else None
        if keys is not None and key_id in keys.keys:
            return keys
        if self._keys is None or self._keys.look_for(key_id) or keys is None:
            raise KeysMissing(_NOT_YET)
        raise NotAccepted("the token's key is not one of the issuer's")

    async def follow(self, config: Config) -> None:
        """Start, stop or leave it, as the config says. Keys stay where their place and one issuer are the same.

        Whom to believe is another one before this waits for anything: grants of the new config hold already.
        """
        settings, self._followed = config.service_accounts, True
        if settings == self._settings:
            return
        if not _same_keys(settings, self._settings):
            self._keys = None
        self._settings = settings
        await self.close()
        if settings is not None:
            self._task = asyncio.create_task(self._keep(settings), name="keep service account keys")

    async def close(self) -> None:
        """Fetch no more keys."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def _keep(self, settings: ServiceAccountsConfig) -> None:
        problem = await asyncio.to_thread(missing_package)
        if problem is not None:
            log.error("no service account is believed", extra={"error": problem.message, "advice": problem.advice})
            return
        known = self._keys and self._keys.keys
        keys: KeySet = importlib.import_module(_KEY_SET).KeySet(settings, known, self._watcher)
        self._keys = keys
        await keys.run()


def missing_package() -> ImdsProxyError | None:
    """What keeps this installation from judging tokens. Imports what judges them: call it beside the loop."""
    try:
        importlib.import_module(_KEY_SET)
    except ModuleNotFoundError as error:
        package = _PACKAGES.get(str(error.name), error.name)
        return ImdsProxyError(
            f"[service_accounts] needs the Python package {package}, which is not installed",
            how_to_install("kubernetes", str(error.name)),
        )
    return None


def _same_keys(one: ServiceAccountsConfig | None, other: ServiceAccountsConfig | None) -> bool:
    """Whether keys fetched for the one are the other's too: a cluster that gets a second issuer keeps them."""
    if one is None or other is None:
        return False
    in_place = (one.jwks_url, one.jwks_file) == (other.jwks_url, other.jwks_file)
    return in_place and not set(one.issuer).isdisjoint(other.issuer)
