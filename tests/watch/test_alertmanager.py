"""The example route in a real Alertmanager: what pages, what is a ticket, and what is not told twice."""

import contextlib
import json
import subprocess
import urllib.request
from pathlib import Path

import pytest

from imds_proxy.demo.aws_double import free_port
from support.daemon import wait

CONFIG = Path(__file__).parents[2] / "grafana" / "alertmanager.yaml"
HOST = {"job": "imds-proxy", "instance": "web-1:9338"}
ROLE = HOST | {"role": "deploy"}


def alert(name, severity, labels):
    return {"labels": {"alertname": f"ImdsProxy{name}", "severity": severity, **labels}}


LATE = alert("RenewalOverdue", "warning", ROLE)
DENIED = alert("RenewalDenied", "warning", ROLE)
SOON = alert("CredentialsExpireSoon", "critical", ROLE)
EXPIRED = alert("CredentialsExpired", "critical", ROLE)
NOT_READY = alert("NotReady", "critical", HOST)
DOWN = alert("DaemonDown", "critical", HOST)
VANISHED = alert("DaemonVanished", "warning", HOST)
NO_TARGETS = alert("NoTargets", "critical", {"job": "imds-proxy"})
ELSEWHERE = alert("RenewalOverdue", "warning", ROLE | {"instance": "web-2:9338"})


class Alertmanager:
    """A running one, with the example as its whole config."""

    def __init__(self, folder):
        self._folder, self._url = folder, f"127.0.0.1:{free_port()}"

    def __enter__(self):
        options = ["--cluster.listen-address=", f"--storage.path={self._folder}", f"--web.listen-address={self._url}"]
        with (self._folder / "alertmanager.log").open("wb") as log:
            self._process = subprocess.Popen(
                ["prometheus-alertmanager", f"--config.file={CONFIG}", *options], stdout=log, stderr=log
            )
        wait(self._is_ready, 30, lambda: f"Alertmanager; its log:\n{(self._folder / 'alertmanager.log').read_text()}")
        return self

    def __exit__(self, *_):
        self._process.terminate()
        self._process.wait(20)

    def send(self, *alerts):
        self._ask("alerts", json.dumps(alerts).encode())

    def told(self):
        """The receiver of each alert that no other silences, by its name and host."""
        shown = [each for each in json.loads(self._ask("alerts")) if not each["status"]["inhibitedBy"]]
        return {_name_and_host(each["labels"]): [each["name"] for each in each["receivers"]] for each in shown}

    def _is_ready(self):
        with contextlib.suppress(OSError):
            return self._ask("status")

    def _ask(self, path, body=None):
        headers = {"Content-Type": "application/json"}
        request = urllib.request.Request(f"http://{self._url}/api/v2/{path}", body, headers)
        with urllib.request.urlopen(request, timeout=5) as answer:
            return answer.read()


def _name_and_host(labels):
    return labels["alertname"].removeprefix("ImdsProxy"), labels.get("instance", "").partition(":")[0]


@pytest.fixture
def alertmanager(tmp_path):
    with Alertmanager(tmp_path) as running:
        yield running


def test_amtool_takes_it():
    """A mistake in it would stop the Alertmanager that it is pasted into."""
    result = subprocess.run(["amtool", "check-config", CONFIG], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize(
    ("firing", "told"),
    [
        ([LATE], {("RenewalOverdue", "web-1"): ["tickets"]}),
        ([LATE, SOON], {("CredentialsExpireSoon", "web-1"): ["pager"]}),
        (
            [LATE, DENIED, SOON, ELSEWHERE],
            {
                ("CredentialsExpireSoon", "web-1"): ["pager"],
                ("RenewalDenied", "web-1"): ["tickets"],
                ("RenewalOverdue", "web-2"): ["tickets"],
            },
        ),
        ([EXPIRED, NOT_READY], {("CredentialsExpired", "web-1"): ["pager"]}),
        ([NOT_READY], {("NotReady", "web-1"): ["pager"]}),
        (
            [DOWN, LATE, EXPIRED, NOT_READY, ELSEWHERE],
            {("DaemonDown", "web-1"): ["pager"], ("RenewalOverdue", "web-2"): ["tickets"]},
        ),
        ([NO_TARGETS, VANISHED], {("NoTargets", ""): ["pager"]}),
    ],
)
def test_one_trouble_is_told_once_and_to_the_right_receiver(alertmanager, firing, told):
    """Whoever is woken by five messages about one host reads none of them; a ticket at 3 a.m. wakes nobody."""
    alertmanager.send(*firing)
    wait(lambda: alertmanager.told() == told, 10, lambda: f"{told}; it is {alertmanager.told()}")
