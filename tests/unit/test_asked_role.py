"""What `/v1/credentials/VALUE` asks for, and which granted role that is (metadata/asked_role.py, refused_roles.py)."""

import logging
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imds_proxy.callers.caller import ServiceAccount
from imds_proxy.metadata.asked_role import NO_ROLE, AskedRoles, asked_role
from imds_proxy.metadata.refused_roles import AGAIN_AFTER, MOST_ROLES, RefusedRoles
from imds_proxy.metadata.routes import CONTAINER, SERVICE_ACCOUNT, Route, route
from imds_proxy.renewal.attempt import Held
from support.plane import ACCOUNT, credentials

ARN = "arn:aws:iam::123456789012:role/path/app+x=y,z.@-w"
MARKS = ":/+=,@"


def asked(value):
    found = route(f"/v1/credentials/{value}")
    assert found.document == SERVICE_ACCOUNT
    return found.name


# The path


@pytest.mark.parametrize(
    "value",
    [
        ARN,
        quote(ARN, safe=""),
        quote(ARN, safe="/"),
        quote(ARN, safe=":/"),
        quote(ARN, safe="").lower(),
        f"{ARN}/",
        f"/{ARN}//",
        ARN.replace("/", "//"),
        f"{ARN}?x=y",
    ],
)
def test_an_arn_comes_as_it_is_or_percent_encoded(value):
    """Each way in which an SDK may send the URL of the pod's environment."""
    assert asked(value) == ARN


@given(st.sets(st.sampled_from(range(len(ARN)))), st.booleans())
def test_any_mix_of_encoded_marks_is_the_same(places, upper):
    text = "".join(_encoded(c, upper) if n in places and c in MARKS else c for n, c in enumerate(ARN))
    assert asked(text) == ARN


def _encoded(character, upper):
    return f"%{ord(character):{'02X' if upper else '02x'}}"


@pytest.mark.parametrize("value", ["deploy", "a", "_x", "App+x=y,z.@-w", "a" * 64])
def test_a_name_of_the_config_can_be_asked_for(value):
    assert asked(value) == value


@pytest.mark.parametrize(
    "value",
    [
        "%61rn:aws:iam::123456789012:role/a",  # no client encodes a letter
        quote(ARN, safe="").replace("%", "%25"),
        "arn%3",
        "%",
        "a%00",
        "a%0a",
        "a%2e%2e",
        "..",
        "../a",
        "a/b",
        "a%2Fb",
        "a b",
        "a%20b",
        'a"b',
        "<a>",
        "é",
        "a" * 65,
        "arn:aws:iam::123456789012:role/" + "a" * 65,
        "arn:aws:iam::123456789012:role/" + "a/" * 400 + "a",
        "arn:aws:iam::12345678901:role/a",
        "arn:aws:iam::123456789012:user/a",
        "arn:aws:sts::123456789012:assumed-role/a/b",
        "arn:aws:iam::123456789012:role/a%2F%2Fb",
        "arn:aws:iam::123456789012:role/a%2F",
        "ARN:aws:iam::123456789012:role/a",
        "arn:aws:iam::123456789012:role/",
        "arn:aws:iam::123456789012:role",
        f"{ARN}%0a",
        f"{ARN}\n",
        f"{ARN};x",
        f"{ARN}#x",
        "*",
        "a%3Fb",
    ],
)
def test_what_has_the_form_of_no_role_is_none(value):
    """It goes neither into a comparison nor into a log."""
    assert asked(value) == NO_ROLE


def test_without_a_value_nothing_is_asked_for():
    """As every pod does that was given no annotation."""
    for target in (
        "/v1/credentials",
        "/v1/credentials/",
        "//v1//credentials//",
        "/v1/credentials?a=b",
        "/v1/credentials/?",
    ):
        assert route(target) == Route(SERVICE_ACCOUNT)
    for target in ("/v1", "/v1/", "/v1/credential", "/v1/credentialss/a", "/v2/credentials/a"):
        assert route(target) != Route(SERVICE_ACCOUNT)
    assert route("/roles/a%2Fb") == Route(CONTAINER, "a/b")


@given(st.text(max_size=80))
def test_whatever_is_asked_is_a_role_or_none(value):
    found = asked_role(value)
    assert found == NO_ROLE or (found.isascii() and found.isprintable() and not set(found) & set("%\"'<>\\ ?#&"))


# Which granted role it is


class Keeper:
    def __init__(self, **about):
        made = credentials("app") if about.pop("live", True) else None
        self._held = Held.of(_with(made, about), made.obtained) if made else None

    def live(self):
        return self._held


def _with(made, about):
    for name, value in about.items():
        object.__setattr__(made, name, value)
    return made


SESSION = f"arn:aws:sts::{ACCOUNT}:assumed-role/app/host"
APP = f"arn:aws:iam::{ACCOUNT}:role/some/path/app"


@pytest.mark.parametrize(
    ("value", "is_it"),
    [
        (APP, True),
        (f"arn:aws:iam::{ACCOUNT}:role/app", True),
        ("app", False),
        ("r", True),
        (f"arn:aws:iam::{ACCOUNT}:role/app/other", False),
        (f"arn:aws:iam::{ACCOUNT}:role/host", False),
        ("arn:aws:iam::210987654321:role/app", False),
        (f"arn:aws-cn:iam::{ACCOUNT}:role/app", False),
    ],
)
def test_where_the_config_does_not_say_the_arn_its_session_tells(value, is_it):
    """A role from a file, a process or a service may have none in the config."""
    roles = AskedRoles({"r": None}, {"r": Keeper(role_arn=None, session_arn=SESSION)})
    assert roles.among(["r"], value) == ("r" if is_it else None)
    assert roles.without_arn(["r"]) == []


def test_what_the_config_says_comes_before_the_session():
    roles = AskedRoles({"r": f"{APP}-2"}, {"r": Keeper(role_arn=APP, session_arn=SESSION)})
    assert roles.among(["r"], f"{APP}-2") == "r"
    assert roles.among(["r"], APP) is None


def test_a_role_of_which_nothing_tells_an_arn_has_its_name():
    roles = AskedRoles({"r": None}, {"r": Keeper(role_arn=None, session_arn=None)})
    assert roles.among(["r"], "r") == "r"
    assert roles.among(["r"], APP) is None
    assert roles.without_arn(["r"]) == ["r"]


def test_a_role_that_has_no_session_yet_may_be_the_one():
    """A pod that starts with the daemon would be refused its own role, and some SDKs do not ask again."""
    roles = AskedRoles({"early": None, "r": APP}, {"early": Keeper(live=False), "r": Keeper()})
    assert roles.among(["early"], APP) == "early"
    assert roles.among(["early", "r"], APP) == "r"
    assert roles.among(["early", "r"], "nobodys") is None


def test_the_first_of_those_that_fit_is_taken():
    roles = AskedRoles({"a": APP, "b": APP}, {})
    assert roles.among(["b", "a"], APP) == "b"
    assert roles.among(["a", "b"], "b") == "b"
    assert roles.among([], APP) is None


# The log


class Clock:
    now = 1_800_000_000.0

    def wall(self):
        return self.now


@pytest.fixture
def refused(caplog):
    caplog.set_level(logging.WARNING)
    return RefusedRoles(Clock())


def test_an_account_and_a_role_are_told_once_in_five_minutes(refused, caplog):
    def tell(account="api", role=APP):
        refused.tell(ServiceAccount("shop", account), role, ["a"], [])

    for _ in range(100):
        tell()
    tell("other")
    assert len(caplog.records) == 2
    refused._clock.now += AGAIN_AFTER - 1
    tell()
    assert len(caplog.records) == 2
    refused._clock.now += 1
    tell()
    assert len(caplog.records) == 3
    refused._clock.now -= 86_400  # the clock was set
    tell()
    assert len(caplog.records) == 4


def test_invented_roles_and_accounts_fill_neither_log_nor_memory(refused, caplog):
    """Whoever has one account would fill the disk of the node."""
    for number in range(1000):
        refused.tell(ServiceAccount("shop", "api", f"pod-{number}"), f"role-{number}", ["a"], [])
    assert len(caplog.records) == MOST_ROLES
    for number in range(3000):
        refused.tell(ServiceAccount("shop", f"api-{number}"), APP, ["a"], [])
    assert len(refused._told) == 1000


def test_the_advice_names_roles_that_only_their_name_asks_for(refused, caplog):
    refused.tell(ServiceAccount("shop", "api"), APP, ["a", "b"], ["b"])
    assert "nothing here tells the ARN of b: say role_arn, or ask for it by its name" in caplog.records[0].advice
