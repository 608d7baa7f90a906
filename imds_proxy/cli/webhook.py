"""`imds-proxy webhook`: gives pods the variables and the token by which SDKs find the daemon."""

import argparse
import ipaddress
import os
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from imds_proxy.addresses import split_listen
from imds_proxy.cli import options as shared
from imds_proxy.errors import ConfigError
from imds_proxy.webhook import annotations

if TYPE_CHECKING:
    from imds_proxy.webhook.server import Settings

_MOUNT: Final = "/var/run/secrets/kubernetes.io/serviceaccount"
_DESCRIPTION: Final = """\
An admission webhook for Kubernetes: pods whose service account has the annotation
eks.amazonaws.com/role-arn get the variables by which every AWS SDK finds the daemon at
169.254.170.23, and a projected service account token. The annotation asks for injection and
for a role by its ARN or by its name in the daemon's config; the daemon's grants decide.

Other annotations of the service account:
  eks.amazonaws.com/audience           of the token (default: --audience)
  eks.amazonaws.com/token-expiration   seconds, 600 to 86400 (default: --expiration)
and of the pod:
  eks.amazonaws.com/token-expiration   instead of the service account's
  eks.amazonaws.com/skip-containers    names of containers that get nothing: a,b

The service account is read from the API server at each admission: the webhook's own account
needs to get serviceaccounts, and nothing else. Certificate, key, CAs and token are read again
when their files change."""
_EPILOG: Final = """\
POST /mutate is for the API server, GET /healthz and /readyz are for probes. TERM: what has begun is
answered, exit code 0. deploy/kubernetes/INJECTION.md shows what a cluster needs besides."""


def register(verbs: Any) -> None:
    """Add the verb."""
    verb = verbs.add_parser(
        "webhook",
        help="give pods of a cluster what EKS Pod Identity gives them",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    server = verb.add_argument_group("server")
    server.add_argument("--listen", default="0.0.0.0:8443", metavar="ADDRESS:PORT", help="(default: %(default)s)")
    server.add_argument("--certificate", required=True, metavar="FILE", help="of this server, in PEM, with its chain")
    server.add_argument("--private-key", required=True, metavar="FILE", help="of the certificate, in PEM")
    server.add_argument(
        "--client-ca", metavar="FILE", help="CA of the certificate that the API server has to show (default: none has)"
    )
    injected = verb.add_argument_group("what is injected")
    injected.add_argument(
        "--uri", default=annotations.DEFAULT_URI, metavar="URL", help="where the daemon answers (default: %(default)s)"
    )
    injected.add_argument(
        "--audience", default=annotations.DEFAULT_AUDIENCE, help="of the token (default: %(default)s)"
    )
    injected.add_argument(
        "--expiration", type=int, default=annotations.LONGEST, metavar="SECONDS", help="of the token (default: 86400)"
    )
    injected.add_argument(
        "--region", type=shared.region, help="for AWS_REGION and AWS_DEFAULT_REGION (default: these are not set)"
    )
    injected.add_argument(
        "--on-error",
        choices=("allow", "deny"),
        default="allow",
        help="what happens to a pod that cannot be injected, because an annotation cannot be used or the API server"
        " does not answer: allow makes it without, with a warning (default); deny refuses it",
    )
    cluster = verb.add_argument_group("API server")
    cluster.add_argument("--api-server", metavar="URL", help="https://HOST:PORT (default: that of the pod's cluster)")
    cluster.add_argument("--token-file", default=f"{_MOUNT}/token", metavar="FILE", help="(default: %(default)s)")
    cluster.add_argument("--ca-bundle", default=f"{_MOUNT}/ca.crt", metavar="FILE", help="(default: %(default)s)")
    shared.add_logging(verb)
    verb.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Serve until TERM."""
    import asyncio

    import uvloop

    from imds_proxy.host.process_hardening import harden
    from imds_proxy.telemetry import log
    from imds_proxy.webhook.server import serve

    log.configure(options.log_level, options.log_format)
    harden()  # before the token and the private key are read
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve(settings(options)))
    return 0


def settings(options: argparse.Namespace) -> "Settings":
    """What the command line says. Raises ConfigError."""
    from imds_proxy.admin.tls import TlsFiles
    from imds_proxy.webhook.accounts import Place
    from imds_proxy.webhook.server import Settings

    _check_listen(options.listen)
    for option in ("certificate", "private_key", "client_ca", "token_file", "ca_bundle"):
        path = getattr(options, option)
        if path is not None and not os.path.isabs(path):  # noqa: PTH117 - what is read takes text
            raise ConfigError(f"--{option.replace('_', '-')} {path}: give an absolute path")
    return Settings(
        listen=options.listen,
        tls=TlsFiles(options.certificate, options.private_key, options.client_ca),
        api_server=Place(_api_server(options.api_server), options.token_file, options.ca_bundle),
        defaults=_defaults(options),
        fails_open=options.on_error == "allow",
    )


def _defaults(options: argparse.Namespace) -> annotations.Defaults:
    """Checked as annotations are, by an account that asks for some role."""
    defaults = annotations.Defaults(options.uri, options.audience, options.expiration, options.region)
    if urlsplit(defaults.uri).scheme not in {"http", "https"} or not urlsplit(defaults.uri).hostname:
        raise ConfigError(f"--uri {defaults.uri}: give a URL, as in {annotations.DEFAULT_URI}")
    try:
        annotations.injection({annotations.ROLE: "any"}, {}, defaults)
    except annotations.RefusedError as error:
        text = error.message.replace(annotations.AUDIENCE, "--audience").replace(annotations.EXPIRATION, "--expiration")
        raise ConfigError(text) from None
    return defaults


def _api_server(url: str | None) -> str:
    if url is None:
        host, port = (os.environ.get(f"KUBERNETES_SERVICE_{name}") for name in ("HOST", "PORT"))
        if not host or not port:
            raise ConfigError("this is no pod of a cluster: give --api-server, --token-file and --ca-bundle")
        return f"https://[{host}]:{port}" if ":" in host else f"https://{host}:{port}"
    parts = urlsplit(url)
    if parts.scheme != "https" or not parts.hostname or parts.path.strip("/") or parts.query:
        raise ConfigError(f"--api-server {url}: give https://HOST:PORT")
    return url.rstrip("/")


def _check_listen(listen: str) -> None:
    try:
        ipaddress.ip_address(split_listen(listen)[0])
    except ValueError:
        raise ConfigError(f"--listen {listen}: give ADDRESS:PORT, as in 0.0.0.0:8443 or [::]:8443") from None
