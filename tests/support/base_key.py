"""A host whose IAM user's key rotates, and a process that rotates it and can be killed at any point."""

import asyncio
import contextlib
import ctypes
import itertools
import json
import os
import resource
import signal
import subprocess
import sys
import threading
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

import botocore.session
from botocore.exceptions import ClientError
from moto.iam.models import iam_backends
from werkzeug.wrappers import Response

from imds_proxy.base_key.access_keys import KeyPair
from imds_proxy.base_key.iam import ACTIONS
from imds_proxy.base_key.key_file import CredentialsFile
from imds_proxy.base_key.rotation import Pace, Rotation
from imds_proxy.config.model import BaseKeyConfig
from imds_proxy.credentials import Secret
from imds_proxy.demo.aws_double import ACCOUNT, PARTITION
from imds_proxy.errors import ImdsProxyError
from imds_proxy.host.clock import Clock
from imds_proxy.host.state_dir import StateDir
from support.aws import parameter, really
from support.daemon import clean_environment

DAY = 86400
AGE = 31 * DAY
QUICK = Pace(within=1.0, first=0.01, longest=0.05, proofs=2, between_proofs=0.01)
RECORD = "base-key.json"

_users = itertools.count()


class Host:
    """A folder with a shared credentials file and a state directory, and a user of the double whose key is in it."""

    def __init__(self, double, folder: Path, profile: str = "default"):
        self.double, self.folder, self.profile = double, folder, profile
        self.user = f"host-{os.getpid()}-{next(_users)}"
        self.first = KeyPair(*_secret(double.add_user(self.user)))
        double.allow(self.user, *ACTIONS)
        self.make_older(self.first.id, AGE)
        self.aws = folder / "aws"
        self.aws.mkdir(0o700)
        self.path = self.aws / "credentials"
        self.state = folder / "state"
        self.state.mkdir(0o700)
        self.write(self.first)
        self.environment = {
            "AWS_SHARED_CREDENTIALS_FILE": str(self.path),
            "AWS_CONFIG_FILE": str(folder / "no-config"),
            "AWS_ENDPOINT_URL_IAM": double.url,
            "AWS_ENDPOINT_URL_STS": double.url,
        }

    def write(self, key: KeyPair) -> None:
        secret = key.secret.reveal()
        self.path.write_text(f"[{self.profile}]\naws_access_key_id = {key.id}\naws_secret_access_key = {secret}\n")
        self.path.chmod(0o600)

    def key(self) -> KeyPair:
        """What the file holds."""
        return CredentialsFile(self.path, self.profile).read()

    def keys(self) -> dict[str, bool]:
        """The user's keys at AWS, and whether each is active."""
        return self.double.keys(self.user)

    def add_key(self) -> KeyPair:
        """A key that somebody else makes for the user."""
        made = iam_backends[ACCOUNT][PARTITION].create_access_key(self.user)
        return KeyPair(*_secret((made.access_key_id, made.secret_access_key)))

    def make_older(self, key_id: str, seconds: float) -> None:
        iam_backends[ACCOUNT][PARTITION].access_keys[key_id].create_date -= timedelta(seconds=seconds)

    def set_active(self, key_id: str, *, active: bool) -> None:
        iam_backends[ACCOUNT][PARTITION].update_access_key(self.user, key_id, "Active" if active else "Inactive")

    def record(self) -> dict:
        return json.loads((self.state / RECORD).read_text())

    def let_retired_age(self, seconds: float) -> None:
        """As if the old key had been deactivated so much earlier."""
        record = self.record()
        record["retired"]["at"] -= seconds
        StateDir(self.state).write(RECORD, json.dumps(record).encode())

    def rotation(self, clock: Clock | None = None, **settings) -> Rotation:
        """In this process, whose environment has to be `environment`."""
        settings = BaseKeyConfig(**{"rotate_every": "30d", "profile": self.profile} | settings)
        return Rotation(settings, StateDir(self.state), "eu-west-1", clock or Clock(), QUICK)

    def works(self) -> str:
        """Who AWS says the file's key belongs to; raises ClientError where it is no good."""
        key = self.key()
        sts = botocore.session.Session().create_client(
            "sts",
            region_name="eu-west-1",
            endpoint_url=self.double.url,
            aws_access_key_id=key.id,
            aws_secret_access_key=key.secret.reveal(),
        )
        return sts.get_caller_identity()["Arn"]

    def assert_one_working_key_on_disk(self) -> None:
        """What holds at every moment."""
        key = self.key()
        assert self.keys()[key.id], "the key on disk is not active"
        assert len(self.keys()) <= 2
        try:
            assert self.works() == self.double.user_arn(self.user)
        except ClientError as error:
            raise AssertionError("AWS refuses the key on disk") from error

    def assert_rotated(self) -> None:
        """The end of a rotation: a new key in use, the old one inactive, nothing else and no trace of the way."""
        new = self.key()
        assert new.id != self.first.id
        assert self.keys() == {self.first.id: False, new.id: True}
        self.assert_one_working_key_on_disk()
        assert [path.name for path in self.aws.iterdir()] == ["credentials"]
        record = self.record()
        assert (record["change"], record["retired"]["id"], record["retired"]["done"]) == (None, self.first.id, True)


def _secret(pair):
    return pair[0], Secret(pair[1])


@dataclass
class Run:
    """How a process ended: by itself with a look or an error, or killed."""

    killed: bool
    said: dict = field(default_factory=dict)


class Runner:
    """Processes that run one rotation each. They are forked from one that has imported all it takes."""

    def __init__(self):
        command = [sys.executable, __file__]
        tests = Path(__file__).parents[1]
        environment = clean_environment() | {"PYTHONPATH": f"{tests.parent}:{tests}"}
        self._parent = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        )

    def close(self) -> None:
        self._parent.stdin.close()
        self._parent.wait(10)
        self._parent.stdout.close()

    def run(self, host: Host, *, at_call=0, answered=False, at_file=0, at_once=False, largest_file=None) -> Run:
        """One run; it is killed when it makes its `at_call`th call, before or after AWS did what was asked, or just
        before it does the `at_file`th thing to a file. The modes of files hold for it even where root runs it."""
        killer = _Killer(host.double, at_call, answered=answered)
        host.double.interfere = killer
        job = {
            "environment": host.environment,
            "state": str(host.state),
            "profile": host.profile,
            "folder": str(host.folder),
            "at_file": at_file,
            "at_once": at_once,
            "largest_file": largest_file,
        }
        self._parent.stdin.write(json.dumps(job) + "\n")
        self._parent.stdin.flush()
        killer.started(int(self._parent.stdout.readline()))
        ended = json.loads(self._parent.stdout.readline())
        host.double.interfere = lambda _: None
        self.calls = killer.calls
        return Run(ended["status"] == -signal.SIGKILL, ended["said"])


class _Killer:
    """Kills a process when a call of its arrives."""

    def __init__(self, double, at: int, *, answered: bool):
        self.calls: list[str] = []
        self._double, self._at, self._answered = double, at, answered
        self._known = threading.Event()

    def started(self, pid: int) -> None:
        self._pid = pid
        self._known.set()

    def __call__(self, request):
        self.calls.append(parameter(request, "Action"))
        if len(self.calls) != self._at:
            return None
        assert self._known.wait(10)
        answer = really(self._double, request) if self._answered else Response("", 503)
        os.kill(self._pid, signal.SIGKILL)
        return answer


# The process that is forked


def _serve() -> None:
    for line in sys.stdin:
        job = json.loads(line)
        reading, writing = os.pipe()
        pid = os.fork()
        if not pid:
            os.close(reading)
            _child(job, writing)
        os.close(writing)
        print(pid, flush=True)
        with os.fdopen(reading) as pipe:
            said = pipe.read()
        status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        print(json.dumps({"status": status, "said": json.loads(said or "{}")}), flush=True)


def _child(job: dict, writing: int) -> None:
    os.environ.update(job["environment"])
    _obey_modes_of_files()
    if job["largest_file"] is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (job["largest_file"], job["largest_file"]))
    settings = BaseKeyConfig(rotate_every="30d", profile=job["profile"])
    rotation = Rotation(settings, StateDir(Path(job["state"])), "eu-west-1", Clock(), QUICK)
    files = _watch_files(job["folder"], job["at_file"])
    try:
        look = asyncio.run(rotation.run(at_once=job["at_once"]))
        said = {"rotated": look.rotated}
    except ImdsProxyError as error:
        said = {"error": error.message, "advice": error.advice}
    os.write(writing, json.dumps(said | {"files": files[0]}).encode())
    os._exit(0)


def _obey_modes_of_files() -> None:
    """Give up what lets root write anywhere (capset(2), version 3): CAP_DAC_OVERRIDE and CAP_DAC_READ_SEARCH."""
    if os.geteuid() == 0:
        header, none = (ctypes.c_uint32 * 2)(0x20080522, 0), ctypes.c_uint32
        sets = (none * 6)()
        libc = ctypes.CDLL(None, use_errno=True)
        assert libc.capget(header, sets) == 0
        sets[0] &= ~0b110
        assert libc.capset(header, sets) == 0


def _watch_files(folder: str, at: int) -> list[int]:
    """Count what is done to files in the folder; the process kills itself just before the `at`th such thing."""
    count = [0]

    def hook(event, arguments):
        if event not in {"open", "os.rename", "os.remove", "os.chmod", "os.chown"}:
            return
        place = arguments[0]
        if isinstance(place, int):
            inside = event in {"os.chmod", "os.chown"}
        else:  # a name without a path is one in a folder that is held open
            inside = str(place).startswith(folder) or not Path(str(place)).is_absolute()
        flags = arguments[2] or 0 if event == "open" else 0
        if event == "open" and (flags & os.O_PATH or not flags & (os.O_WRONLY | os.O_RDWR | os.O_DIRECTORY)):
            return  # to walk past a folder does nothing to it
        if not inside:
            return
        count[0] += 1
        if count[0] == at:
            os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(hook)
    return count


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        _serve()
