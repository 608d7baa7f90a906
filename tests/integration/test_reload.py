"""What a reload changes at once (daemon.py)."""

import asyncio
import contextlib
import os
import socket
import threading
import tomllib
from functools import partial

import pytest

from imds_proxy import reload
from imds_proxy.callers.identity_providers import Identity
from imds_proxy.config.reader import load, parse
from imds_proxy.daemon import Daemon
from imds_proxy.demo.aws_double import free_port
from imds_proxy.host.systemd import Notifier
from imds_proxy.renewal.roles import Roles
from support.daemon import request
from support.log_lines import logged
from support.pushed_file import Writer

CONFIG = """
region = "eu-west-1"
state_dir = ""
[metadata]
listen = ["127.0.0.1:{port}"]
imds_v1 = true
[admin]
listen = "127.0.0.1:{admin}"
[[grants]]
role = "{role}"
uid = {uid}
"""
LIST = "latest/meta-data/iam/security-credentials/"


async def test_who_may_have_a_role_changes_before_what_is_dropped_has_ended(tmp_path, monkeypatch):
    """A helper that takes its time to end would leave a role open that was taken away."""
    ports = {"port": free_port(), "admin": free_port(), "uid": os.geteuid()}
    path, ended, stop = tmp_path / "config.toml", asyncio.Event(), Roles.stop

    async def stop_slowly(dropped):
        await ended.wait()
        await stop(dropped)

    def configure(role):
        writer = Writer(tmp_path, role=role)
        writer.rename()
        path.write_text(CONFIG.format(role=role, **ports) + writer.role)

    async def answered(role, status):
        url = f"http://127.0.0.1:{ports['port']}/{LIST}{role}"
        async with asyncio.timeout(10):
            while True:
                with contextlib.suppress(ConnectionError):  # until it has credentials
                    if (await asyncio.to_thread(request, url))[0] == status:
                        return
                await asyncio.sleep(0.02)

    configure("before")
    daemon = Daemon(load(path), read_config=partial(load, path))
    await daemon.start()
    await answered("before", 200)
    monkeypatch.setattr(Roles, "stop", staticmethod(stop_slowly))
    configure("after")
    reload = asyncio.create_task(daemon.reload())
    await answered("before", 404)
    assert not reload.done()
    ended.set()
    await reload
    await answered("after", 200)
    await daemon.stop()


class Systemd:
    """What comes in on a notify socket."""

    def __init__(self, path):
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(path))
        self._socket.setblocking(False)  # noqa: FBT003 - the socket API's own
        self.notifier = Notifier(str(path))

    def told(self):
        """The first line of each message but those that only say how it is."""
        lines = []
        with contextlib.suppress(BlockingIOError):
            while line := self._socket.recv(4096).decode().splitlines()[0]:
                lines.append(line)
        return [line for line in lines if not line.startswith("STATUS")]

    def close(self):
        self._socket.close()


@pytest.fixture
async def reloading(tmp_path):
    """`reloading(read_config)`: a daemon with the role `before`, and systemd."""
    systemd = Systemd(tmp_path / "notify")
    path, ports = tmp_path / "config.toml", {"port": free_port(), "admin": free_port(), "uid": os.geteuid()}
    writer = Writer(tmp_path, role="before")
    writer.rename()
    path.write_text(CONFIG.format(role="before", **ports) + writer.role)
    daemons = []

    async def start(read_config):
        daemons.append(Daemon(load(path), read_config=read_config, notifier=systemd.notifier))
        await daemons[0].start()
        systemd.told()
        return daemons[0], systemd

    yield start
    for daemon in daemons:
        await daemon.stop()
    systemd.close()


@pytest.mark.parametrize("where", ["reading", "applying"])
async def test_an_unexpected_error_leaves_the_old_config_and_ends_the_reload_for_systemd(
    reloading, tmp_path, monkeypatch, where
):
    """systemd would show it as reloading for good, and refuse the next reload; the log would say nothing."""
    after = Writer(tmp_path, role="after")
    after.rename()
    follow = Identity.follow

    async def fail_once(self, config):
        if where == "applying" and "after" in config.roles:
            raise RuntimeError("with a secret in it")
        await follow(self, config)

    def read():
        if where == "reading":
            raise RuntimeError("with a secret in it")
        text = (tmp_path / "config.toml").read_text().replace('"before"', '"after"').replace(before_role, after.role)
        return parse(tomllib.loads(text), "test")

    daemon, systemd = await reloading(read)
    before_role = Writer(tmp_path, role="before").role
    monkeypatch.setattr(Identity, "follow", fail_once)
    with logged() as lines:
        await daemon.reload()
        [line] = lines("the config was not reloaded; the old one stays")
    assert [word.partition("=")[0] for word in systemd.told()] == ["RELOADING", "READY"]
    assert line["error"].startswith("unexpected RuntimeError")
    assert "test_reload.py" in line["error"]
    assert "secret" not in line["error"]
    assert line["advice"] == "this is a defect of imds-proxy: please report this line"
    metrics = (await asyncio.to_thread(request, f"http://{daemon.config.admin.listen}/metrics"))[2].decode()
    assert "imds_proxy_config_last_reload_successful 0.0" in metrics
    assert list(daemon.config.roles) == ["before"]
    assert list(daemon._roles.served()) == ["before"]


async def test_a_config_on_a_disk_that_hangs_is_given_up_and_holds_up_nothing(reloading, monkeypatch):
    """One reload would have stopped the daemon until the disk went on."""
    goes_on = threading.Event()
    daemon, systemd = await reloading(lambda: goes_on.wait(20))
    monkeypatch.setattr(reload, "_READ_WITHIN", 0.3)
    with logged() as lines:
        await daemon.reload()
        await daemon.reload()
        assert [line["error"] for line in lines("not reloaded")] == ["the config could not be read within 0.3 s"] * 2
    assert [thread.name for thread in threading.enumerate()].count("<lambda>") == 1
    assert [word.partition("=")[0] for word in systemd.told()] == ["RELOADING", "READY"] * 2
    goes_on.set()


async def test_a_reload_reads_every_file_of_the_config_and_a_bad_one_keeps_the_old(reloading, tmp_path):
    """A role that a package put into conf.d would wait for a restart, and a half-written file end the daemon."""
    path, further = tmp_path / "config.toml", tmp_path / "conf.d" / "20-further.toml"
    daemon, _ = await reloading(partial(load, path))
    writer = Writer(tmp_path, role="further")
    writer.rename()
    further.parent.mkdir(mode=0o755)
    further.write_text(writer.role)
    further.chmod(0o644)
    await daemon.reload()
    assert list(daemon.config.roles) == ["before", "further"]
    further.write_text("[roles.further\n")
    with logged() as lines:
        await daemon.reload()
        [line] = lines("the config was not reloaded; the old one stays")
    assert line["error"].startswith(f"{further}:1: is not valid TOML")
    assert list(daemon.config.roles) == ["before", "further"]
