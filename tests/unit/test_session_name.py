"""The role session name (aws/session_name.py)."""

import re
import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imds_proxy.aws import session_name
from imds_proxy.aws.session_name import render
from imds_proxy.errors import Invalid

ALLOWED = re.compile(r"[A-Za-z0-9_+=,.@-]{2,64}")  # AssumeRole, RoleSessionName


@given(st.text(st.characters(exclude_characters="{}", codec="utf-8")))
def test_whatever_the_template_sts_accepts_the_name(template):
    """A host with an underscore or an umlaut in its name would get no credentials."""
    assert ALLOWED.fullmatch(render(template))


def test_the_hostname_is_without_its_domain(monkeypatch):
    """The CodeDeploy agent is registered by the session's ARN, which a change of DNS domain must not change."""
    monkeypatch.setattr(socket, "gethostname", lambda: "web1.example.org")
    assert render("{hostname}") == "web1"


def test_fields_and_text_are_put_together(monkeypatch):
    monkeypatch.setitem(session_name.FIELDS, "hostname", lambda: "web1")
    monkeypatch.setitem(session_name.FIELDS, "fqdn", lambda: "web1.example.org")
    monkeypatch.setitem(session_name.FIELDS, "machine_id", lambda: "0123")
    assert render("{hostname}-{machine_id}@{fqdn}") == "web1-0123@web1.example.org"


def test_a_name_is_the_same_at_every_renewal():
    """A session name that changes is another principal for AWS, each hour."""
    assert render("{hostname}/{fqdn}") == render("{hostname}/{fqdn}")


def test_a_name_that_is_too_long_is_cut_and_one_too_short_is_made_longer(monkeypatch):
    """A cloud's generated host name, or a host called `a`."""
    assert render("x" * 100) == "x" * 64
    assert render("a") == "a-imds"
    monkeypatch.setitem(session_name.FIELDS, "hostname", lambda: "")
    assert render("{hostname}") == "host-imds"


def test_a_field_that_does_not_exist_is_named_with_those_that_do():
    """Every host would have the session name of the typing mistake."""
    with pytest.raises(Invalid) as raised:
        render("{hostnam}")
    assert "{hostnam}" in raised.value.message
    for field in ("{hostname}", "{fqdn}", "{machine_id}"):
        assert field in raised.value.advice


def test_the_machine_id_is_the_first_file_that_holds_one(monkeypatch, tmp_path):
    """A container image with an empty /etc/machine-id."""
    first, second = tmp_path / "first", tmp_path / "second"
    monkeypatch.setattr(session_name, "_MACHINE_ID_FILES", (tmp_path / "missing", first, second))
    first.write_text("\n")
    second.write_text("0123456789abcdef0123456789abcdef\n")
    assert render("{machine_id}") == "0123456789abcdef0123456789abcdef"


def test_without_a_machine_id_the_error_says_how_to_make_one(monkeypatch, tmp_path):
    """All such hosts would share one session name."""
    monkeypatch.setattr(session_name, "_MACHINE_ID_FILES", (tmp_path / "missing",))
    with pytest.raises(Invalid) as raised:
        render("{machine_id}")
    assert "machine_id" in raised.value.message
    assert raised.value.advice == "systemd-machine-id-setup"
