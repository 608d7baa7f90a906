"""`imds-proxy status --check`: whether the daemon is ready, for health checks that run every few seconds.

It asks what `/readyz` of the control plane says, with no more than a socket and the one table of the config that says
where that is: validating the whole file, as the other verbs do, would take ten times as long.
"""

import socket
from pathlib import Path
from typing import Final

from imds_proxy.addresses import DEFAULT_ADMIN_LISTEN, SYSTEMD_PREFIX
from imds_proxy.cli.options import reachable, read_if_any
from imds_proxy.config import document as config_read
from imds_proxy.config.positions import Places
from imds_proxy.errors import ConfigError, DaemonUnreachableError, ForeignListenerError, ImdsProxyError

_TIME_LIMIT: Final = 5.0
_LONGEST_STATUS_LINE: Final = 256  # bytes
_READY, _NOT_READY = b"200", b"503"


def check(config: Path | None) -> None:
    """Return if every served role has live credentials and every listener is open.

    Args:
        config: The file; None: the one that is meant without --config if it is there, else the default address.

    Raises:
        ConfigError: It does not say where the control plane is.
        ImdsProxyError: It is not ready, or gives no answer; in one line.
    """
    host, port, certificate = _control_plane(config)
    try:
        status = _status_of_readyz(host, port, certificate)
    except (DaemonUnreachableError, ForeignListenerError) as error:
        raise ImdsProxyError(error.message) from None
    except OSError as error:
        raise ImdsProxyError(f"no answer from {host} port {port}: {error.strerror or 'none in time'}") from None
    if status == _NOT_READY:
        reason = "a role that is served has no live credentials, or a listener is not open"
        raise ImdsProxyError(f"not ready: {reason}; imds-proxy status says more")
    if status != _READY:
        raise ImdsProxyError(f"{host} port {port} does not answer as the control plane does")


def _control_plane(config: Path | None) -> tuple[str, int, Path | None]:
    """Where it is, and its certificate; raises ConfigError where the config does not say it."""
    document = read_if_any(config, config_read.read)
    admin = document.data.get("admin", {}) if document else {}
    places = document.places if document else Places()
    if not isinstance(admin, dict):
        raise ConfigError(places.told("admin", "expected a table"))
    listen, certificate = admin.get("listen", DEFAULT_ADMIN_LISTEN), admin.get("certificate")
    if not isinstance(listen, str) or not isinstance(certificate, str | None):
        raise ConfigError(places.told("admin", "listen and certificate have to be text"))
    try:
        host, port = reachable(DEFAULT_ADMIN_LISTEN if listen.startswith(SYSTEMD_PREFIX) else listen)
    except ValueError:
        raise ConfigError(places.told("admin.listen", 'expected "ADDRESS:PORT" or "[IPV6]:PORT"')) from None
    return host, port, Path(certificate) if certificate else None


def _status_of_readyz(host: str, port: int, certificate: Path | None) -> bytes:
    """The three digits, empty where the answer is no HTTP; raises OSError, and as the owner and the certificate say."""
    from imds_proxy.cli import listener_owner

    with socket.create_connection((host, port), timeout=_TIME_LIMIT) as plain:
        listener_owner.check_connection(plain)
        connection = plain
        if certificate is not None:
            from imds_proxy.cli import pinned_tls

            connection = pinned_tls.secured(plain, host, certificate)
        name = f"[{host}]" if ":" in host else host
        connection.sendall(f"GET /readyz HTTP/1.1\r\nHost: {name}:{port}\r\nConnection: close\r\n\r\n".encode())
        answer = b""
        while b"\n" not in answer and len(answer) < _LONGEST_STATUS_LINE and (more := connection.recv(1024)):
            answer += more
        if connection is not plain:
            connection.close()
    version, _, rest = answer.partition(b" ")
    return rest[:3] if version.startswith(b"HTTP/1.") else b""
