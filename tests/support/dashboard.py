"""The rendered dashboard, as Grafana would ask Prometheus for it."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

PATH = Path(__file__).parents[2] / "grafana/imds-proxy.json"
ALL = ".+"
"""What Grafana puts where All is chosen."""
AWAY = 16 * 3600

NEEDS = {
    "What needs somebody": "lists what is wrong, so it is empty in health",
    "Life left of certificates": 'only roles of `source = "roles-anywhere"` have one',
    "Certificate files refused": 'only roles of `source = "roles-anywhere"` have one',
    "Age of base keys": "only with `rotate_every` in `[base_key]`",
    "Base key rotations": "only with `rotate_every` in `[base_key]`",
}
"""Panels that rightly show nothing of a healthy daemon that has roles, files and callers, and why."""

_VARIABLE = re.compile(r"\$\{?(\w+)(?::\w+)?\}?")


def load() -> dict:
    return json.loads(PATH.read_text())


def panels(dashboard: dict | None = None) -> list[dict]:
    """All but the titles of rows."""
    return [panel for panel in (dashboard or load())["panels"] if panel["type"] != "row"]


def expressions(interval: str = "1m", time_range: str = "1h", **chosen: str) -> list[tuple[str, str, str]]:
    """Title, refId and PromQL of every query.

    `interval` stands for the rate interval of a graph, and `chosen` for what is selected: job, instance, role, away.
    """
    values = {"__rate_interval": interval, "__interval": interval, "__range": time_range}
    values |= {"job": "imds-proxy", "instance": ALL, "role": ALL, "away": str(AWAY)} | chosen
    return [
        (panel["title"], target["refId"], substitute(target["expr"], values))
        for panel in panels()
        for target in panel["targets"]
    ]


def substitute(text: str, values: dict[str, str]) -> str:
    """A variable that is none of the dashboard's is an error."""
    return _VARIABLE.sub(lambda found: values[found[1]], text)


def selectors(expr: str) -> Iterator[tuple[str, dict[str, tuple[str, str]]]]:
    """Every metric of an expression that is written with braces, with operator and value of each matcher."""
    for metric, matchers in re.findall(r"(\w+)\{([^}]*)\}", expr):
        yield metric, {name: (how, value) for name, how, value in re.findall(r'(\w+)(=~|!~|!=|=)"([^"]*)"', matchers)}
