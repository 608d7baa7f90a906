"""The chart: where it is, rendering it, and its values."""

import json
import os
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[2]
KUBERNETES = ROOT / "deploy/kubernetes"
CHART = KUBERNETES / "chart/imds-proxy"
CASES = {path.stem: path for path in sorted((ROOT / "tests/deploy/values").glob("*.yaml"))}
"""Values for every way to install it, by name."""
HELM = Path(os.environ.get("HELM") or ROOT / ".cache/helm/helm")
KUBECTL = Path(sys.executable).parent / "kubectl"
KUBE_VERSION = "1.36.3"
"""What helm renders for without a server: as tests/deploy/cluster/go.mod has it."""
RELEASE = NAMESPACE = "imds-proxy"


def run(*command, **options):
    """Its standard output; an AssertionError with its errors if it fails."""
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False, timeout=120, **options)
    assert done.returncode == 0, f"{' '.join(map(str, command))}: {done.stderr or done.stdout}"
    return done.stdout


@contextmanager
def _without_settings(kubeconfig):
    """An environment with nothing of a user's own settings, or of a cluster that they lead to."""
    with tempfile.TemporaryDirectory() as home:
        yield {"PATH": os.environ["PATH"], "HOME": home, "KUBECONFIG": str(kubeconfig)}


def helm(*arguments, kubeconfig="/nonexistent", **options):
    """As `run`."""
    assert HELM.exists(), f"{HELM} is missing: make cluster builds it"
    with _without_settings(kubeconfig) as environment:
        return run(HELM, *arguments, env=environment, **options)


def kubectl(*arguments, kubeconfig="/nonexistent", **options):
    """As `run`."""
    with _without_settings(kubeconfig) as environment:
        return run(KUBECTL, *arguments, env=environment, **options)


def template(*files, values=None, release=RELEASE, namespace=NAMESPACE, kube_version=KUBE_VERSION):
    """What `helm template` prints for files of values and then for `values`, a dictionary."""
    own = ["--values", "-"] if values is not None else []
    options = [each for file in files for each in ("--values", file)]
    given = json.dumps(values) if values is not None else None
    where = ["--namespace", namespace, "--kube-version", kube_version]
    return helm("template", release, CHART, *where, *options, *own, input=given)


def documents(text):
    """The objects of a rendered text."""
    return [document for document in yaml.safe_load_all(text) if document]


def of_kind(kind, objects):
    """The one object of a kind."""
    (found,) = (each for each in objects if each["kind"] == kind)
    return found


def schema():
    return json.loads((CHART / "values.schema.json").read_text())


def leaves(node, path=()):
    """Every value that can be set, as (path, its schema)."""
    for name, each in node.get("properties", {}).items():
        if "properties" in each:
            yield from leaves(each, (*path, name))
        elif (*path, name) != ("global",):
            yield (*path, name), each


def at(values, path):
    """The value at a path of values.yaml."""
    for name in path:
        values = values[name]
    return values
