"""Credentials and their documents (credentials.py)."""

import copy
import json
import logging
import pickle
import re
from dataclasses import replace

import pytest

from imds_proxy.credentials import Secret, timestamp
from imds_proxy.documents import container_document, documents, imds_document, info_document
from imds_proxy.telemetry.log import JsonFormatter
from support.plane import credentials

HELD = credentials(now=1_800_000_000.9)
SECRETS = (HELD.secret_access_key.reveal(), HELD.session_token.reveal())


def shown(value: object) -> str:
    record = logging.makeLogRecord({"msg": "%s %r", "args": (value, value), "value": value, "name": "imds_proxy"})
    return " ".join((str(value), repr(value), f"{value}", f"{[value]}", JsonFormatter().format(record)))


@pytest.mark.parametrize("value", [HELD, HELD.secret_access_key, documents(HELD)], ids=["all", "secret", "documents"])
def test_no_way_to_show_it_shows_a_secret(value):
    for secret in SECRETS:
        assert secret not in shown(value)


def test_a_key_id_shows_its_last_four_characters_only():
    assert HELD.key_hint == "AAAA"
    assert HELD.access_key_id not in repr(HELD)


@pytest.mark.parametrize("escape", [pickle.dumps, copy.copy])
def test_a_secret_is_not_copied_out_of_its_type(escape):
    with pytest.raises(TypeError, match="not pickled"):
        escape(HELD.secret_access_key)


def test_secrets_compare_by_value():
    assert Secret("a") == Secret("a")
    assert Secret("a") != Secret("b")
    assert Secret("a") != "a"


def test_the_instance_document_has_its_seven_keys_in_order_and_no_other():
    """s3fs counts them."""
    document = imds_document(HELD)
    assert list(document) == [
        "Code", "LastUpdated", "Type", "AccessKeyId", "SecretAccessKey", "Token", "Expiration",
    ]  # fmt: skip
    assert document["Code"] == "Success"
    assert document["Type"] == "AWS-HMAC"
    assert json.loads(documents(HELD).imds) == document


def test_the_container_document_has_role_and_account():
    document = container_document(HELD)
    assert document["RoleArn"] == "arn:aws:iam::123456789012:role/path/deploy"
    assert document["AccountId"] == "123456789012"


def test_info_names_the_profile_of_the_roles_account():
    assert info_document(HELD)["InstanceProfileArn"] == "arn:aws:iam::123456789012:instance-profile/deploy"


BARE = replace(HELD, role_arn=None, session_arn=None)


def test_credentials_of_which_only_the_account_is_known_say_that():
    """A command may hand out credentials without a word on whose they are."""
    document = container_document(replace(BARE, account="210987654321"))
    assert document["AccountId"] == "210987654321"
    assert "RoleArn" not in document
    assert info_document(replace(BARE, account="210987654321"))["InstanceProfileArn"].startswith("arn:aws:iam::210987")


def test_credentials_of_which_nothing_is_known_say_nothing_untrue():
    """.NET wants an `iam/info` that succeeds, whatever it holds (PROTOCOL.md 20)."""
    assert not {"RoleArn", "AccountId"} & set(container_document(BARE))
    assert "AccountId" not in json.loads(documents(BARE).extended)
    assert info_document(BARE)["Code"] == "Success"
    assert None not in json.loads(documents(BARE).container).values()


def test_dates_have_the_one_form_that_every_client_reads():
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", timestamp(1_800_000_000.999))
    assert timestamp(0.9) == "1970-01-01T00:00:00Z"


@pytest.mark.parametrize("blank", [{"access_key_id": ""}, {"secret_access_key": Secret("")}, {"session_arn": ""}])
def test_blank_credentials_are_impossible(blank):
    """AWS's own helper once served blank ones with Code: Success."""
    fields = {name: getattr(HELD, name) for name in HELD.__slots__}
    with pytest.raises(ValueError, match=r"blank|ARN"):
        type(HELD)(**fields | blank)
