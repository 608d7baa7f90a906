"""The scan at the end of a run finds what it looks for (support/secret_scan.py)."""

import tempfile
from pathlib import Path
from urllib.parse import quote

import pytest

from support import secret_scan

TOKEN = "a-container-token/of+this-run-and-no-other-0123456789"


@pytest.fixture
def folder():
    """Beside the files of this run, which are scanned themselves."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "tokens").mkdir()
        (folder / "tokens/deploy").write_text(TOKEN)
        (folder / "pytest.log").write_text("nothing\n")
        yield folder


def test_a_run_without_a_leak_passes(folder):
    secret_scan.scan(folder)


@pytest.mark.parametrize("written", [TOKEN, quote(TOKEN, safe=""), f"…{TOKEN[-20:]}"])
def test_a_secret_in_a_log_fails_the_run(folder, written):
    """A scan that finds nothing passes for ever."""
    (folder / "daemon.log").write_text(f"the token is {written}.\n")
    with pytest.raises(pytest.fail.Exception, match=r"container token .*: in .*daemon.log") as found:
        secret_scan.scan(folder)
    assert TOKEN not in str(found.value)


def test_a_complete_key_id_in_a_log_fails_the_run(folder, account):
    (folder / "daemon.log").write_text(f"key {account.key_id}\n")
    with pytest.raises(pytest.fail.Exception, match=f"…{account.key_id[-4:]} in .*daemon.log"):
        secret_scan.scan(folder)


def test_a_run_without_its_own_log_fails(folder):
    (folder / "pytest.log").unlink()
    with pytest.raises(pytest.fail.Exception, match="there is no log of this process"):
        secret_scan.scan(folder)
