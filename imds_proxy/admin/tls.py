"""TLS of a server of ours: certificate, key and client CA, read again when their files change.

In: the `[admin]` table, or the files by name. Out: the context for the next connection. Errors: none; files that cannot
be used are told of in the log, are tried again, and leave those in use that were. Where there never were any, nobody is
served: in plain text least of all.
"""

import asyncio
import contextlib
import hashlib
import logging
import ssl
from dataclasses import dataclass
from typing import Any, Final

from imds_proxy.callers.caller import Caller
from imds_proxy.config.model import AdminConfig
from imds_proxy.errors import Invalid, SourceError
from imds_proxy.host.read_private import read_file
from imds_proxy.host.tls import show_certificate
from imds_proxy.host.watched_files import FileWatcher, WatchedFiles, unanswered
from imds_proxy.telemetry.log import told

log = logging.getLogger(__name__)

_TABLE: Final = "admin"
_AGAIN: Final = 30.0
"""Seconds until files that could not be used are tried again without having changed: a folder's mode may have."""
_SHUTDOWN_TIME: Final = 1.0
"""Seconds for a client's last word."""
_TOLD_EVERY: Final = 60.0  # seconds
_DEFECT: Final = "this is a defect of imds-proxy: please report this line"


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """Where certificate, key and client CA are; the last is None where no client is asked for a certificate."""

    certificate: str
    private_key: str
    client_ca: str | None

    @classmethod
    def of(cls, settings: AdminConfig) -> "TlsFiles | None":
        """Those of a config; None where it has none."""
        if settings.certificate is None or settings.private_key is None:
            return None
        return cls(settings.certificate, settings.private_key, settings.client_ca)

    def paths(self) -> list[str]:
        """Each of them."""
        return [self.certificate, self.private_key, *([self.client_ca] if self.client_ca is not None else [])]


@dataclass(frozen=True, slots=True)
class InUse:
    """What new connections get.

    Args:
        context: Theirs.
        fingerprint: SHA-256 of the server's certificate, as `openssl x509 -fingerprint -sha256` has it.
        client_ca: Of the file: who was verified by others sees nothing by it; None: nobody is asked.
    """

    context: ssl.SSLContext
    fingerprint: str
    client_ca: str | None


class Tls:
    """What one server proves itself with, from `follow` or `use` to `close`.

    Args:
        server: For the log: "control plane".
        setting: For the log: where its files are named.
        watcher: Tells when the files change; None: one of its own.
    """

    def __init__(
        self, server: str = "control plane", setting: str = "[admin]", watcher: FileWatcher | None = None
    ) -> None:
        self._watcher = watcher
        self._server, self._setting = server, setting
        self.files: TlsFiles | None = None
        """None: it speaks plain text."""
        self.in_use: InUse | None = None
        self._following: asyncio.Task[None] | None = None
        self._problem = ""
        self._told: float | None = None

    @property
    def client_ca(self) -> str | None:
        """The CAs whose certificates count: as the config says now, and as new connections get them; None: none."""
        if self.files is None or self.files.client_ca is None or self.in_use is None:
            return None
        return self.in_use.client_ca

    def follow(self, settings: AdminConfig) -> bool:
        """Take the files that a config names; whether TLS begins or ends with that."""
        return self.use(TlsFiles.of(settings))

    def use(self, files: TlsFiles | None) -> bool:
        """Take the files given, None for plain text; whether TLS begins or ends with that."""
        before, self.files = self.files, files
        if self.files == before:
            return False
        self.close()
        if self.files is None:
            self.in_use = None
        else:
            self._problem = ""
            self._following = asyncio.create_task(
                self._follow(self.files), name=f"follow the {self._server}'s TLS files"
            )
        return (self.files is None) != (before is None)

    def options(self, handshake_within: float) -> dict[str, Any]:
        """What `connect_accepted_socket` takes for a new connection; raises ConnectionAbortedError if none is served.

        Args:
            handshake_within: Seconds.
        """
        if self.files is None:
            return {}
        if self.in_use is None:
            raise ConnectionAbortedError
        times = {"ssl_handshake_timeout": handshake_within, "ssl_shutdown_timeout": _SHUTDOWN_TIME}
        return {"ssl": self.in_use.context, **times}

    def tell_of_refused(self, caller: Caller | None, error: ssl.SSLCertVerificationError) -> None:
        """Say now and then why a certificate is not accepted: its client sees only that the connection ends."""
        now = asyncio.get_running_loop().time()
        if caller is None or (self._told is not None and now - self._told < _TOLD_EVERY):
            return
        self._told = now
        extra = {"address": caller.address, "uid": caller.uid, "reason": error.verify_message}
        advice = f"have it issued by a CA in {self._setting} client_ca, or let the client show none"
        log.warning("a client's certificate is not accepted", extra=extra | {"advice": advice})

    def close(self) -> None:
        """Look at the files no longer."""
        if self._following is not None:
            self._following.cancel()

    async def _follow(self, files: TlsFiles) -> None:
        watched = WatchedFiles(*files.paths(), watcher=self._watcher)
        while True:
            is_used = await self._refresh(watched, files)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(None if is_used else _AGAIN):
                    await watched.changed()

    async def _refresh(self, watched: WatchedFiles, files: TlsFiles) -> bool:
        """Use what the files hold; whether it could be."""
        try:
            self._take(await watched.read(read, files), files)
        except TimeoutError:
            self._refuse(unanswered(_TABLE, f"one of {', '.join(files.paths())}"))
        except SourceError as error:
            self._refuse(error)
        except Exception as error:  # noqa: BLE001 - whatever a library raises, the control plane goes on
            self._refuse(Invalid(f"unexpected {told(error)}", _DEFECT))
        else:
            return True
        return False

    def _take(self, found: InUse, files: TlsFiles) -> None:
        before, self.in_use, self._problem = self.in_use, found, ""
        if before is None or (before.fingerprint, before.client_ca) != (found.fingerprint, found.client_ca):
            extra = {"files": " ".join(files.paths()), "sha256": found.fingerprint}
            log.info(f"the {self._server} has a certificate in use", extra=extra)  # noqa: G004 - one of few

    def _refuse(self, error: SourceError) -> None:
        message = message_of(error, self._setting)
        is_news, self._problem = message != self._problem, message
        if not is_news:
            return
        extra = {"error": message, "advice": error.advice}
        if self.in_use is None:
            log.error(f"no {self._server}", extra=extra)  # noqa: G004 - one of few
        else:
            log.warning(
                f"the {self._server}'s certificate, key or client CA cannot be used: those before go on",  # noqa: G004
                extra=extra | {"sha256": self.in_use.fingerprint},
            )


def message_of(error: SourceError, setting: str = "[admin]") -> str:
    """What an error says, which is not of a role."""
    return error.message.replace(f'role "{_TABLE}": ', f"{setting} ", 1)


def read(files: TlsFiles) -> InUse:
    """What the files hold. Reads them: call it beside the loop.

    Raises:
        SourceError: One is missing, open to others, no PEM; the key is another certificate's, or encrypted.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_RENEGOTIATION  # any client could have a handshake made again and again
    certificate = show_certificate(context, _TABLE, "", files.certificate, files.private_key)
    client_ca = None if files.client_ca is None else _trust(context, files.client_ca)
    return InUse(context, _fingerprint(files.certificate, certificate), client_ca)


def first_certificate(pem: bytes) -> bytes:
    """The first certificate of those in PEM, as DER; raises ValueError where there is none."""
    begin, end = "-----BEGIN CERTIFICATE-----", "-----END CERTIFICATE-----"
    text = pem.decode("ascii", "replace")
    return ssl.PEM_cert_to_DER_cert(begin + text.partition(begin)[2].partition(end)[0] + end)


def _fingerprint(path: str, pem: bytes) -> str:
    try:
        return hashlib.sha256(first_certificate(pem)).hexdigest()
    except ValueError:
        what = f'role "{_TABLE}": certificate {path} does not begin with a certificate'
        raise Invalid(what, "put the server's own certificate first, then its intermediates") from None


def _trust(context: ssl.SSLContext, path: str) -> str:
    """Ask clients for a certificate, and accept those of the CAs in a file; its content."""
    content = read_file(_TABLE, path, "client CA", private=False, trusted=True).decode("ascii", "replace")
    with contextlib.suppress(ssl.SSLError, ValueError):
        context.load_verify_locations(cadata=content)
    if not context.get_ca_certs():
        what = f'role "{_TABLE}": client CA {path} holds no CA certificate in PEM'
        raise Invalid(what, "put the certificates of the CAs there, and nothing else")
    context.verify_mode = ssl.CERT_OPTIONAL
    return content
