"""Certificates and CAs of TLS connections, as `ssl` contexts.

In: files in PEM. Out: a context. Errors: Invalid, Denied, Unreachable; a message has the file, and what is wrong.
"""

import contextlib
import os
import ssl
from collections.abc import Callable, Iterator
from typing import Final

from imds_proxy.errors import Denied, Invalid, SourceError, Unreachable
from imds_proxy.host import access_advice
from imds_proxy.host.file_content import mistaken_ca
from imds_proxy.host.open_files import exhausted
from imds_proxy.host.read_private import read_file
from imds_proxy.host.watched_files import Signature, signature

BUNDLES: Final = ("AWS_CA_BUNDLE", "REQUESTS_CA_BUNDLE")
_AS_PEM: Final = "name a file that begins with -----BEGIN CERTIFICATE-----"
_LOOKED_AT: Final = 1 << 16  # bytes
_MOST_KEPT: Final = 64
"""Contexts; one that trusts the system's CAs is 1 MB, one of a single CA a hundredth of that."""


class KeptContexts:
    """TLS contexts, each kept for as long as the files that it was made of stay the same.

    To read the system's CAs takes 50 ms of a core, which is most of what a failed attempt would cost.
    Safe to be used in several threads; two that begin at once may both make one.
    """

    def __init__(self) -> None:
        self._kept: dict[tuple[str | None, ...], tuple[list[Signature | None], ssl.SSLContext]] = {}

    def get(self, paths: tuple[str | None, ...], make: Callable[[], ssl.SSLContext]) -> ssl.SSLContext:
        """What `make()` made of the files, again if one of them is another by now. Blocks: call it beside the loop.

        Args:
            paths: Of files, or folders of CAs; None: there is none.
            make: Makes one of them; what it raises is raised, and asked for again the next time.
        """
        found = [signature(path) if path else None for path in paths]
        kept = self._kept.pop(paths, None)
        if kept is None or kept[0] != found:
            kept = found, make()
        self._kept[paths] = kept
        while len(self._kept) > _MOST_KEPT:
            self._kept.pop(next(iter(self._kept)), None)
        return kept[1]

    def trusting(self, role: str, ca_bundle: str | None = None) -> ssl.SSLContext:
        """`tls_context` without a certificate of one's own. Blocks; raises as it does."""
        bundle = _bundle(ca_bundle)
        system = ssl.get_default_verify_paths()
        paths = (bundle,) if bundle else (None, system.cafile, system.capath)
        return self.get(paths, lambda: tls_context(role, bundle))


def tls_context(
    role: str, ca_bundle: str | None = None, certificate: str | None = None, key: str | None = None
) -> ssl.SSLContext:
    """TLS that trusts a bundle's CAs, or those of AWS_CA_BUNDLE, or the system's, and shows a certificate if asked to.

    Takes tens of milliseconds: call it beside the loop.

    Raises:
        Invalid: A file is missing or is not PEM; the key is another certificate's, encrypted, or open to others.
        Denied: A file may not be read.
        Unreachable: No file can be opened at this time.
    """
    ca_bundle = _bundle(ca_bundle)
    try:
        context = ssl.create_default_context(cafile=ca_bundle)
    except OSError as error:  # ssl.SSLError is one
        if (shortage := exhausted(error)) is not None:
            raise Unreachable(f'role "{role}": CA bundle {ca_bundle}: {shortage[0]}', shortage[1]) from None
        fault = bundle_error(ca_bundle or "of this system", error)
        raise type(fault)(f'role "{role}": {fault.message}', fault.advice) from None
    if certificate is not None:
        show_certificate(context, role, "client ", certificate, key)
    return context


def bundle_error(path: str, error: OSError) -> SourceError:
    """The error for a file of CAs that OpenSSL did not read; it names no role."""
    what, setting = f"CA bundle {path}", _setting(path)
    if isinstance(error, PermissionError):
        return Denied(f"{what} ({setting}) may not be read by this user", access_advice.readable(path))
    if isinstance(error, ssl.SSLError):
        found = mistaken_ca(_beginning(path)) or ("holds no CA certificate in PEM", _AS_PEM)
        return Invalid(f"{what} cannot be used: it {found[0]}", f"correct {setting}: {found[1].format(path=path)}")
    if isinstance(error, IsADirectoryError):
        return Invalid(f"{what} cannot be used: it is a folder", f"correct {setting}: name one file, in PEM")
    return Invalid(f"{what} cannot be used: {error.strerror}", f"correct {setting}")


def _setting(path: str) -> str:
    """What names a file of CAs."""
    named = [name for name in BUNDLES if os.environ.get(name) == path]
    return " and ".join(named) or "ca_bundle, of the role or of the AWS profile"


def _beginning(path: str) -> bytes:
    try:
        with open(path, "rb") as file:  # noqa: PTH123 - beside the lines above
            return file.read(_LOOKED_AT)
    except OSError:
        return b""


def _bundle(ca_bundle: str | None) -> str | None:
    return ca_bundle or os.environ.get("AWS_CA_BUNDLE") or None


def show_certificate(context: ssl.SSLContext, role: str, what: str, certificate: str, key: str | None) -> bytes:
    """Let a context prove itself with a certificate; the file's content. Raises as `tls_context` does.

    Args:
        context: Of a client or a server.
        role: For the message.
        what: For the message: "client ", or nothing.
        certificate: Its file, with those that it is issued by.
        key: The key's file; None: it is in the same.
    """
    own = read_file(role, certificate, f"{what}certificate", private=key is None)
    private = own if key is None else read_file(role, key, f"{what}key", private=True)
    try:
        with _in_memory(own) as certificate_path, _in_memory(private) as key_path:
            context.load_cert_chain(certificate_path, key_path, password=_no_passphrase)
    except (OSError, ValueError) as error:
        if (shortage := exhausted(error)) is not None:
            raise Unreachable(f'role "{role}": {what}certificate {certificate}: {shortage[0]}', shortage[1]) from None
        mismatch = getattr(error, "reason", None) == "KEY_VALUES_MISMATCH"
        encrypted = not isinstance(error, OSError)
        reason = "another's key" if mismatch else "its key is encrypted" if encrypted else "no PEM certificate and key"
        raise Invalid(
            f'role "{role}": {what}certificate {certificate} with key {key or "in it"} cannot be used: {reason}',
            "give the certificate in PEM, and its own key without a passphrase",
        ) from None
    return own


@contextlib.contextmanager
def _in_memory(content: bytes) -> Iterator[str]:
    """A path of what was read: OpenSSL takes nothing else, and what is at the file's own path may be another by now."""
    with os.fdopen(os.memfd_create("PEM", os.MFD_CLOEXEC), "wb", buffering=0) as file:
        file.write(content)
        yield f"/proc/self/fd/{file.fileno()}"


def _no_passphrase() -> str:
    """An encrypted key is refused; without this, OpenSSL would ask on the terminal."""
    raise ValueError("encrypted")
