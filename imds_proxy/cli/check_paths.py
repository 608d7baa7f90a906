"""`imds-proxy check`: what the daemon reads and writes on this host, besides what roles read. Nothing is written.

Each part is judged by the code that uses it, in its words.
"""

import errno
import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path

from imds_proxy.audit import log_file
from imds_proxy.audit.writer import AUDIT_ADVICE
from imds_proxy.callers import grant_token_files
from imds_proxy.cli.check_finding import Finding, Key
from imds_proxy.cli.check_user import Judge
from imds_proxy.config.model import Config
from imds_proxy.config.output_files import OutputFileConfig
from imds_proxy.errors import FileError, ImdsProxyError, SourceError
from imds_proxy.host import access_advice, command_start, safe_path
from imds_proxy.host.file_errors import judge_folder, write_failure
from imds_proxy.host.path_walk import UnsafePathError
from imds_proxy.host.state_dir import StateError, judge_state_dir, private_folder
from imds_proxy.output_files import target_path
from imds_proxy.output_files.named_access import NamedAccess
from imds_proxy.output_files.output_file import OUTPUT_ADVICE, refuse_shared


def findings(config: Config, judge: Judge, path: Path) -> Iterator[Finding]:
    """What the daemon could not use, or would refuse.

    Args:
        config: What to look at.
        judge: Whom this process is, or else what it cannot see is left out.
        path: Of the config file.
    """
    for file in config.places.files or (str(path),):
        if not os.access(file, os.R_OK):  # root has read it
            yield Finding((), f"{file}: cannot be read by the daemon", access_advice.readable(file))
    yield from _state(config, judge)
    for number, entry in enumerate(config.files):
        yield from _output(("files", number), entry, judge)
    yield from _audit(config, judge)
    for number, grant in enumerate(config.grants):
        if grant.token_file is not None:
            judged = partial(grant_token_files.judge, Path(grant.token_file))
            yield from _judged(("grants", number, "token_file"), judged)
    yield from _service_accounts(config)
    yield from _control_plane(config)
    yield from _base_key(config)


def _state(config: Config, judge: Judge) -> Iterator[Finding]:
    """Without it the daemon serves, but a restart needs AWS, and there are no container tokens."""
    if config.state_dir == "":
        return
    path = Path(config.state_dir) if config.state_dir else judge.state_directory
    if _will_be_made(path, judge):
        return
    try:
        judge_state_dir(path)
    except StateError as error:
        yield Finding.of(("state_dir",), error)
        return
    private = private_folder(path)
    with suppress(OSError), safe_path.open_folder(private) as folder:
        if folder.others:
            yield Finding(("state_dir",), _MOVABLE.format(path=private), is_remark=True)


_MOVABLE = (
    "others can write to a folder above {path}, and so move it away: a restart would need AWS, and tokens be new; they"
    " can neither read nor replace what is in it"
)


def _output(key: Key, entry: OutputFileConfig, judge: Judge) -> Iterator[Finding]:
    path, access = Path(entry.path), NamedAccess(int(entry.mode, 8))
    will_be_made = _will_be_made(path.parent, judge)
    for name in ("owner", "group"):
        named = {name: getattr(entry, name)}
        try:
            NamedAccess(**named).numbers()
        except FileError as error:
            yield Finding.of((*key, name), write_failure(path, error, {}))
        else:
            access = replace(access, **named)
    try:
        with target_path.opened(path, access) as file:
            refuse_shared(file)
            file.read()
        judge_folder(path.parent)
        _judge_giving(access, judge)
    except UnsafePathError as error:
        yield Finding((*key, "path"), f"{path} is not safe: {error.strerror}", error.advice)
    except (FileError, OSError) as error:
        if not will_be_made:
            yield Finding.of((*key, "path"), write_failure(path, error, OUTPUT_ADVICE))
    if entry.after is not None:
        subject = f'role "{entry.role}": after a change {entry.after[0]}'
        yield from _judged((*key, "after"), partial(command_start.judge, entry.after, subject))


def _will_be_made(folder: Path, judge: Judge) -> bool:
    """Whether a folder is not there, and systemd makes it at the start."""
    return str(folder) in judge.made_by_systemd and not os.path.lexists(folder)


def _judge_giving(access: NamedAccess, judge: Judge) -> None:
    """Raise PermissionError where the daemon could not give a file to its owner and group."""
    wanted = access.numbers()
    groups = {-1, os.getegid(), *os.getgroups()}
    if (wanted.owner in {-1, os.geteuid()} and wanted.group in groups) or "CAP_CHOWN" in judge.capabilities:
        return
    raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))


def _audit(config: Config, judge: Judge) -> Iterator[Finding]:
    if config.audit.file is None or _will_be_made(Path(config.audit.file).parent, judge):
        return
    try:
        log_file.judge(config.audit.file)
    except UnsafePathError as error:
        yield Finding(("audit", "file"), f"{config.audit.file} is not safe: {error.strerror}", error.advice)
    except (FileError, OSError) as error:
        yield Finding.of(("audit", "file"), write_failure(config.audit.file, error, AUDIT_ADVICE))


def _service_accounts(config: Config) -> Iterator[Finding]:
    from imds_proxy.callers.kubernetes.verifier import missing_package

    if config.service_accounts is None:
        return
    if (error := missing_package()) is not None:
        yield Finding.of(("service_accounts",), error)
        return
    from imds_proxy.callers.kubernetes import jwks_refresh

    yield from _judged(("service_accounts",), partial(jwks_refresh.judge, config.service_accounts))


def _control_plane(config: Config) -> Iterator[Finding]:
    from imds_proxy.admin import tls

    try:
        if (files := tls.TlsFiles.of(config.admin)) is not None:
            tls.read(files)
    except SourceError as error:
        yield Finding(("admin", "certificate"), tls.message_of(error), error.advice)


def _base_key(config: Config) -> Iterator[Finding]:
    """The key that is to be rotated, and whether its file can be replaced."""
    if config.base_key is None or config.base_key.rotate_every is None:
        return
    from imds_proxy.base_key.key_file import CredentialsFile

    key, profile = ("base_key", "profile"), config.base_key.profile
    if os.environ.get("AWS_ACCESS_KEY_ID") and profile == "default":
        what = "the key in use comes from the environment (AWS_ACCESS_KEY_ID): that cannot be rotated here"
        yield Finding(key, what, "take it out of the environment, or leave [base_key] out")
        return
    given = os.environ.get("AWS_SHARED_CREDENTIALS_FILE") or "~/.aws/credentials"
    path = Path(os.path.realpath(os.path.expanduser(os.path.expandvars(given))))  # noqa: PTH111 - as `config_files`
    found = list(_judged(key, lambda: CredentialsFile(path, profile).read()))
    yield from found
    if found:
        return
    try:
        judge_folder(path.parent)
    except OSError as error:
        yield Finding.of(key, write_failure(path, error, _KEY_FILE))


_KEY_FILE = dict.fromkeys(
    (errno.EACCES, errno.EROFS),
    "let the user the daemon runs as write its folder (ReadWritePaths= of the unit); or leave [base_key] out",
)


def _judged(key: Key, judge: Callable[[], object]) -> Iterator[Finding]:
    try:
        judge()
    except ImdsProxyError as error:
        yield Finding.of(key, error)
