"""Asking the running daemon, over loopback and never through a proxy."""

import http.client
import json
import os
import pwd
import re
import ssl
import time
import urllib.parse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from imds_proxy.cli import listener_owner
from imds_proxy.cli.options import Target
from imds_proxy.errors import ConnectionClosedError, DaemonUnreachableError, ImdsProxyError, NoCredentialsYetError
from imds_proxy.host.state_dir import private_folder
from imds_proxy.metadata.imds import NO_ROLE, TOKEN_HEADER, TTL_HEADER
from imds_proxy.metadata.role_tokens import TOKEN_FOLDER

_TIME_LIMIT = 5.0
_REFUSALS = 403, 429  # whose body says what to do
_OK, _UNAUTHORIZED, _NOT_FOUND, _UNAVAILABLE = 200, 401, 404, 503
_LONGEST = 2000  # bytes of a refusal
_PATIENCE, _STEP = 5.0, 0.1
_REGION = "latest/meta-data/placement/region"
_KEYS = {"AccessKeyId", "SecretAccessKey", "Token", "Expiration"}
_A_TOKEN = re.compile(rb"[!-~]{1,1000}")
_A_REGION = re.compile("[a-z0-9-]{1,32}")
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
        said = body[:_LONGEST].decode(errors="replace").strip()
        raise DaemonUnreachableError(f"{target.admin}/status.json answered {code}: {said}")
    if code != _OK:
        raise DaemonUnreachableError(
            f"{target.admin}/status.json answered {code}", "is this the control plane's address?"
        )
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        document = None
    if not isinstance(document, dict):
        raise DaemonUnreachableError(
            f"{target.admin}/status.json answered with what is no document", "is this the control plane's address?"
        )
    return document


def default_role(target: Target) -> str | None:
    """The role that this caller's list shows."""
    code, body = _metadata(target, _ROLE_LIST)
    return body.decode(errors="replace") if code == _OK else None


def trouble(target: Target, role: str | None, within: float) -> ImdsProxyError | None:
    """Why a program of this user gets no credentials now, of `role` or of the one its list shows; None if it does.

    Raises:
        ForeignListenerError: Another user listens where the daemon was expected.
    """
    try:
        if role and (token := container_token(target, role)) is not None:
            code, _ = ask(f"{target.endpoint}roles/{role}", {"Authorization": token}, "HEAD", within=within)
            if code == _UNAUTHORIZED:
                return no_access(target, role)
            return None if code == _OK else _no_credentials(role)
        code, body = _metadata(target, _ROLE_LIST, within)
    except DaemonUnreachableError as error:
        return error
    if (code, body) == (_NOT_FOUND, NO_ROLE):
        return no_access(target, role)
    if code != _OK:
        return _no_credentials(role)
    return None if role in {None, body.decode(errors="replace")} else no_access(target, role)


def region(target: Target, within: float) -> str | None:
    """The region that the daemon names to its clients; None where it has none or does not answer."""
    try:
        code, body = _metadata(target, _REGION, within)
    except DaemonUnreachableError:
        return None
    said = body.decode(errors="replace")
    return said if code == _OK and _A_REGION.fullmatch(said) else None


def credentials(target: Target, role: str | None) -> dict[str, str]:
    """A role's document: with its container token where this user may read it, else as an SDK would ask for it.

    A role that is obtained on demand comes a moment after it is asked for: it is waited for, once and shortly.
    """
    deadline = time.monotonic() + _PATIENCE
    while (document := _document(target, role)) is None and time.monotonic() < deadline:
        time.sleep(_STEP)
    if document is None:
        raise _no_credentials(role)
    return document


def _no_credentials(role: str | None) -> NoCredentialsYetError:
    what = f'role "{role}": ' if role else ""
    return NoCredentialsYetError(f"{what}the daemon has no credentials at this time", "imds-proxy status says why")


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
            role = body.decode(errors="replace")
        code, body = _of_role(target, role)
        if code == _NOT_FOUND:
            raise no_access(target, role)
    return _credentials_of(target, body) if code == _OK else None


def _credentials_of(target: Target, body: bytes) -> dict[str, str]:
    """What a body says; raises DaemonUnreachableError where that is no document of a role."""
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        document = None
    if not isinstance(document, dict) or not document.keys() >= _KEYS:
        raise DaemonUnreachableError(f"{target.endpoint} answered with what is no credentials", "is it imds-proxy?")
    return document


def _of_role(target: Target, role: str) -> tuple[int, bytes]:
    """A role's document over instance metadata; a role without credentials is no answer there (PROTOCOL.md 16)."""
    try:
        return _metadata(target, _ROLE_LIST + urllib.parse.quote(role, safe=""))
    except ConnectionClosedError:
        return _UNAVAILABLE, b""


def no_access(target: Target, role: str | None) -> ImdsProxyError:
    """Why a role cannot be had from here."""
    advice = f"imds-proxy check --as user={_own_name()} says what is granted, imds-proxy status what is there"
    if role is None:
        return ImdsProxyError("the daemon has no role for this user", advice)
    path = token_path(target, role)
    return ImdsProxyError(
        f'role "{role}" is not the one this user gets, and its token is not in a file that can be read: {path}',
        f"run this as the user the daemon runs as; {advice}",
    )


def _own_name() -> str:
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return "NAME"


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


def _metadata(target: Target, path: str, within: float = _TIME_LIMIT) -> tuple[int, bytes]:
    code, token = ask(f"{target.endpoint}latest/api/token", {TTL_HEADER: "60"}, "PUT", within=within)
    if code != _OK or not _A_TOKEN.fullmatch(token):
        raise DaemonUnreachableError(
            f"{target.endpoint} answered {code} to a session token request", "is it imds-proxy?"
        )
    return ask(target.endpoint + path, {TOKEN_HEADER: token.decode("ascii")}, within=within)
