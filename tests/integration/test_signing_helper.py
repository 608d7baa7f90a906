"""AWS's own client of Roles Anywhere beside ours: what it signs, we sign byte for byte, and the double believes both.

It is installed by its version as a Go module, for this test alone; nothing of it is kept here but in the cache.
"""

import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from imds_proxy.config.roles import ProcessConfig, RolesAnywhereConfig
from imds_proxy.host.clock import Clock
from imds_proxy.host.http_client import WebRequest
from imds_proxy.sources import process
from imds_proxy.sources.interface import Context
from imds_proxy.sources.roles_anywhere import key_files
from imds_proxy.sources.roles_anywhere.sigv4_x509 import signed
from imds_proxy.sources.roles_anywhere.source import make
from support.certificates import Authority, put
from support.daemon import clean_environment
from support.roles_anywhere import PROFILE, REGION, ROLE, TRUST_ANCHOR, RolesAnywhereDouble, time_of

MODULE, VERSION = "github.com/aws/rolesanywhere-credential-helper", "v1.8.0"
CACHE = Path(__file__).parents[2] / ".cache" / "go"
BINARY = CACHE / "bin" / VERSION / "rolesanywhere-credential-helper"
INSTALL_TIME = 300.0
OWN_HEADERS = {"host", "x-amz-date", "x-amz-x509", "x-amz-x509-chain"}
"""Those that our signer adds by itself."""


def go(*arguments):
    flags = f"{os.environ.get('GOFLAGS', '')} -modcacherw"  # or `make clean` could not remove it
    environment = os.environ | {"GOPATH": str(CACHE), "GOBIN": str(BINARY.parent), "GOFLAGS": flags.strip()}
    return subprocess.run(
        ["go", *arguments], env=environment, capture_output=True, text=True, timeout=INSTALL_TIME, check=False
    )


@pytest.fixture(scope="module")
def helper():
    """The program, or the one that AWS_SIGNING_HELPER names; skipped by name where it cannot be had."""
    if given := os.environ.get("AWS_SIGNING_HELPER"):
        return Path(given)
    if not BINARY.exists():
        if shutil.which("go") is None:
            pytest.skip("Go is not installed: AWS's signing helper is not compared")
        found = go("mod", "download", "-json", f"{MODULE}@{VERSION}")
        if found.returncode:
            pytest.skip(f"the Go module proxy does not give {MODULE}@{VERSION}: {json.loads(found.stdout)['Error']}")
        done = go("install", f"{MODULE}@{VERSION}")
        assert done.returncode == 0, done.stderr
    return BINARY


@pytest.mark.parametrize("by", ["root", "intermediate"])
async def test_an_rsa_signature_is_byte_for_byte_awss_own(tmp_path, helper, by):
    """RSA signatures have no chance in them: for the same input there is one right answer."""
    company = Authority()
    issued = (company if by == "root" else company.intermediate()).issue(kind="rsa")
    options = options_of(tmp_path, issued)
    if by == "intermediate":
        options["intermediates"] = put(tmp_path / "chain.pem", issued.chain[0].public_bytes(Encoding.PEM))
    settings = RolesAnywhereConfig(source="roles-anywhere", **options)
    with RolesAnywhereDouble(company.certificate) as double:
        theirs = ask_with(helper, double, options)
        settings = settings.model_copy(update={"endpoint": double.url})
        await make("host", settings, Context(Clock(), lambda: None, None, lambda: None)).fetch()
        ours = double.received[-1]
        names = re.search("SignedHeaders=([^,]+)", theirs.headers["authorization"])[1].split(";")
        given = {name: theirs.headers[name] for name in names if name not in OWN_HEADERS}
        request = WebRequest("POST", double.url + theirs.target, given, theirs.body)
    pair = key_files.pair_of("host", settings, key_files.read("host", settings), None)
    again = signed(request, pair, REGION, time_of(theirs.headers["x-amz-date"])).headers
    assert again["Authorization"] == theirs.headers["authorization"]
    for name, value in again.items():
        assert theirs.headers[name.lower()] == value
    assert ours.asked == theirs.asked


async def test_it_works_unchanged_as_a_command(tmp_path, helper):
    """Who has it already can begin with it."""
    company = Authority()
    with RolesAnywhereDouble(company.certificate) as double:
        command = command_of(helper, double, options_of(tmp_path, company.issue(kind="rsa")))
        settings = ProcessConfig(source="process", command=command)
        credentials = await process.make("host", settings, Context(Clock(), lambda: None, None, lambda: None)).fetch()
        assert credentials.access_key_id == double.sessions[-1]["accessKeyId"]


def options_of(folder, issued):
    return {
        "role_arn": ROLE,
        "profile_arn": PROFILE,
        "trust_anchor_arn": TRUST_ANCHOR,
        "certificate": put(folder / "host.crt", issued.certificate_pem()),
        "private_key": put(folder / "host.key", issued.key_pem()),
    }


def command_of(helper, double, options):
    flags = {name.replace("_", "-"): value for name, value in options.items()} | {"endpoint": double.url}
    return [str(helper), "credential-process", *(f"--{name}={value}" for name, value in flags.items())]


def ask_with(helper, double, options):
    """Let AWS's client ask the double; its request as it came."""
    command = command_of(helper, double, options)
    done = subprocess.run(command, env=clean_environment(), capture_output=True, timeout=60, check=True)
    assert json.loads(done.stdout)["AccessKeyId"] == double.sessions[-1]["accessKeyId"]
    return double.received[-1]
