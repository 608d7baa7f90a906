"""What a reload changes at once (daemon.py)."""

import asyncio
import contextlib
import os
from functools import partial

from imds_proxy.config_file import load
from imds_proxy.daemon import Daemon
from imds_proxy.demo.aws_double import free_port
from imds_proxy.roles import Roles
from support.daemon import request
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
