"""What clients there are, how each is started, and what it cannot do."""

from dataclasses import dataclass, field

from support.clients import PROGRAMS

ENV_SLASH, ENV, LINK_LOCAL, CONTAINER = "env/", "env", "link-local", "container"
"""The ways to the daemon: the environment variable with the final slash and without, the address, the protocol."""

_NO_VARIABLE = "no AWS_EC2_METADATA_SERVICE_ENDPOINT"
_NO_TOKEN_FILE = "no AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE"
_NO_ENV = {ENV_SLASH: _NO_VARIABLE, ENV: _NO_VARIABLE}


@dataclass(frozen=True, slots=True)
class Client:
    """One SDK.

    Attributes:
        name: Its folder or file here, and in `PROGRAMS`.
        title: For people.
        cannot: By situation, what it takes and the client has not ("no …"); it is tried all the same.
        fast: Whether it can live on the fast clock.
        monotonic: On that clock, whether it measures a session's life by the monotonic clock.
        long_lived: Whether it is a process of many calls; else it is a process a call.
    """

    name: str
    title: str
    cannot: dict[str, str] = field(default_factory=dict)
    fast: bool = True
    monotonic: bool = False
    long_lived: bool = True

    @property
    def absent(self) -> str:
        """Why it is not there, "" where it is; its build may have left the reason."""
        folder = PROGRAMS / self.name
        if (folder / ".ready").exists() and (folder / "run").exists():
            return ""
        reason = folder / "absent"
        return reason.read_text().strip() if reason.exists() else "not built"


CLIENTS = (
    Client("boto3", "boto3"),
    Client("aiobotocore", "aiobotocore"),
    Client("awscli", "AWS CLI v1", long_lived=False),
    Client(
        "awscli_v2",
        "AWS CLI v2 (Debian 12)",
        cannot={ENV: "no address without the final slash before 2.28.3", CONTAINER: _NO_TOKEN_FILE},
        long_lived=False,
    ),
    Client("js_v3", "JavaScript v3"),
    Client("js_v2", "JavaScript v2"),
    Client("go", "Go v2", fast=False),
    Client("java", "Java v2"),
    Client("java_v1", "Java v1"),
    Client("rust", "Rust"),
    Client("ruby", "Ruby (Debian 12)", cannot=_NO_ENV | {CONTAINER: _NO_TOKEN_FILE}),
    Client("pyarrow", "C++ (pyarrow)"),
    Client("awscrt", "C runtime (awscrt)", monotonic=True),
    Client("obstore", "object_store (obstore)", cannot=_NO_ENV, monotonic=True),
)
