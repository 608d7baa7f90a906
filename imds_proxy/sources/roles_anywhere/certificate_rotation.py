"""The certificate and key that a source signs with, while their files are being replaced.

New files are read, checked and proven first. What does not match, is torn, expired or open to others leaves the pair
that is in use where it is, with a count and one line in the log. Nothing here ends the daemon.
"""

import asyncio
import logging
from typing import TYPE_CHECKING, Final

from imds_proxy.config.roles import RolesAnywhereConfig
from imds_proxy.errors import Denied, Invalid, SourceError, Unreachable
from imds_proxy.host.clock import Clock
from imds_proxy.host.extras import how_to_install
from imds_proxy.host.threads import in_thread
from imds_proxy.host.watched_files import FileWatcher, WatchedFiles
from imds_proxy.sources.roles_anywhere import key_files, key_pair
from imds_proxy.sources.roles_anywhere.key_files import KeyFiles, TokenSign
from imds_proxy.sources.roles_anywhere.key_pair import KeyPair
from imds_proxy.telemetry.log import told
from imds_proxy.telemetry.stats import CertificateStats

if TYPE_CHECKING:
    from imds_proxy.sources.roles_anywhere.pkcs11 import TokenKey

log = logging.getLogger(__name__)

_TIME_LIMIT: Final = 20.0


class CertificateInUse:
    """One role's pair.

    Args:
        role: The name it has in the config.
        settings: Where the pair is.
        clock: Wall time.
        watcher: Tells when the files change; None: its own.
    """

    def __init__(
        self, role: str, settings: RolesAnywhereConfig, clock: Clock, watcher: FileWatcher | None = None
    ) -> None:
        self.stats = CertificateStats()
        self._role = role
        self._settings = settings
        self._clock = clock
        self._files = WatchedFiles(*key_files.paths(settings), watcher=watcher)
        self._reading = asyncio.Lock()
        self._pair: KeyPair | None = None
        self._seen: str | None = None
        """What the files were like when they were last judged."""
        self._problem: SourceError | None = None
        """Why they were refused then."""
        self._token: TokenKey | None = None

    async def pair(self) -> KeyPair:
        """The pair to sign with now.

        Raises:
            SourceError: There is none that could be used, or it has expired and its files hold no better one.
        """
        await self._refresh()
        if self._pair is None:
            assert self._problem is not None  # noqa: S101 - one of the two there is
            raise type(self._problem)(self._problem.message, self._problem.advice)
        try:
            key_pair.alive(self._role, self._pair, self._clock.now())
        except Denied as error:
            if self._problem is None:
                raise
            raise Denied(f"{error.message}; and its files: {self._problem.message}", self._problem.advice) from None
        return self._pair

    async def changed(self) -> None:
        """Return once the files hold another pair, and that is in use."""
        while True:
            await self._files.changed()
            if await self._refresh():
                return

    async def _refresh(self) -> bool:
        """Look at the files, and take what they hold if it is new and good; whether there is another pair now."""
        async with self._reading:
            seen = None
            try:
                async with asyncio.timeout(_TIME_LIMIT):
                    files = await self._files.read(key_files.read, self._role, self._settings, within=_TIME_LIMIT)
                    seen = files.digest()
                    if seen == self._seen and self._problem is None:
                        return False
                    return self._accept(await in_thread(self._judge, files), seen)
            except SourceError as error:
                self._refuse(error, seen or error.message)
            except TimeoutError:
                advice = "see whether the file system and the token that they are on work; the next renewal tries again"
                what = f'role "{self._role}": certificate and key could not be read within {_TIME_LIMIT:g} s'
                self._refuse(Unreachable(what, advice), seen or what)
            except Exception as error:  # noqa: BLE001 - a token's library may raise anything; the old pair goes on
                what = f'role "{self._role}": unexpected {told(error)} while certificate and key were read'
                self._refuse(Invalid(what, "this is a defect of imds-proxy: please report this line"), seen or what)
            return False

    def _judge(self, files: KeyFiles) -> KeyPair:
        pair = key_files.pair_of(self._role, self._settings, files, self._signing_token())
        key_pair.acceptable(self._role, pair, self._clock.now())
        key_pair.belongs(self._role, pair)
        return pair

    def _accept(self, pair: KeyPair, seen: str) -> bool:
        before, self._pair = self._pair, pair
        self._seen, self._problem = seen, None
        self.stats.issued, self.stats.expiration = pair.issued, pair.expiration
        if pair == before:
            return False
        log.info("certificate in use", extra={"role": self._role, "certificate": str(pair), "before": str(before)})
        return True

    def _refuse(self, error: SourceError, seen: str) -> None:
        news = seen != self._seen or self._problem is None
        self._seen, self._problem = seen, error
        if not news:
            return
        self.stats.refused += 1
        log.warning(
            "certificate files cannot be used",
            extra={
                "role": self._role,
                "in_use": str(self._pair) if self._pair else "none",
                "files": " ".join(key_files.paths(self._settings)),
                "error": error.message,
                "advice": error.advice,
            },
        )

    def _signing_token(self) -> TokenSign | None:
        """What signs in place of a key in a file, where the config says so."""
        uri, module = self._settings.private_key, self._settings.pkcs11_module
        if uri is None or module is None:
            return None
        if self._token is None:
            self._token = _token_key(self._role, module, uri)
        return self._token.sign


def _token_key(role: str, module: str, uri: str) -> "TokenKey":
    try:
        from imds_proxy.sources.roles_anywhere.pkcs11 import TokenKey  # noqa: PLC0415 - an extra of its own
    except ModuleNotFoundError as error:
        raise Invalid(
            f'role "{role}": a key on a token needs the Python package {error.name}, which is not installed',
            how_to_install("pkcs11", str(error.name)),
        ) from None
    return TokenKey(role, module, uri)
