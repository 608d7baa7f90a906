"""A real Prometheus that scrapes real daemons every second, and what its alerts do meanwhile."""

import contextlib
import json
import subprocess
import threading
import time
import urllib.parse
import urllib.request
from pathlib import Path

from imds_proxy.demo.aws_double import free_port
from support.daemon import wait

_CONFIG = """
global: {scrape_interval: 1s, scrape_timeout: 1s, evaluation_interval: 1s}
rule_files: [alerts.yaml, rules.yaml]
scrape_configs:
  - job_name: imds-proxy
    file_sd_configs: [{files: [targets.json], refresh_interval: 1s}]
    relabel_configs: [{source_labels: [host], target_label: instance}, {regex: host, action: labeldrop}]
"""


class Prometheus:
    """One with some rules, until it is left.

    Args:
        folder: For its config and its data.
        rule_files: Their text, by name.
    """

    def __init__(self, folder: Path, rule_files: dict[str, str]):
        self._folder, self._port = folder, free_port()
        for name, text in rule_files.items():
            (folder / name).write_text(text)
        (folder / "prometheus.yaml").write_text(_CONFIG)
        self.scrape({})

    def __enter__(self):
        command = ["prometheus", "--config.file=prometheus.yaml", "--storage.tsdb.path=data", "--log.level=warn"]
        with (self._folder / "prometheus.log").open("wb") as log:
            self._process = subprocess.Popen(
                [*command, f"--web.listen-address=127.0.0.1:{self._port}"], cwd=self._folder, stdout=log, stderr=log
            )
        wait(self._is_ready, 30, lambda: f"Prometheus; its log:\n{(self._folder / 'prometheus.log').read_text()}")
        return self

    def __exit__(self, *_):
        self._process.terminate()
        self._process.wait(20)

    def scrape(self, targets: dict[str, int]) -> None:
        """Have these scraped and no others: ports by the name of a host."""
        document = [{"targets": [f"127.0.0.1:{port}"], "labels": {"host": name}} for name, port in targets.items()]
        new = self._folder / "targets.new"
        new.write_text(json.dumps(document))
        new.replace(self._folder / "targets.json")

    def query(self, expr: str) -> list[dict]:
        """The samples of an instant query."""
        return self._get("query?" + urllib.parse.urlencode({"query": expr}))["result"]

    def firing(self) -> set[tuple[str, str]]:
        """Alert, without its prefix, and host, "" where it is about none."""
        alerts = [alert for alert in self._get("alerts")["alerts"] if alert["state"] == "firing"]
        return {_named(alert["labels"]) for alert in alerts}

    def unhealthy(self) -> list[str]:
        """Rules that could not be evaluated."""
        groups = self._get("rules")["groups"]
        return [
            f"{rule['name']}: {rule['lastError']}" for g in groups for rule in g["rules"] if rule["health"] == "err"
        ]

    def _get(self, path: str) -> dict:
        with urllib.request.urlopen(f"http://127.0.0.1:{self._port}/api/v1/{path}", timeout=10) as answer:
            return json.load(answer)["data"]

    def _is_ready(self) -> bool:
        with contextlib.suppress(OSError):
            return bool(self.query("vector(1)"))
        return False


class Timeline:
    """When each alert began and ended to fire, seconds since the start, until it is left."""

    def __init__(self, prometheus: Prometheus):
        self._prometheus = prometheus
        self._began = time.monotonic()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self.fired: dict[tuple[str, str], list[list[float]]] = {}
        self.phases: list[tuple[float, str]] = []

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._ended.set()
        self._thread.join()

    @property
    def now(self) -> float:
        return time.monotonic() - self._began

    def phase(self, name: str) -> None:
        self.phases.append((self.now, name))

    def names(self, host: str) -> set[str]:
        """What ever fired for a host."""
        return {alert for alert, of in self.fired if of == host}

    def table(self) -> str:
        lines = [f"{at:7.1f} s  {name}" for at, name in self.phases]
        for (alert, host), times in sorted(self.fired.items(), key=lambda item: (item[0][1], item[1])):
            said = ", ".join(f"{begin:.0f} to {end:.0f} s" for begin, end in times)
            lines.append(f"  {host:10} {alert:26} {said}")
        return "\n".join(lines)

    def _watch(self) -> None:
        before: set[tuple[str, str]] = set()
        while not self._ended.wait(0.5):
            firing, now = self._prometheus.firing(), self.now
            for each in firing:
                if each not in before:
                    self.fired.setdefault(each, []).append([now, now])
                self.fired[each][-1][1] = now
            before = firing


def _named(labels: dict[str, str]) -> tuple[str, str]:
    return labels["alertname"].removeprefix("ImdsProxy"), labels.get("instance", "")
