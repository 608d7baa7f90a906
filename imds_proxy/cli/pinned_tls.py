"""TLS to the control plane on this host: the one certificate that counts is that in the config's file.

No name has to fit: the address that the config has, 127.0.0.1 say, is in few certificates. Who may not read the file
goes by the system's CAs and the address.
"""

import socket
import ssl
from pathlib import Path

from imds_proxy.admin.tls import first_certificate
from imds_proxy.errors import DaemonUnreachableError


def secured(connection: socket.socket, host: str, certificate: Path) -> ssl.SSLSocket:
    """A connection once its other end has proven that it holds the certificate's key.

    Args:
        connection: Nothing was sent on it yet.
        host: Its address.
        certificate: The file.

    Raises:
        DaemonUnreachableError: It shows another one.
        OSError: It speaks no TLS, or nobody vouches for it.
    """
    try:
        expected = first_certificate(certificate.read_bytes())
    except (OSError, ValueError):
        return ssl.create_default_context().wrap_socket(connection, server_hostname=host)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE  # compared below, byte by byte
    secure = context.wrap_socket(connection)
    if secure.getpeercert(binary_form=True) != expected:
        secure.close()
        raise DaemonUnreachableError(
            f"the control plane's certificate is not the one in {certificate}",
            "a daemon that cannot use its new certificate and key goes on with those before: its log says why",
        )
    return secure


def reason(error: ssl.SSLError) -> str:
    """What went wrong with TLS, in OpenSSL's words."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not accepted: {error.verify_message}"
    return f"TLS failed: {(error.reason or 'no reason given').replace('_', ' ').lower()}"
