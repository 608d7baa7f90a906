"""Objects of a cluster, held against the schemas of Kubernetes' own kinds."""

import subprocess
import sys
import tempfile
from pathlib import Path

import yaml

VALIDATE = Path(sys.executable).parent / "kubernetes-validate"
VALIDATED = ("1.30", "1.36")
"""The oldest that the chart says it runs on, and the one whose API server the tests have."""
FOREIGN = ("monitoring.coreos.com/", "cert-manager.io/")
"""Groups of kinds that are not Kubernetes' own."""


def validate(objects, version):
    """Fails on the first object with an unknown field, a wrong type, or of a kind without a schema."""
    own = [each for each in objects if not each["apiVersion"].startswith(FOREIGN)]
    with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
        yaml.safe_dump_all(own, file)
        file.flush()
        command = [VALIDATE, "--strict", "--kubernetes-version", version, file.name]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    said = done.stdout + done.stderr
    assert done.returncode == 0, said
    assert said.count(" passed for resource ") == len(own), said
