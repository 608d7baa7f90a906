"""How a package of an extra is added, by how this program is installed (extras.py)."""

import shutil
import subprocess
import sys
import sysconfig
import zipfile
from importlib import metadata
from pathlib import Path

import pytest

import imds_proxy
from imds_proxy.host import extras

PACKAGES = "'cryptography>=43' 'python-pkcs11>=0.9'"


@pytest.fixture
def advice():
    """Asked afresh: it is kept for the life of a process, in which nothing of it changes."""
    extras.how_to_install.cache_clear()
    yield lambda extra="pkcs11", module="pkcs11": extras.how_to_install(extra, module)
    extras.how_to_install.cache_clear()


def test_pip_is_that_of_the_environment_this_program_runs_in(advice):
    """The shell's pip puts it where the daemon never looks; zsh takes brackets for a pattern."""
    command = advice()
    assert command == f"{sys.executable} -m pip install 'imds-proxy[pkcs11]'"
    # It is taken as it stands, and needs no index: what is there already is left as it is.
    done = subprocess.run(f"{command} --dry-run --no-index", shell=True, capture_output=True, text=True, check=True)
    assert "Requirement already satisfied: python-pkcs11" in done.stdout


def test_without_pip_the_environment_is_named(advice, monkeypatch):
    monkeypatch.setattr(extras, "find_spec", lambda _: None)
    assert f"uv pip install --python {sys.executable} 'imds-proxy[pkcs11]'" in advice()
    assert PACKAGES in advice()


@pytest.mark.parametrize(
    ("file", "command"),
    [
        ("pipx_metadata.json", f"pipx inject tool {PACKAGES}"),
        ("uv-receipt.toml", "uv tool install --with 'cryptography>=43' --with 'python-pkcs11>=0.9' imds-proxy"),
    ],
)
def test_a_tool_with_an_environment_of_its_own_is_added_to_by_what_made_it(
    advice, monkeypatch, tmp_path, file, command
):
    (tmp_path / "tool").mkdir()
    (tmp_path / "tool" / file).touch()
    monkeypatch.setattr(sys, "prefix", str(tmp_path / "tool"))
    assert advice().startswith(command)


def test_the_systems_python_is_not_for_pip(advice, monkeypatch, tmp_path):
    """pip refuses to install there, with a page of text."""
    (tmp_path / "EXTERNALLY-MANAGED").touch()
    monkeypatch.setattr(sys, "prefix", sys.base_prefix)
    monkeypatch.setattr(sysconfig, "get_path", lambda _: str(tmp_path))
    assert f"install the packages of this system that are {PACKAGES}" in advice()


def test_an_archive_is_made_anew(tmp_path):
    """There is no environment to install into."""
    archive = tmp_path / "imds-proxy.pyz"
    with zipfile.ZipFile(archive, "w") as made:
        made.write(Path(extras.__file__), "imds_proxy/host/extras.py")
        made.writestr("imds_proxy/__init__.py", "")
        made.writestr("imds_proxy/host/__init__.py", "")
        made.writestr(
            "__main__.py", "from imds_proxy.host.extras import how_to_install\nprint(how_to_install('x', 'jwt'))\n"
        )
    done = subprocess.run([sys.executable, "-I", archive], capture_output=True, text=True, check=True)
    assert done.stdout == "make the archive anew with jwt in it\n"


def test_a_checkout_that_is_not_installed_names_the_package(advice, monkeypatch):
    def nothing(_):
        raise metadata.PackageNotFoundError

    monkeypatch.setattr(metadata, "requires", nothing)
    assert advice() == f"{sys.executable} -m pip install pkcs11"


def test_a_package_of_no_extra_is_named(advice):
    assert advice("assume-role", "aiobotocore") == f"{sys.executable} -m pip install aiobotocore"


def test_no_other_text_tells_to_install():
    """Each would be wrong in its own way."""
    found = [path.name for path in Path(imds_proxy.__file__).parent.rglob("*.py") if "pip install" in path.read_text()]
    assert found == ["extras.py"]


def test_a_path_with_spaces_is_quoted(advice, monkeypatch, tmp_path):
    python = tmp_path / "my env/bin/python"
    python.parent.mkdir(parents=True)
    shutil.copy(sys.executable, python)
    monkeypatch.setattr(sys, "executable", str(python))
    assert advice().startswith(f"'{python}' -m pip")
