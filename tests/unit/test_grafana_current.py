"""What is rendered in grafana/ is what its description says."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

GRAFANA = Path(__file__).parents[2] / "grafana"


def render(folder: Path, *arguments: str) -> subprocess.CompletedProcess:
    command = [sys.executable, folder / "render.py", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


@pytest.fixture
def copy(tmp_path):
    """The folder, to be changed."""
    return shutil.copytree(GRAFANA, tmp_path / "grafana")


def test_every_rendered_file_is_current():
    """Somebody would import a dashboard, or be paged by a rule, that the description does not have any more."""
    done = render(GRAFANA, "--check")
    assert (done.returncode, done.stderr) == (0, "")


def test_a_file_that_was_edited_by_hand_is_named(copy):
    """The next rendering would silently undo the edit."""
    edited = copy / "imds-proxy.json"
    edited.write_text(edited.read_text().replace('"refresh": "1m"', '"refresh": "5s"'))
    done = render(copy, "--check")
    assert done.returncode == 1
    assert done.stderr == "grafana/imds-proxy.json is not current: run make dashboards\n"
    assert '"refresh": "5s"' in edited.read_text(), "a check writes nothing"


def test_a_file_that_is_missing_is_made(copy):
    """A description that gets a further file would need a hand to make it."""
    (copy / "imds-proxy.json").unlink()
    assert render(copy, "--check").returncode == 1
    assert render(copy).returncode == 0
    assert (copy / "imds-proxy.json").read_bytes() == (GRAFANA / "imds-proxy.json").read_bytes()


def test_the_mixin_has_every_rendered_file():
    """Who deploys by jsonnet would get the dashboard without the alerts, or an import that is not there."""
    imported = set(re.findall(r"import(?:str)? '([^']+)'", (GRAFANA / "mixin.libsonnet").read_text()))
    assert imported == {"imds-proxy.json", "alerts.yaml", "rules.yaml"}
