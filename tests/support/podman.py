"""podman without an engine's daemon, systemd, or rights over the host's cgroups: in a mount namespace of its own.

Images and their layers are kept in `.cache/deploy`, so that a second run builds nothing. Containers get the network
namespace of a `Lab`, never a bridge, which would stay on the host.
"""

import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Self

ROOT = Path(__file__).parents[2]
CACHE = ROOT / ".cache/deploy"
PACKAGES = ("python3", "python3-venv", "ca-certificates")
BASE = "localhost/imds-proxy-test-base:bookworm"
NEEDED = ("podman", "crun", "mmdebstrap", "nsenter", "setpriv", "unshare", "ip")
DIES_WITH_US = ("setpriv", "--pdeathsig", "KILL")
"""How a holder of a namespace is started, so that a killed run leaves none."""
_CONF = """
[containers]
cgroups = "disabled"
cgroupns = "host"
default_ulimits = ["nofile=1024:1024", "nproc=4096:4096"]
log_driver = "k8s-file"
[engine]
cgroup_manager = "cgroupfs"
events_logger = "file"
lock_type = "file"
"""
_NAMESPACE = "umount -R /sys/fs/cgroup; mount -t cgroup2 none /sys/fs/cgroup && exec sleep infinity"


class Podman:
    """The command, and what it started: all of that ends with the `with` block."""

    def __init__(self, folder: Path = CACHE) -> None:
        self._folder = folder
        missing = [name for name in NEEDED if shutil.which(name) is None]
        assert not missing, f"these programs are missing: {missing}"
        assert os.geteuid() == 0, "images are built and run as root here"

    def __enter__(self) -> Self:
        for name in ("storage", "run", "tmp"):
            (self._folder / name).mkdir(parents=True, exist_ok=True)
        (self._folder / "containers.conf").write_text(_CONF)
        self._holder = subprocess.Popen([*DIES_WITH_US, "unshare", "--mount", "sh", "-c", _NAMESPACE])
        _until(lambda: Path(f"/proc/{self._holder.pid}/comm").read_text() == "sleep\n", "the namespace")
        self._remove_all()
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self._remove_all()
        finally:
            self._holder.kill()
            self._holder.wait()

    def _remove_all(self) -> None:
        self("rm", "--all", "--force", "--time", "2", check=False)
        self("volume", "prune", "--force", check=False)

    def __call__(self, *arguments: object, check: bool = True, **options) -> subprocess.CompletedProcess:
        """Run `podman …`; what it printed is in the error where it fails."""
        options = {"capture_output": True, "text": True, "timeout": 900, "env": self._environment()} | options
        done = subprocess.run([*self._command(), *map(str, arguments)], check=False, **options)
        said = f"podman {arguments[0]}: {done.returncode}\n{done.stdout}{done.stderr}"
        assert not check or done.returncode == 0, said
        return done

    def _command(self) -> list[str]:
        folder = self._folder
        command = ["nsenter", f"--mount=/proc/{self._holder.pid}/ns/mnt", f"--wdns={Path.cwd()}", "podman"]
        command += ["--root", folder / "storage", "--runroot", folder / "run", "--tmpdir", folder / "tmp"]
        return [*map(str, command), "--storage-driver", "overlay"]

    def _environment(self) -> dict[str, str]:
        conf = str(self._folder / "containers.conf")
        return {"PATH": os.environ["PATH"], "HOME": str(self._folder), "CONTAINERS_CONF": conf}

    def as_program(self, folder: Path, *, network: str, base: str) -> Path:
        """A folder for PATH with a `podman` that takes a user's own commands.

        Args:
            folder: Is made.
            network: Of a container whose command names none.
            base: What images are built on.
        """
        folder.mkdir()
        begin = [each for each in self._command() if not each.startswith("--wdns=")]
        further = {
            "build": [*self._build_options(), f"--build-arg=BASE={base}"],
            "run": [f"--network={network}"],
        }
        program = folder / "podman"
        program.write_text(
            _PROGRAM.format(python=sys.executable, begin=begin, further=further, env=self._environment())
        )
        program.chmod(0o755)
        return folder

    def inspect(self, kind: str, name: str) -> dict:
        return json.loads(self(kind, "inspect", name).stdout)[0]

    def logs(self, name: str) -> str:
        done = self("logs", name)
        return done.stdout + done.stderr

    def wait_for_log(self, name: str, text: str, seconds: float = 60) -> str:
        _until(lambda: text in self.logs(name), lambda: f"{text!r} of {name}:\n{self.logs(name)}", seconds)
        return self.logs(name)

    def wait_healthy(self, name: str, seconds: float = 60) -> None:
        """As `depends_on` with `service_healthy` waits; the engine's own timer takes systemd."""
        _until(
            lambda: self("healthcheck", "run", name, check=False).returncode == 0,
            lambda: f"{name} healthy:\n{self.logs(name)}",
            seconds,
        )

    def base(self) -> str:
        """A small Debian with Python as the image to build on; made once."""
        wanted = hashlib.sha256(" ".join(PACKAGES).encode()).hexdigest()
        tar, stamp = self._folder / "base.tar", self._folder / "base.tar.of"
        if not tar.exists() or not stamp.exists() or stamp.read_text() != wanted:
            command = ["mmdebstrap", "--quiet", "--variant=minbase", f"--include={','.join(PACKAGES)}", "bookworm", tar]
            subprocess.run(command, check=True, timeout=900)
            stamp.write_text(wanted)
            self("rmi", "--force", BASE, check=False)
        if self("image", "exists", BASE, check=False).returncode:
            self("import", "--quiet", tar, BASE)
        return BASE

    def build(self, containerfile: Path, tag: str, context: Path, **build_arguments: str) -> str:
        """An image by `podman build`, with this machine's settings of pip as secrets; layers are kept."""
        options = [*self._build_options(), *(f"--build-arg={name}={value}" for name, value in build_arguments.items())]
        began = time.monotonic()
        self("build", "--format=docker", *options, "--file", containerfile, "--tag", tag, context)
        print(f"build of {tag}: {time.monotonic() - began:.0f} s")
        return tag

    def _build_options(self) -> list[str]:
        (self._folder / "pip.conf").write_text(_pip_conf())
        certificates = os.environ.get("PIP_CERT", "/etc/ssl/certs/ca-certificates.crt")
        secrets = {"pip.conf": self._folder / "pip.conf", "ca.pem": certificates}
        options = [f"--secret=id={name},src={path}" for name, path in secrets.items()]
        return [*options, "--isolation=chroot", "--network=host", "--layers"]


_PROGRAM = """#!{python}
import os, sys
verb, *rest = sys.argv[1:]
further = {further}.get(verb, [])
if any(each.startswith("--network") for each in rest):
    further = []
begin = {begin}
begin.insert(2, "--wdns=" + os.getcwd())
os.execvpe(begin[0], [*begin, verb, *further, *rest], {env})
"""


def _pip_conf() -> str:
    """This machine's settings of pip, with certificates where the build has them, and no folder of this machine."""
    done = subprocess.run(["pip", "config", "list"], capture_output=True, text=True, check=False)
    settings = dict(line.split("=", 1) for line in done.stdout.splitlines() if line.startswith(("global.", ":env:.")))
    names = {key.rpartition(".")[2]: value.strip("'") for key, value in settings.items()}
    kept = {
        name: value
        for name, value in names.items()
        if name in {"index-url", "extra-index-url", "trusted-host", "proxy"}
    }
    return "\n".join(["[global]", "cert = /run/secrets/ca.pem", *(f"{k} = {v}" for k, v in kept.items()), ""])


def _until(condition, what, seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        text = what if isinstance(what, str) else None
        assert time.monotonic() < deadline, f"not within {seconds} s: {text or what()}"
        time.sleep(0.2)
