"""Situations of daemons as Prometheus would have seen them, and which alerts fire then: `promtool test rules`."""

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

GRAFANA = Path(__file__).parents[2] / "grafana"
sys.path.append(str(GRAFANA))

import rules  # noqa: E402 - it is no package

MINUTE, HOUR, DAY = 60.0, 3600.0, 86400.0
GONE = None
"""No sample, of a series that was there: a scrape without it, or none."""

_FIRING = 'ALERTS{alertstate="firing"}'

Series = Mapping[str, Sequence[float | None]]
"""Values, one for each step from the time 0 on."""


@dataclass(frozen=True)
class Situation:
    """What is scraped, and what fires.

    Args:
        says: What happens, as the test's name.
        series: What is scraped.
        fires: The alerts that fire, all of them, at a time in seconds. At no time others do.
        step: Seconds between scrapes, and between evaluations.
    """

    says: str
    series: Series
    fires: Sequence[tuple[float, set[str]]]
    step: float = 30.0

    def as_test(self) -> dict:
        return {
            "interval": f"{self.step:g}s",
            "input_series": [{"series": name, "values": _values(values)} for name, values in self.series.items()],
            "promql_expr_test": [_expectation(_FIRING, at, names) for at, names in self.fires] + [self._at_any_time()],
        }

    def _at_any_time(self) -> dict:
        end = self.step * max(len(values) for values in self.series.values())
        ever = f"last_over_time({_FIRING}[{round(end)}s])"
        return _expectation(ever, end, set().union(*(names for _, names in self.fires)))


def promtool(*arguments: object) -> str:
    """What it prints; fails with that if it fails."""
    done = subprocess.run(["promtool", *map(str, arguments)], capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def run_test(folder: Path, test: dict, step: float = 30.0) -> None:
    """Fails where the rules, as they are rendered now, do other things than the test says."""
    for name, text in rules.files().items():
        (folder / name).write_text(text)
    document = {"rule_files": [*rules.files()], "evaluation_interval": f"{step:g}s", "tests": [test]}
    (folder / "test.yaml").write_text(json.dumps(document))
    promtool("test", "rules", folder / "test.yaml")


def _values(values: Sequence[float | None]) -> str:
    """In promtool's notation; repetitions are shortened, since it parses slowly."""
    said: list[str] = []
    first = 0
    while first < len(values):
        last = first
        while last + 1 < len(values) and values[last + 1] == values[first]:
            last += 1
        value = "stale" if values[first] is GONE else f"{values[first]:.10g}+0x{last - first}"
        said += [value] + (["_"] * (last - first) if values[first] is GONE else [])
        first = last + 1
    return " ".join(said)


def _expectation(alerts: str, at: float, names: set[str]) -> dict:
    samples = [{"labels": f'{{alertname="ImdsProxy{name}"}}', "value": 1} for name in sorted(names)]
    return {"expr": f"group by (alertname) ({alerts})", "eval_time": f"{round(at * 1000)}ms", "exp_samples": samples}
