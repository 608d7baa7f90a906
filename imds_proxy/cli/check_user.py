"""Whom `imds-proxy check` judges this host as: what root may read, the daemon's user may not.

Root becomes the daemon's user, for good, before anything is judged. Any other user can judge for itself alone.
"""

import os
import pwd
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from imds_proxy.cli.check_unit import SERVICE, Unit
from imds_proxy.errors import ConfigError
from imds_proxy.host.state_dir import default_state_dir

_ROOT: Final = 0
_BITS: Final = {"CAP_CHOWN": 0, "CAP_NET_BIND_SERVICE": 10}
"""capability.h"""


@dataclass(frozen=True, slots=True)
class Judge:
    """The user that the daemon is taken to run as.

    Args:
        uid: Its number.
        why: In words, for who reads the result.
        capabilities: What it may do besides what its number says.
        state_directory: Where its state is if the config does not say.
        account: Its entry in the user database; None: it has none, or nobody has to become it.
        made_by_systemd: The folders that are made at each start.
        daemons: The users whose listeners are the daemon's: this one, and the one that the unit names.
    """

    uid: int
    why: str
    capabilities: frozenset[str]
    state_directory: Path
    account: pwd.struct_passwd | None = None
    made_by_systemd: tuple[str, ...] = ()
    daemons: frozenset[int] = frozenset()

    def become(self) -> None:
        """Be this user from here on, as far as this process may."""
        if self.account is None or os.geteuid() != _ROOT or self.uid == _ROOT:
            return
        os.initgroups(self.account.pw_name, self.account.pw_gid)
        os.setresgid(self.account.pw_gid, self.account.pw_gid, self.account.pw_gid)
        os.setresuid(self.uid, self.uid, self.uid)
        os.environ["HOME"] = self.account.pw_dir


def judge(wanted: str | None, unit: Unit | None) -> Judge:
    """Whom to judge as: who is asked for, whom the unit names, or whoever asks.

    Raises:
        ConfigError: There is no such user, or this one cannot become it.
    """
    found = _judge(wanted, unit)
    named = _account(unit.user) if unit is not None and unit.user is not None else None
    return replace(found, daemons=frozenset({found.uid, *([named.pw_uid] if named else [])}))


def _judge(wanted: str | None, unit: Unit | None) -> Judge:
    own = Judge(os.geteuid(), f"judged as {_named(os.geteuid())}, who runs this", _own_capabilities(), _own_state())
    name = wanted if wanted is not None else unit.user if unit is not None else None
    if name is None:
        return own
    account = _account(name)
    if account is None:
        if wanted is not None:
            raise ConfigError(f"--user {wanted}: there is no such user on this host")
        return replace(own, why=f"{own.why}: {SERVICE} runs as {name}, a user that is not there")
    of_unit = unit if unit is not None and unit.user is not None and _account(unit.user) == account else None
    source = "" if of_unit is None else f", as {SERVICE} runs"
    capabilities = of_unit.capabilities if of_unit else frozenset()
    made = of_unit.sandbox.made if of_unit else ()
    state = _state(of_unit, account)
    if account.pw_uid == os.geteuid():
        capabilities |= own.capabilities
        return replace(own, capabilities=capabilities, state_directory=state, made_by_systemd=made)
    if os.geteuid() != _ROOT:
        if wanted is not None:
            raise ConfigError(f"--user {wanted}: only root can judge for another user")
        return replace(
            own, why=f"{own.why}: {SERVICE} runs as {name}; as root, or as that user, this says what it sees"
        )
    return Judge(
        account.pw_uid,
        f"judged as {_named(account.pw_uid)}{source}, with the environment of who runs this",
        capabilities,
        state,
        account,
        made,
    )


def _state(unit: Unit | None, account: pwd.struct_passwd) -> Path:
    if unit is not None and unit.state_directory is not None:
        return unit.state_directory
    if account.pw_uid == os.geteuid():
        return _own_state()
    return Path("/var/lib/imds-proxy") if account.pw_uid == _ROOT else Path(account.pw_dir, ".local/state/imds-proxy")


def _own_state() -> Path:
    try:
        return default_state_dir()
    except RuntimeError:  # neither HOME nor an entry in the user database: the daemon has none either
        return Path("/nonexistent/imds-proxy")


def _account(name: str) -> pwd.struct_passwd | None:
    try:
        return pwd.getpwuid(int(name)) if name.isdecimal() else pwd.getpwnam(name)
    except (KeyError, OverflowError):
        return None


def _named(uid: int) -> str:
    try:
        return f"{pwd.getpwuid(uid).pw_name} (uid {uid})"
    except KeyError:
        return f"uid {uid}"


def _own_capabilities() -> frozenset[str]:
    """What this process may do; everything where /proc does not say."""
    try:
        lines = Path("/proc/self/status").read_text("ascii", "replace").splitlines()
        held = int(next(line for line in lines if line.startswith("CapEff:")).split()[1], 16)
    except (OSError, ValueError, StopIteration, IndexError):
        return frozenset(_BITS)
    return frozenset(name for name, bit in _BITS.items() if held >> bit & 1)
