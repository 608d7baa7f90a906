"""The on-premises file: which session the agent is, where its credentials are, and its region.

In: those three. Out: the file's text, or what a file says. Errors: ConfigError for what the agent could not work with.
"Use the register-on-premises-instance command (IAM Session ARN)" of the CodeDeploy user guide.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Final

from imds_proxy.codedeploy import agent_file, agent_yaml
from imds_proxy.errors import ConfigError
from imds_proxy.partitions import region_mistake

LINUX_FOLDER: Final = "/etc/codedeploy-agent/conf"
LINUX_FILE: Final = f"{LINUX_FOLDER}/codedeploy.onpremises.yml"
# Where the daemon's own user may write; in the agent's folder it could change what root runs.
LINUX_CREDENTIALS: Final = "/var/lib/imds-proxy/codedeploy-credentials"
WINDOWS_FOLDER: Final = "C:\\ProgramData\\Amazon\\CodeDeploy"
WINDOWS_NAME: Final = "conf.onpremises.yml"
WINDOWS_CREDENTIALS: Final = f"{WINDOWS_FOLDER}\\credentials"
MODE: Final = 0o644
"""It holds no secret, and the agent's user has to read it."""

_KEYS: Final = ("iam_session_arn", "aws_credentials_file", "region")
_USER_KEYS: Final = {"iam_user_arn", "aws_access_key_id", "aws_secret_access_key"}
_SESSION_ARN: Final = re.compile(r"arn:aws[a-z-]*:sts::[0-9]{12}:assumed-role/[\w+=,.@-]+/[\w+=,.@-]{2,64}", re.ASCII)


@dataclass(frozen=True, slots=True)
class OnPremises:
    """What the file says."""

    session_arn: str
    credentials_file: str
    region: str

    def text(self) -> str:
        """The file: exactly the keys that the agent knows for a session."""
        values = (self.session_arn, self.credentials_file, self.region)
        return "".join(f"{key}: {agent_yaml.scalar(value)}\n" for key, value in zip(_KEYS, values, strict=True))


def load(path: Path) -> OnPremises:
    """What the file at `path` says.

    Raises:
        ConfigError: It is missing, may not be read, or is none for a session; no value of it is repeated.
    """
    text, _ = agent_file.read(path)
    try:
        values = agent_yaml.read(text, strict=True)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error.message}") from None
    if mistakes := tuple(_mistakes(values)):
        raise ConfigError(f"{path} is none that registers a session", mistakes)
    return OnPremises(*(values[key] for key in _KEYS))


def session_arn_mistake(arn: str) -> str | None:
    """What is wrong with an ARN that should be a session's."""
    expected = "expected arn:aws:sts::ACCOUNT:assumed-role/ROLE/SESSION"
    return None if _SESSION_ARN.fullmatch(arn) else expected


def credentials_file_mistake(path: str) -> str | None:
    """Why the agent could not live from a credentials file at this path."""
    parts = PurePosixPath(path.replace("\\", "/")).parts
    if parts[-2:] != (".aws", "credentials"):
        return None
    return (
        "is the place of a shared credentials file: the agent reads that one once and never again, and other programs"
        " overwrite it; use a file of its own"
    )


def _mistakes(values: dict[str, str]) -> Iterator[str]:
    if values.keys() & _USER_KEYS:
        yield "has the keys of an IAM user: the agent would use that user's key, not this host's session"
    yield from (f"{key}: is required" for key in _KEYS if not values.get(key))
    yield from (f"{key}: is no key of it" for key in values if key not in _USER_KEYS and key not in _KEYS)
    if (arn := values.get(_KEYS[0])) and (mistake := session_arn_mistake(arn)):
        yield f"{_KEYS[0]}: {mistake}"
    if (path := values.get(_KEYS[1])) and (mistake := credentials_file_mistake(path)):
        yield f"{_KEYS[1]}: {mistake}"
    if (region := values.get(_KEYS[2])) and (mistake := region_mistake(region)):
        yield f"{_KEYS[2]}: {mistake}"
