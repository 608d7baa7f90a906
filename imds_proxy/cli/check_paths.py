"""`imds-proxy check`: the paths of the config that another user could lead elsewhere. Nothing is written."""

import os
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from imds_proxy.config import Config
from imds_proxy.errors import FileError
from imds_proxy.files import target
from imds_proxy.files.named_access import NamedAccess
from imds_proxy.host import safe_path
from imds_proxy.host.path_walk import UnsafePathError
from imds_proxy.state import default_state_dir, private_folder


def print_unsafe_paths(config: Config) -> bool:
    """Print a line for each path that the daemon would refuse, with why and what to do; whether there was any."""
    found = list(unsafe_paths(config))
    for key, error in found:
        print(f"{key}  refused: {error.message}")
        print(f"  → {error.advice}")
    return bool(found)


def unsafe_paths(config: Config) -> Iterator[tuple[str, FileError]]:
    """The key of each path that the daemon would refuse, and why; what roles read is said when they are tried."""
    user = _daemon_user(config)
    for number, entry in enumerate(config.files):
        access = NamedAccess(int(entry.mode, 8), entry.owner, entry.group)
        try:
            with target.opened(Path(entry.path), access, user=user):
                pass
        except UnsafePathError as error:
            yield f"files.{number}.path", _unsafe(entry.path, error)
        except FileError as error:
            yield f"files.{number}.path", FileError(f"{entry.path} {error.message}", error.advice)
        except OSError:  # the daemon tells of it; this user may see less than the daemon's
            continue
    for key, path, judge in _others(config):
        try:
            judge(path, user=user)
        except UnsafePathError as error:
            yield key, _unsafe(path, error)
        except OSError:
            continue


def state_remark(config: Config) -> str | None:
    """What others can do to the state directory; None where it is nothing, or where this user cannot see it."""
    if config.state_dir == "":
        return None
    path = private_folder(_state_dir(config))
    try:
        with safe_path.open_folder(path, user=_daemon_user(config)) as folder:
            if not folder.others:
                return None
    except OSError:
        return None
    return (
        f"state_dir: others can write to a folder above {path}, and so move it away: a restart would need AWS, and"
        " tokens be new; they can neither read nor replace what is in it"
    )


def _others(config: Config) -> Iterator[tuple[str, str, Callable[..., None]]]:
    """Key and path of what is no role's and no file to keep fresh, and how it is judged."""
    for number, grant in enumerate(config.grants):
        if grant.token_file is not None:
            yield f"grants.{number}.token_file", grant.token_file, partial(safe_path.judge_path, any_owner=True)
    accounts = config.service_accounts
    for name in ("jwks_file", "token_file"):
        if accounts is not None and (path := getattr(accounts, name)) is not None:
            yield f"service_accounts.{name}", path, safe_path.judge_path
    for name in ("certificate", "private_key", "client_ca"):
        if (path := getattr(config.admin, name)) is not None:
            yield f"admin.{name}", path, safe_path.judge_path
    made = partial(safe_path.judge_path, made=True)
    if config.audit.file is not None:
        yield "audit.file", config.audit.file, made
    if config.state_dir != "":
        yield "state_dir", str(private_folder(_state_dir(config))), made


def _daemon_user(config: Config) -> int:
    """The user that the daemon runs as: the owner of its state directory, or else whoever asks."""
    try:
        return os.geteuid() if config.state_dir == "" else private_folder(_state_dir(config)).stat().st_uid
    except OSError:
        return os.geteuid()


def _state_dir(config: Config) -> Path:
    return Path(config.state_dir) if config.state_dir else default_state_dir()


def _unsafe(path: str, error: UnsafePathError) -> FileError:
    return FileError(f"{path} is not safe: {error.strerror}", error.advice)
