"""What several verbs share: where the config is, how they log, and where the daemon is that the config describes."""

import argparse
import ipaddress
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from imds_proxy.addresses import DEFAULT_ADMIN_LISTEN, DEFAULT_LISTEN, SYSTEMD_PREFIX, split_listen
from imds_proxy.errors import ConfigError
from imds_proxy.state import default_state_dir

if TYPE_CHECKING:
    from imds_proxy.config import Config

DEFAULT_PATH: Final = Path("/etc/imds-proxy/config.toml")


def add_config(parser: argparse.ArgumentParser) -> None:
    """`--config FILE`."""
    parser.add_argument("--config", type=Path, metavar="FILE", help=f"config file (default: {DEFAULT_PATH})")


def add_logging(parser: argparse.ArgumentParser) -> None:
    """`--log-level` and `--log-format`."""
    group = parser.add_argument_group("logging")
    group.add_argument("--log-level", default="INFO", choices=("DEBUG", "INFO", "WARNING", "ERROR"))
    group.add_argument(
        "--log-format", default="auto", choices=("auto", "text", "json"), help="auto: text on a terminal, else JSON"
    )


def add_endpoint(parser: argparse.ArgumentParser) -> None:
    """`--config FILE` and `--endpoint URL`, for verbs that talk to the running daemon."""
    add_config(parser)
    parser.add_argument("--endpoint", metavar="URL", help="where the daemon listens (default: as in the config)")


@dataclass(frozen=True, slots=True)
class Target:
    """The running daemon, as far as a client needs to know it."""

    endpoint: str
    """`http://ADDRESS:PORT/`, with the final slash that old AWS CLIs need (PROTOCOL.md 2)."""
    admin: str
    state_dir: Path
    region: str | None
    default_role: str | None
    """None where no config says it."""
    admin_certificate: Path | None = None
    """What the control plane proves itself with; None where it speaks plain text."""


def target(options: argparse.Namespace) -> Target:
    """The daemon that `--config`, the default config, or the defaults describe."""
    config = read_config_if_any(options.config)
    listen = config.metadata.listen if config else (DEFAULT_LISTEN,)
    addresses = [_url(address) for address in listen if _is_address(address)]
    # Some clients take a container URI on 127.0.0.1 only (PROTOCOL.md 25).
    addresses.sort(key=lambda url: "//127.0.0.1:" not in url)
    endpoint = getattr(options, "endpoint", None) or next(iter(addresses), _url(DEFAULT_LISTEN))
    admin = config.admin.listen if config else DEFAULT_ADMIN_LISTEN
    certificate = config.admin.certificate if config else None
    return Target(
        endpoint=endpoint.rstrip("/") + "/",
        admin=_url(admin if _is_address(admin) else DEFAULT_ADMIN_LISTEN, "https" if certificate else "http"),
        state_dir=Path(config.state_dir) if config and config.state_dir else default_state_dir(),
        region=config.region if config else None,
        default_role=config.default_role if config else None,
        admin_certificate=Path(certificate) if certificate else None,
    )


def read_config_if_any(path: Path | None) -> "Config | None":
    """The config at `path`; the default one if it is there and this user may read it; else None."""
    from imds_proxy.config_file import load  # here, because it takes ten times as long as all of this verb else

    if path is not None:
        return load(path)
    return load(DEFAULT_PATH) if os.access(DEFAULT_PATH, os.R_OK) else None


def require_config(path: Path | None) -> "Config":
    """As above, but a config there must be."""
    from imds_proxy.config_file import load

    if path is None and not DEFAULT_PATH.exists():
        raise ConfigError(f"there is no {DEFAULT_PATH}: give --config FILE, or serve --role-arn ARN without a file")
    return load(path or DEFAULT_PATH)


def reachable(listen: str) -> tuple[str, int]:
    """Where this host reaches a listener; raises ValueError where that is no address."""
    host, port = split_listen(listen)
    if ipaddress.ip_address(host).is_unspecified:
        host = "::1" if ":" in host else "127.0.0.1"
    return host, port


def _is_address(listen: str) -> bool:
    return not listen.startswith(SYSTEMD_PREFIX)


def _url(listen: str, scheme: str = "http") -> str:
    host, port = reachable(listen)
    return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"
