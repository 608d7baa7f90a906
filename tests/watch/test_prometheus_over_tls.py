"""A real Prometheus, of a user that may see no role, scrapes the real daemon over TLS: with a certificate or not."""

import http.client
import json
import os
import subprocess
import tempfile
import urllib.parse
from contextlib import contextmanager
from pathlib import Path

import pytest

from imds_proxy.demo.aws_double import free_port
from support.control_plane_tls import Pki, TlsDaemon
from support.daemon import HOST, wait
from support.pushed_file import Writer
from support.users import temporary_users

CONFIG = """
global: {{scrape_interval: 1s, scrape_timeout: 1s}}
scrape_configs:
  - job_name: imds-proxy
    scheme: https
    tls_config: {tls}
    static_configs: [{{targets: ["127.0.0.1:{port}"]}}]
"""


@pytest.fixture
def pki(tmp_path):
    return Pki(tmp_path)


@pytest.fixture
def daemon(tmp_path, pki):
    writer = Writer(tmp_path)
    writer.rename()
    admin = 'listen = "127.0.0.1:ADMIN"\n'
    grant = '[[grants]]\nrole = "deploy"\nuser = "root"\n'
    daemon = TlsDaemon(tmp_path, HOST.replace(admin, admin + pki.table()) + writer.role + grant, {})
    daemon.context = pki.prometheus()
    with daemon:
        yield daemon.wait_ready()


@contextmanager
def prometheus(pki, port, issuer=None):
    """`ask(path, query)`: a Prometheus' API. It trusts the server's CA, and has a certificate of `issuer`, if any."""
    with tempfile.TemporaryDirectory() as name, temporary_users() as users:
        folder, user, own = Path(name), users.add(), free_port()
        tls = {"ca_file": f"{name}/ca.pem"}
        (folder / "ca.pem").write_bytes(pki.servers.cert_pem.bytes())
        if issuer is not None:
            issued = issuer.issue_cert("prometheus.example")
            (folder / "own.crt").write_bytes(issued.cert_chain_pems[0].bytes())
            (folder / "own.key").write_bytes(issued.private_key_pem.bytes())
            tls |= {"cert_file": f"{name}/own.crt", "key_file": f"{name}/own.key"}
        (folder / "prometheus.yml").write_text(CONFIG.format(tls=json.dumps(tls), port=port))
        for path in (folder, *folder.iterdir()):
            os.chown(path, user.uid, user.gid)
        command = ["prometheus", f"--config.file={name}/prometheus.yml", f"--storage.tsdb.path={name}/data"]
        command += [f"--web.listen-address=127.0.0.1:{own}", "--log.level=warn"]
        running = subprocess.Popen(command, user=user.uid, group=user.gid, extra_groups=[])
        try:
            yield lambda path, **query: ask(own, f"/api/v1/{path}?{urllib.parse.urlencode(query)}")
        finally:
            running.terminate()
            running.wait(20)


def ask(port, path):
    """What the API answers; None while it does not."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        return json.loads(response.read())["data"] if response.status == 200 else None
    except OSError:
        return None
    finally:
        connection.close()


def values(prometheus, query):
    """The values of a query."""
    data = prometheus("query", query=query)
    return [float(each["value"][1]) for each in data["result"]] if data else []


def target(prometheus):
    """The one that it scrapes, once it has."""
    data = wait(lambda: prometheus("targets", state="active"), 20, "Prometheus")
    return data["activeTargets"][0]


def test_with_a_certificate_it_sees_every_role_across_a_rotation(daemon, pki):
    """Who would be told of an expiry has no other eyes."""
    with prometheus(pki, daemon.admin_port, pki.clients) as running:
        wait(lambda: values(running, 'up{job="imds-proxy"}') == [1], 30, lambda: target(running))
        wait(lambda: values(running, 'imds_proxy_role_info{role="deploy"}') == [1], 10, "the role")
        pki.put_server()
        daemon.wait_for_event("the control plane has a certificate in use", 2)
        wait(lambda: values(running, "count_over_time(up[5s])") >= [4], 20, "scrapes since")
        assert values(running, "min_over_time(up[20s])") == [1]
        size = values(running, "scrape_samples_scraped")
        assert size > [50]


@pytest.mark.parametrize("issuer", [None, "strangers"])
def test_without_one_or_with_anothers_it_is_told_by_its_target(daemon, pki, issuer):
    """A scrape that looks well and holds nothing would raise no alert."""
    with prometheus(pki, daemon.admin_port, issuer and getattr(pki, issuer)) as running:
        if issuer is None:
            wait(lambda: values(running, "up") == [1], 30, lambda: target(running))
            assert values(running, "imds_proxy_role_info") == []
            assert values(running, "imds_proxy_build_info") == [1]
        else:
            wait(lambda: values(running, "up") == [0], 30, lambda: target(running))
            assert target(running)["lastError"]
            assert daemon.wait_for_event("a client's certificate is not accepted")["uid"] > 0
