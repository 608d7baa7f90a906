"""A compose file as the commands of podman that it stands for, one container after the other.

It knows the keys that the files of deploy/container use, and fails on any other: a key that nobody translates is one
that no test has tried. Networks are those of a `Lab`, with the addresses that the file gives.
"""

import re
from pathlib import Path
from typing import Any

import yaml

from support.lab import Lab
from support.podman import Podman

_VARIABLE = re.compile(r"\$\{(?P<name>\w+)(?::(?P<kind>[-?])(?P<rest>[^}]*))?\}")
_SERVICE = {
    "image", "hostname", "user", "read_only", "cap_drop", "security_opt", "environment", "secrets", "volumes", "tmpfs",
    "healthcheck", "restart", "network_mode", "networks", "depends_on",
}  # fmt: skip


class Compose:
    """A project.

    Args:
        podman: What runs it.
        file: The compose file; its relative paths begin in its folder.
        variables: As in the environment of `compose`.
        labs: The network namespace of each service that has one of its own.
    """

    def __init__(self, podman: Podman, file: Path, variables: dict[str, str], labs: dict[str, Lab]) -> None:
        self._podman, self._folder, self._labs = podman, file.parent, labs
        self._file = yaml.safe_load(_VARIABLE.sub(lambda match: _value(match, variables), file.read_text()))
        _known(self._file, {"name", "services", "secrets", "volumes", "networks"})
        for service in self._file["services"].values():
            _known(service, _SERVICE)
        self.name = self._file["name"]

    def container(self, service: str) -> str:
        return f"{self.name}_{service}_1"

    def up(self) -> None:
        """Start each service after those that it waits for."""
        started: list[str] = []
        services = self._file["services"]
        while len(started) < len(services):
            for name, service in services.items():
                wanted = service.get("depends_on", {})
                if name not in started and all(each in started for each in wanted):
                    for each, how in wanted.items():
                        assert how == {"condition": "service_healthy"}
                        self._podman.wait_healthy(self.container(each))
                    self._podman(
                        "run", "--detach", "--replace", "--name", self.container(name), *self.options(service, name)
                    )
                    started.append(name)

    def down(self) -> None:
        for name in reversed(self._file["services"]):
            self._podman("rm", "--ignore", "--force", "--time", "1", self.container(name))

    def options(self, service: dict[str, Any], name: str) -> list[str]:
        """The arguments of `podman run`."""
        made = [f"--network={self._network(service, name)}"]
        made += [f"--{key}={service[key]}" for key in ("hostname", "user", "restart") if key in service]
        made += ["--read-only", "--read-only-tmpfs=false"] if service.get("read_only") else []
        made += [f"--cap-drop={each}" for each in service.get("cap_drop", [])]
        made += [f"--security-opt={_option(each)}" for each in service.get("security_opt", [])]
        made += [f"--env={key}={value}" for key, value in service.get("environment", {}).items()]
        made += [f"--tmpfs={each}" for each in service.get("tmpfs", [])]
        made += [f"--volume={self._volume(each)}" for each in service.get("volumes", [])]
        for secret in service.get("secrets", []):
            _known(self._file["secrets"][secret], {"file"})
            made.append(f"--volume={self._folder / self._file['secrets'][secret]['file']}:/run/secrets/{secret}:ro")
        made += _health(service.get("healthcheck"))
        return [*made, service["image"]]

    def _network(self, service: dict[str, Any], name: str) -> str:
        if mode := service.get("network_mode"):
            return f"container:{self.container(mode.removeprefix('service:'))}"
        for network, settings in service.get("networks", {}).items():
            _known(settings, {"ipv4_address"})
            assert self._file["networks"][network]["ipam"]["config"][0]["subnet"]
        return self._labs[name].network

    def _volume(self, text: str) -> str:
        source, rest = text.split(":", 1)
        if source in self._file["volumes"]:
            return f"{self.name}_{source}:{rest}"
        assert source.startswith("./"), f"{source} is no volume of the file"
        return f"{self._folder / source}:{rest}"

    def address(self, service: str, network: str) -> str:
        """`ADDRESS/LENGTH`, as the file has them."""
        length = self._file["networks"][network]["ipam"]["config"][0]["subnet"].partition("/")[2]
        return f"{self._file['services'][service]['networks'][network]['ipv4_address']}/{length}"


def _health(check: dict[str, Any] | None) -> list[str]:
    if check is None:
        return []
    _known(check, {"test", "interval", "timeout", "retries", "start_period"})
    kind, *command = check["test"]
    assert kind == "CMD"
    quoted = "[" + ", ".join(f'"{each}"' for each in command) + "]"
    times = [f"--health-{key.replace('_', '-')}={check[key]}" for key in ("timeout", "retries", "start_period")]
    return [f"--health-cmd={quoted}", "--health-interval=disable", *times]  # no timer without systemd: the tests run it


def _option(text: str) -> str:
    assert text == "no-new-privileges:true"
    return "no-new-privileges"


def _known(table: dict[str, Any], keys: set[str]) -> None:
    assert set(table) <= keys, f"keys that are not translated: {set(table) - keys}"


def _value(match: re.Match, variables: dict[str, str]) -> str:
    name, kind, rest = match["name"], match["kind"], match["rest"]
    if name in variables:
        return variables[name]
    assert kind == "-", f"{name}: {rest}"
    return rest
