"""Asking the running daemon, over loopback and never through a proxy."""

import http.client
import json
import ssl
import time
import urllib.parse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from imds_proxy.cli import listener_owner
from imds_proxy.cli.options import Target
from imds_proxy.cli.status_document import printable
from imds_proxy.errors import ConnectionClosedError, DaemonUnreachableError, ImdsProxyError
from imds_proxy.metadata.imds import NO_ROLE, TOKEN_HEADER, TTL_HEADER
from imds_proxy.metadata.role_tokens import TOKEN_FOLDER
from imds_proxy.state import private_folder

_TIME_LIMIT = 5.0
_REFUSALS = 403, 429  # whose body says what to do
_OK, _UNAUTHORIZED, _NOT_FOUND, _UNAVAILABLE = 200, 401, 404, 503
_PATIENCE, _STEP = 5.0, 0.1
_ROLE_LIST = "latest/meta-data/iam/security-credentials/"


def ask(
    url: str,
    headers: Mapping[str, str] | None = None,
    method: str = "GET",
    certificate: Path | None = None,
    *,
    body: bytes | None = None,
    within: float = _TIME_LIMIT,
) -> tuple[int, bytes]:
    """Status and body.

    Args:
        url: What is asked for.
        headers: Further ones.
        method: In capitals.
        certificate: The server's, of an https URL.
        body: What is sent.
        within: Seconds without a byte of the answer.

    Raises:
        DaemonUnreachableError: There is no answer, or not from whoever has that certificate.
        ForeignListenerError: Another user has taken the port; nothing was sent.
    """
    parts = urllib.parse.urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port or 80, timeout=within)
    try:
        connection.connect()
        listener_owner.check_connection(connection.sock)
        if certificate is not None:
            from imds_proxy.cli import pinned_tls

            connection.sock = pinned_tls.secured(connection.sock, parts.hostname or "", certificate)
        connection.request(method, parts.path or "/", body, dict(headers or {}))
        response = connection.getresponse()
        return response.status, response.read()
    except (OSError, http.client.HTTPException) as error:
        closed = isinstance(error, http.client.RemoteDisconnected)
        raise (ConnectionClosedError if closed else DaemonUnreachableError)(
            f"no answer from {parts.scheme}://{parts.netloc}: {_reason(error, within)}",
            "is the daemon running (systemctl status imds-proxy), and is this its address?",
        ) from None
    finally:
        connection.close()


def _reason(error: OSError | http.client.HTTPException, within: float) -> str:
    if isinstance(error, ssl.SSLError):
        from imds_proxy.cli import pinned_tls

        return pinned_tls.reason(error)
    if isinstance(error, TimeoutError):
        return f"nothing within {within:.0f} s"
    return error.strerror if isinstance(error, OSError) and error.strerror else "it closed the connection"


def status(target: Target) -> dict[str, Any]:
    """`/status.json`."""
    code, body = ask(f"{target.admin}/status.json", certificate=target.admin_certificate)
    if code in _REFUSALS:
        said = printable(body.decode(errors="replace").strip())
        raise DaemonUnreachableError(f"{target.admin}/status.json answered {code}: {said}")
    if code != _OK:
        raise DaemonUnreachableError(
            f"{target.admin}/status.json answered {code}", "is this the control plane's address?"
        )
    try:
        document: dict[str, Any] = json.loads(body)
    except (ValueError, RecursionError):
        raise DaemonUnreachableError(
            f"{target.admin}/status.json answered with what is no document", "is this the control plane's address?"
        ) from None
    return document


def default_role(target: Target) -> str | None:
    """The role that this caller's list shows."""
    code, body = _metadata(target, _ROLE_LIST)
    return body.decode() if code == _OK else None


def credentials(target: Target, role: str | None) -> dict[str, str]:
    """A role's document: with its container token where this user may read it, else as an SDK would ask for it.

    A role that is obtained on demand comes a moment after it is asked for: it is waited for, once and shortly.
    """
    deadline = time.monotonic() + _PATIENCE
    while (document := _document(target, role)) is None and time.monotonic() < deadline:
        time.sleep(_STEP)
    if document is None:
        what = f'role "{role}": ' if role else ""
        raise ImdsProxyError(f"{what}the daemon has no credentials at this time", "imds-proxy status says why")
    return document


def _document(target: Target, role: str | None) -> dict[str, str] | None:
    """A role's document, None while there is none; raises ImdsProxyError where this user may not have it."""
    if role and (token := container_token(target, role)) is not None:
        code, body = ask(f"{target.endpoint}roles/{role}", {"Authorization": token})
        if code == _UNAUTHORIZED:
            raise no_access(target, role)
    else:
        if role is None:
            code, body = _metadata(target, _ROLE_LIST)
            if (code, body) == (_NOT_FOUND, NO_ROLE):
                raise no_access(target, None)
            if code != _OK:
                return None
            role = body.decode()
        code, body = _of_role(target, role)
        if code == _NOT_FOUND:
            raise no_access(target, role)
    return json.loads(body) if code == _OK else None


def _of_role(target: Target, role: str) -> tuple[int, bytes]:
    """A role's document over instance metadata; a role without credentials is no answer there (PROTOCOL.md 16)."""
    try:
        return _metadata(target, _ROLE_LIST + urllib.parse.quote(role, safe=""))
    except ConnectionClosedError:
        return _UNAVAILABLE, b""


def no_access(target: Target, role: str | None) -> ImdsProxyError:
    """Why a role cannot be had from here."""
    advice = "imds-proxy check --as user=NAME says what is granted, imds-proxy status what is there"
    if role is None:
        return ImdsProxyError("the daemon has no role for this user", advice)
    path = token_path(target, role)
    return ImdsProxyError(
        f'role "{role}" is not the one this user gets, and its token is not in a file that can be read: {path}',
        f"run this as the user the daemon runs as; {advice}",
    )


def container_token(target: Target, role: str) -> str | None:
    """The content of a role's token file, None when there is none or it is not for this user."""
    if "/" in role:  # a role's name, never a path
        return None
    try:
        return token_path(target, role).read_text("ascii").strip()
    except (OSError, UnicodeDecodeError):
        return None


def token_path(target: Target, role: str) -> Path:
    """Where the daemon keeps a role's token, if it runs as this user where others may write to `state_dir`."""
    return private_folder(target.state_dir) / TOKEN_FOLDER / role


def _metadata(target: Target, path: str) -> tuple[int, bytes]:
    code, token = ask(f"{target.endpoint}latest/api/token", {TTL_HEADER: "60"}, "PUT")
    if code != _OK:
        raise DaemonUnreachableError(
            f"{target.endpoint} answered {code} to a session token request", "is it imds-proxy?"
        )
    return ask(target.endpoint + path, {TOKEN_HEADER: token.decode()})
