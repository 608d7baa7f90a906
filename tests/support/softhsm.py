"""A token in software: SoftHSM, as Debian has it."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

_PLACES = (
    "/usr/lib/softhsm/libsofthsm2.so",
    "/usr/lib64/pkcs11/libsofthsm2.so",
    "/usr/local/lib/softhsm/libsofthsm2.so",
)
MODULE = next((path for path in _PLACES if Path(path).exists()), "")
PIN = "271828"

needs_softhsm = pytest.mark.skipif(
    not (MODULE and shutil.which("softhsm2-util")), reason="SoftHSM is not installed: apt-get install softhsm2"
)


class SoftHsm:
    """Tokens in a folder; `environment` is what makes a process see them."""

    def __init__(self, folder: Path):
        self._folder = folder
        tokens = folder / "softhsm"
        tokens.mkdir()
        config = folder / "softhsm2.conf"
        config.write_text(f"directories.tokendir = {tokens}\nlog.level = ERROR\n")
        self.environment = {"SOFTHSM2_CONF": str(config)}

    def add_token(self, label: str) -> None:
        self._run("--init-token", "--free", "--label", label, "--pin", PIN, "--so-pin", "31415926")

    def add_key(self, token: str, label: str, identity: str, pem: bytes) -> None:
        """A private key, by its PEM in PKCS #8 and an id in hexadecimal."""
        path = self._folder / "import.pem"
        path.write_bytes(pem)
        self._run("--import", path, "--token", token, "--label", label, "--id", identity, "--pin", PIN)
        path.unlink()

    def _run(self, *arguments):
        subprocess.run(
            ["softhsm2-util", *arguments],
            env=os.environ | self.environment,
            check=True,
            capture_output=True,
            timeout=60,
        )
