"""The event loop of the real daemon waits for no disk, no name server and no import, whatever it does."""

import json
import os
import signal
from collections import Counter

import pytest

from support import launched
from support.base_key import Host
from support.control_plane_tls import Pki, TlsDaemon
from support.daemon import HOST, wait
from support.pushed_file import Writer

REST = """
[renewal]
max_age = "2s"
[audit]
file = "{folder}/audit"
[base_key]
rotate_every = "30d"
[roles.deploy]
role_arn = "{role_arn}"
session_name = "{{fqdn}}-{{machine_id}}"
sts_endpoint = "{sts}"
[roles.helper]
source = "process"
command = ["/bin/cat", "{pushed}"]
[[files]]
role = "pushed"
format = "ini"
path = "{folder}/output"
[[grants]]
role = "deploy"
uid = {uid}
[[grants]]
role = "pushed"
user = "root"
[[grants]]
role = "helper"
group = "root"
[[grants]]
role = "pushed"
unit = "imds-proxy-test.service"
[[grants]]
role = "pushed"
token_file = "{folder}/token"
"""


class Watched(TlsDaemon):
    """The daemon, with what its loop's thread does written down."""

    def noted(self):
        """What was done, and by which function of the project."""
        lines = [json.loads(line) for line in (self.folder / "loop").read_text().splitlines()]
        return Counter(f"{each['event']} {each['about']} by {by(each['frames'])}" for each in lines)


def by(frames):
    """The innermost function of the project, which is no module that is being imported."""
    ours = [frame for frame in frames if "/imds_proxy/" in frame and not frame.endswith("<module>")]
    return ours[0].rpartition("/imds_proxy/")[2] if ours else frames


@pytest.fixture
def daemon(aws, tmp_path):
    host, pki, pushed = Host(aws.double, tmp_path), Pki(tmp_path), Writer(tmp_path, role="pushed")
    pushed.rename()
    role_arn = aws.double.add_role("Watched", aws.double.user_arn(host.user))
    values = {"folder": tmp_path, "role_arn": role_arn, "sts": aws.double.url, "pushed": pushed.path}
    config = HOST.replace('ADMIN"\n', 'ADMIN"\n' + pki.table()) + pushed.role + REST.format(uid=os.geteuid(), **values)
    (tmp_path / "loop").touch()
    launcher = launched.by("loop_watch", tmp_path / "loop")
    daemon = Watched(tmp_path, config, host.environment, launcher=launcher)
    daemon.context, daemon.pki, daemon.pushed, daemon.host = pki.prometheus(), pki, pushed, host
    with daemon:
        yield daemon.wait_ready()


def test_nothing_that_may_hang_is_done_on_the_loop(daemon):
    """Start, renewals, files, audit, scrapes, the page, reloads and a control plane's certificate that is replaced."""
    wait(lambda: {role["state"] for role in daemon.status()["roles"]} == {"ok"}, 10, "all roles")
    for path in ("/", "/metrics", "/readyz", "/readyz/deploy", "/status.json"):
        assert daemon._asked(path)[0] == 200
    first = daemon.credentials("deploy")["AccessKeyId"]
    daemon.pushed.rename()
    daemon.pki.put_server()
    daemon.wait_for_event("the control plane has a certificate in use", 2)
    (daemon.folder / "token").unlink()
    daemon.write_config(daemon.config.read_text() + '[roles.added]\nrole_arn = "arn:aws:iam::123456789012:role/x"\n')
    daemon.process.send_signal(signal.SIGHUP)
    daemon.wait_for_event("config reloaded")
    wait(lambda: daemon.credentials("deploy")["AccessKeyId"] != first, 10, "a renewal")
    daemon.wait_for_event("a new base key is in use")
    assert daemon.stop() == 0
    noted = daemon.noted()
    assert not noted, "\n".join(f"{count}x {what}" for what, count in noted.most_common())
