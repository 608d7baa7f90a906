"""What several verbs share: where the config is, how they log, and where the daemon is that the config describes."""

import argparse
import ipaddress
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeVar

from imds_proxy.addresses import DEFAULT_ADMIN_LISTEN, DEFAULT_LISTEN, SYSTEMD_PREFIX, split_listen
from imds_proxy.config import document
from imds_proxy.config.folder import UnreadableError
from imds_proxy.errors import ConfigError
from imds_proxy.host.state_dir import default_state_dir

if TYPE_CHECKING:
    from imds_proxy.config.model import Config
    from imds_proxy.config.reader import Also

DEFAULT_PATH: Final = Path("/etc/imds-proxy/config.toml")
VARIABLE: Final = "IMDS_PROXY_CONFIG"

Read = TypeVar("Read")


def add_config(parser: argparse.ArgumentParser) -> None:
    """`--config FILE`."""
    text = f"config file; conf.d/*.toml beside it is read too (default: {VARIABLE}, or {DEFAULT_PATH})"
    parser.add_argument("--config", type=Path, metavar="FILE", help=text)


def add_logging(parser: argparse.ArgumentParser) -> None:
    """`--log-level` and `--log-format`."""
    group = parser.add_argument_group("logging")
    levels = ("DEBUG", "INFO", "WARNING", "ERROR")
    group.add_argument("--log-level", default="INFO", type=str.upper, choices=levels)
    group.add_argument(
        "--log-format",
        default="auto",
        type=str.lower,
        choices=("auto", "text", "json"),
        help="auto: text on a terminal, else JSON",
    )


def add_endpoint(parser: argparse.ArgumentParser) -> None:
    """`--config FILE` and `--endpoint URL`, for verbs that talk to the running daemon."""
    add_config(parser)
    parser.add_argument("--endpoint", metavar="URL", help="where the daemon listens (default: as in the config)")


def region(text: str) -> str:
    """The value of `--region`, as argparse takes it."""
    from imds_proxy.partitions import region_mistake

    if mistake := region_mistake(text):
        raise argparse.ArgumentTypeError(mistake)
    return text


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


def config_path(given: Path | None) -> Path:
    """The config file: the one of `--config`, or else of IMDS_PROXY_CONFIG, or else the default."""
    return given or Path(os.environ.get(VARIABLE) or DEFAULT_PATH)


def read_config_if_any(given: Path | None) -> "Config | None":
    """The config that is named; the default one if it is there and this user may read all of it; else None."""
    return read_if_any(given, _load)


def require_config(given: Path | None, also: "Also | None" = None) -> "Config":
    """As above, but a config there must be; `also` is as `load` takes it."""
    path = _found(given)
    if path is None:
        raise ConfigError(f"there is no {DEFAULT_PATH}: give --config FILE, or serve --role-arn ARN without a file")
    return _load(path, also)


def read_if_any(given: Path | None, read: Callable[[Path], Read]) -> Read | None:
    """What `read` makes of the config that is named, or of the default one as above."""
    try:
        path = _found(given)
        return read(path) if path else None
    except UnreadableError:
        if _is_named(given):
            raise
        return None


def _found(given: Path | None) -> Path | None:
    """The path of the config, which is there as a file or in `conf.d`; None where none is named and none there."""
    path = config_path(given)
    if given is not None or document.exists(path):
        return path
    if _is_named(given):
        raise ConfigError(f"{VARIABLE} names {path}, and there is no such file: set it to another, or unset it")
    return None


def _is_named(given: Path | None) -> bool:
    return given is not None or bool(os.environ.get(VARIABLE))


def _load(path: Path, also: "Also | None" = None) -> "Config":
    from imds_proxy.config.reader import load  # here, because it takes ten times as long as all of a small verb else

    return load(path, also)


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
