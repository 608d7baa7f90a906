"""AssumeRole (sources/assume_role.py) and the chain of its base credentials (aws/session.py)."""

import asyncio
import json
import threading
from datetime import UTC, datetime
from email.utils import formatdate

import pytest
from botocore.exceptions import BotoCoreError, ClientError
from botocore.parsers import ResponseParserError

from imds_proxy.aws import session_name, sts
from imds_proxy.aws.caller_identities import CallerIdentities
from imds_proxy.aws.region import named_region
from imds_proxy.aws.session import AwsChain
from imds_proxy.aws.signing_guard import SigningGuard
from imds_proxy.aws.sts_caller import FromChain, FromRole
from imds_proxy.config.roles import AssumeRoleConfig
from imds_proxy.errors import Denied, Invalid, SourceError, Throttled, Unreachable
from imds_proxy.host.clock import Clock
from imds_proxy.host.loop_thread import LoopThread
from imds_proxy.sources.assume_role import AssumeRole
from support import plane, virtual_time

ROLE = "arn:aws:iam::123456789012:role/Deploy"
POLICY = {"Version": "2012-10-17", "Statement": []}
METADATA = {"iam-role", "container-role"}


def source(*, chain=None, clock=None, region="eu-west-1", **settings):
    options = AssumeRoleConfig.model_validate({"role_arn": ROLE, "session_name": "web1", **settings})
    return AssumeRole("deploy", options, FromChain(options.profile), chain or AwsChain(), region, clock or Clock())


# The request

PARAMETERS = [
    ({}, {}),
    ({"duration": "15m"}, {"DurationSeconds": 900}),
    ({"external_id": "zebra"}, {"ExternalId": "zebra"}),
    ({"policy": POLICY}, {"Policy": json.dumps(POLICY, separators=(",", ":"))}),
    ({"policy": json.dumps(POLICY, indent=1)}, {"Policy": json.dumps(POLICY, separators=(",", ":"))}),
    (
        {"policy_arns": ["arn:aws:iam::aws:policy/ReadOnlyAccess"]},
        {"PolicyArns": [{"arn": "arn:aws:iam::aws:policy/ReadOnlyAccess"}]},
    ),
    (
        {"tags": {"team": "web", "empty": ""}},
        {"Tags": [{"Key": "team", "Value": "web"}, {"Key": "empty", "Value": ""}]},
    ),
    (
        {"tags": {"team": "web"}, "transitive_tag_keys": ["team"]},
        {"Tags": [{"Key": "team", "Value": "web"}], "TransitiveTagKeys": ["team"]},
    ),
    ({"source_identity": "ansible"}, {"SourceIdentity": "ansible"}),
    ({"session_name": "a b"}, {"RoleSessionName": "a-b"}),
]


@pytest.mark.parametrize(("settings", "parameters"), PARAMETERS, ids="-".join)
def test_each_setting_is_its_sts_parameter_and_what_is_left_out_is_not_sent(settings, parameters):
    """A policy or tag that does not reach STS means a session that may do more than was configured."""
    always = {"RoleArn": ROLE, "RoleSessionName": "web1", "DurationSeconds": 3600}
    assert source(**settings)._parameters() == always | parameters


async def test_a_name_from_dns_is_looked_up_beside_the_loop(monkeypatch):
    """Every client would wait for a name server that does not answer."""
    looking, answer = threading.Event(), threading.Event()

    def look_up():
        looking.set()
        assert answer.wait(10)
        return "web1.example.org"

    monkeypatch.setitem(session_name.FIELDS, "fqdn", look_up)
    role = source(session_name="{fqdn}")
    request = asyncio.ensure_future(role._sts.made(role._parameters))
    while not looking.is_set():
        await asyncio.sleep(0.01)
    assert not request.done()
    answer.set()
    assert (await request)["RoleSessionName"] == "web1.example.org"


async def test_a_name_server_that_never_answers_is_told(monkeypatch):
    """The role would be renewed no more, without a word."""
    answer = threading.Event()
    monkeypatch.setitem(session_name.FIELDS, "fqdn", lambda: answer.wait(10) and "x")
    monkeypatch.setattr(sts, "_TIME_LIMIT", 0.05)
    role = source(session_name="{fqdn}")
    with pytest.raises(Unreachable, match="DNS did not answer") as caught:
        await role._sts.made(role._parameters)
    assert "{hostname}" in caught.value.advice
    answer.set()


async def test_sts_has_every_parameter_that_is_sent():
    """A misspelt parameter would be refused by botocore at the first renewal only."""
    everything = {name: value for settings, _ in PARAMETERS for name, value in settings.items()}
    everything |= {"tags": {"team": "web"}, "transitive_tag_keys": ["team"]}
    model = await AwsChain().session().get_service_model("sts")
    assert set(source(**everything)._parameters()) <= set(model.operation_model("AssumeRole").input_shape.members)


@pytest.mark.parametrize(
    ("settings", "actions"),
    [
        ({}, ["sts:AssumeRole"]),
        ({"tags": {"a": "b"}}, ["sts:AssumeRole", "sts:TagSession"]),
        ({"source_identity": "me"}, ["sts:AssumeRole", "sts:SetSourceIdentity"]),
    ],
)
def test_the_trust_statement_allows_what_the_request_needs(settings, actions):
    """Tags without sts:TagSession are denied, and AWS does not say why."""
    assert source(**settings)._actions() == actions


# Regions


def fetch_in(monkeypatch, subject, outcomes):
    """Let each region end as given; the regions that were asked, in order."""
    asked = []

    async def session_from(region, _base, _request):
        asked.append(region)
        if isinstance(outcomes[region], SourceError):
            raise outcomes[region]
        return outcomes[region]

    monkeypatch.setattr(subject._sts, "session_from", session_from)
    return asked


def region_source(**settings):
    return source(chain=Chain(), **settings)


async def test_without_sts_regions_the_one_region_is_asked(monkeypatch):
    subject = region_source(region="eu-central-1")
    asked = fetch_in(monkeypatch, subject, {"eu-central-1": "credentials"})
    assert await subject.fetch() == "credentials"
    assert asked == ["eu-central-1"]


async def test_the_next_region_is_asked_when_one_is_unreachable(monkeypatch):
    """A region's outage would be this host's."""
    subject = region_source(sts_regions=["eu-west-1", "eu-central-1", "us-east-1"])
    outcomes = {"eu-west-1": Unreachable("down"), "eu-central-1": "credentials", "us-east-1": "never"}
    asked = fetch_in(monkeypatch, subject, outcomes)
    assert await subject.fetch() == "credentials"
    assert asked == ["eu-west-1", "eu-central-1"]


@pytest.mark.parametrize("refusal", [Denied("no"), Throttled("slower"), Invalid("what?")])
async def test_another_region_is_not_asked_after_an_answer(monkeypatch, refusal):
    """A denial repeated in every region is an alert in every region; throttling is not cured by more calls."""
    subject = region_source(sts_regions=["eu-west-1", "eu-central-1"])
    asked = fetch_in(monkeypatch, subject, {"eu-west-1": refusal, "eu-central-1": "never"})
    with pytest.raises(type(refusal)):
        await subject.fetch()
    assert asked == ["eu-west-1"]


async def test_when_all_regions_are_down_the_error_is_the_first_ones(monkeypatch):
    """The first region is the one that is meant to work."""
    subject = region_source(sts_regions=["eu-west-1", "eu-central-1"])
    fetch_in(monkeypatch, subject, {"eu-west-1": Unreachable("first"), "eu-central-1": Unreachable("second")})
    with pytest.raises(Unreachable, match="first"):
        await subject.fetch()


@pytest.mark.parametrize(
    ("region", "settings", "endpoint"),
    [
        ("eu-west-1", {}, "https://sts.eu-west-1.amazonaws.com"),
        ("us-east-1", {}, "https://sts.us-east-1.amazonaws.com"),
        ("cn-north-1", {}, "https://sts.cn-north-1.amazonaws.com.cn"),
        ("us-gov-west-1", {}, "https://sts.us-gov-west-1.amazonaws.com"),
        ("eu-west-1", {"sts_endpoint": "https://sts.example.org"}, "https://sts.example.org"),
    ],
)
async def test_the_endpoint_is_the_regions_own_unless_a_private_one_is_set(own_files, region, settings, endpoint):
    """The global endpoint is in Virginia, and its tokens do not work in every region."""
    chain = AwsChain()
    sts = await source(chain=chain, **settings)._sts.client(chain.session(), region)
    assert sts.meta.endpoint_url == endpoint
    assert sts.meta.region_name == region


# The answer


class Sts:
    """STS answering as it is told."""

    class meta:  # noqa: N801 - botocore's name
        endpoint_url = "https://sts.example.org"

    def __init__(self, assume_role, identity="arn:aws:iam::123456789012:user/host"):
        self._answers = {"assume_role": assume_role, "get_caller_identity": identity}

    async def assume_role(self, **_):
        return self._answer("assume_role")

    async def get_caller_identity(self):
        return {"Arn": self._answer("get_caller_identity")}

    def _answer(self, name):
        if isinstance(self._answers[name], Exception):
            raise self._answers[name]
        return self._answers[name]


class Chain:
    """A chain whose session has one key and one STS."""

    def __init__(self, sts=None, credentials="default"):
        self.sts, self.profiles = sts, []
        self.identities = CallerIdentities()
        self._credentials = credentials
        self.finding = LoopThread("AWS credentials")

    async def fresh_session(self, profile=None, **_):
        self.profiles.append(profile)
        return self

    async def get_credentials(self):
        return Key() if self._credentials == "default" else self._credentials

    def get_component(self, _):
        return SigningGuard("deploy")

    async def client(self, *_):
        return self.sts


class Key:
    access_key, secret_key, token, method = "AKIABASEBASEBASE9876", "base-secret", None, "env"

    async def get_frozen_credentials(self):
        return self


def good_answer(**changes):
    credentials = {
        "AccessKeyId": "ASIAKEYKEYKEYKEY1234",
        "SecretAccessKey": "the-secret",
        "SessionToken": "the-token",
        "Expiration": datetime(2030, 1, 1, tzinfo=UTC),
    }
    return {
        "Credentials": credentials,
        "AssumedRoleUser": {"Arn": "arn:aws:sts::123456789012:assumed-role/Deploy/web1"},
        "ResponseMetadata": {"HTTPHeaders": {}},
    } | changes


async def fetched(answer, **settings):
    return await source(chain=Chain(Sts(answer)), clock=Clock(lambda: 1000.0), **settings).fetch()


async def test_an_answer_is_the_credentials():
    credentials = await fetched(good_answer())
    assert credentials.access_key_id == "ASIAKEYKEYKEYKEY1234"
    assert credentials.secret_access_key.reveal() == "the-secret"
    assert credentials.session_token.reveal() == "the-token"
    assert credentials.expiration == datetime(2030, 1, 1, tzinfo=UTC).timestamp()
    assert credentials.obtained == pytest.approx(1000.0, abs=1)
    assert credentials.role_arn == ROLE
    assert credentials.session_arn.endswith("assumed-role/Deploy/web1")


BLANK = {"AccessKeyId": "", "SecretAccessKey": "", "SessionToken": "", "Expiration": datetime(2030, 1, 1, tzinfo=UTC)}


@pytest.mark.parametrize(
    "answer",
    [
        {},
        good_answer(Credentials=None),
        good_answer(Credentials={}),
        good_answer(Credentials=BLANK),
        good_answer(Credentials=good_answer()["Credentials"] | {"Expiration": "tomorrow"}),
        good_answer(Credentials=good_answer()["Credentials"] | {"SecretAccessKey": None}),
        good_answer(AssumedRoleUser={}),
        good_answer(AssumedRoleUser={"Arn": "nonsense"}),
    ],
)
async def test_an_answer_without_credentials_is_invalid(answer):
    """A captive portal answers 200 to everything; blank credentials crash SDKs."""
    with pytest.raises(Invalid) as raised:
        await fetched(answer)
    assert "the-secret" not in str(raised.value)
    assert "the-token" not in str(raised.value)


async def test_an_answer_that_cannot_be_parsed_is_invalid_and_not_repeated():
    """botocore's error holds the body, and the body may hold a session token."""
    with pytest.raises(Invalid) as raised:
        await fetched(ResponseParserError("invalid XML: <SessionToken>the-token"))
    assert "the-token" not in raised.value.message + raised.value.advice
    assert "sts_endpoint" in raised.value.advice


@pytest.mark.parametrize("error", [OSError("gone"), TimeoutError(), BotoCoreError()], ids=repr)
async def test_an_error_of_the_network_or_library_is_one_of_ours(error):
    """Renewal would end, and nobody would notice for an hour."""
    with pytest.raises(SourceError):
        await fetched(error)


def refusal(code="AccessDenied"):
    response = {"Error": {"Code": code, "Message": ""}, "ResponseMetadata": {"HTTPHeaders": {}, "HTTPStatusCode": 403}}
    return ClientError(response, "AssumeRole")


async def test_a_denial_names_the_arn_of_the_caller():
    """Which of the keys on this host was it?"""
    with pytest.raises(Denied) as raised:
        await fetched(refusal())
    assert "as arn:aws:iam::123456789012:user/host" in raised.value.message


@pytest.mark.parametrize(
    "trouble", [refusal("InvalidClientTokenId"), OSError("gone"), ResponseParserError("x")], ids=repr
)
async def test_a_denial_is_told_even_when_aws_does_not_say_who_the_caller_is(trouble):
    """The first error must not be lost behind a second one; the key is named by its last four characters."""
    with pytest.raises(Denied) as raised:
        await source(chain=Chain(Sts(refusal(), trouble))).fetch()
    assert "key …9876 of env" in raised.value.message
    assert "AKIABASEBASEBASE9876" not in raised.value.message


async def test_no_base_credentials_is_a_denial_with_the_profile_that_has_none():
    chain = Chain(credentials=None)
    with pytest.raises(Denied, match="work"):
        await source(chain=chain, profile="work").fetch()
    assert chain.profiles == ["work"]


async def test_aws_time_is_observed_from_success_and_refusal_alike():
    """A clock that is off is often the reason for the refusal."""
    for make in (good_answer, refusal):
        clock = Clock(lambda: 1000.0)
        answer = make()
        metadata = (answer if isinstance(answer, dict) else answer.response)["ResponseMetadata"]
        metadata["HTTPHeaders"]["date"] = formatdate(1600, usegmt=True)
        subject = source(chain=Chain(Sts(answer)), clock=clock)
        if make is refusal:
            with pytest.raises(Denied):
                await subject.fetch()
        else:
            await subject.fetch()
        assert clock.skew == pytest.approx(600, abs=1)


async def test_a_date_hours_ahead_ends_nothing():
    """One answer with a wrong Date would end every role's credentials, for good while STS is away."""
    clock = Clock(lambda: 1000.0)
    answer = good_answer(ResponseMetadata={"HTTPHeaders": {"date": formatdate(37000, usegmt=True)}})
    await source(chain=Chain(Sts(answer)), clock=clock).fetch()
    assert clock.now() == 1000.0


async def test_a_signature_refused_for_its_time_says_what_time_it_is():
    clock = Clock(lambda: 1000.0)
    error = refusal("SignatureDoesNotMatch")
    error.response["Error"]["Message"] = "Signature expired: x"
    error.response["ResponseMetadata"]["HTTPHeaders"]["date"] = formatdate(37000, usegmt=True)
    with pytest.raises(Denied) as raised:
        await source(chain=Chain(Sts(error)), clock=clock).fetch()
    assert raised.value.is_of_the_clock
    assert clock.skew == pytest.approx(36000, abs=1)
    assert "600 min behind" in raised.value.advice


@pytest.mark.parametrize("life", [5400.0, 5400.9])
def test_a_session_counts_from_when_it_was_asked_for(life):
    """AWS lets it live from before the answer came: exactly 90 minutes would be taken for less."""
    clock = None

    class Slow(Sts):
        async def assume_role(self, **_):
            await asyncio.sleep(1)  # on its way
            made = good_answer()
            made["Credentials"]["Expiration"] = datetime.fromtimestamp(int(clock.wall() + life), UTC)
            await asyncio.sleep(12)
            return made

    async def fetch():
        nonlocal clock
        clock = asyncio.get_running_loop().clock()
        sent = clock.now()
        base = FromRole("base", plane.credentials)
        options = AssumeRoleConfig.model_validate({"role_arn": ROLE, "session_name": "web1"})
        return sent, await AssumeRole("deploy", options, base, Chain(Slow(None)), "eu-west-1", clock).fetch()

    sent, got = virtual_time.run(fetch())
    assert got.obtained == pytest.approx(sent, abs=0.01)
    assert got.expiration - got.obtained >= 5400


@pytest.mark.parametrize("date", ["", "yesterday", "Sat, 99 Foo 2026 00:00:00 GMT"])
async def test_a_date_that_is_none_changes_nothing(date):
    answer = good_answer(ResponseMetadata={"HTTPHeaders": {"date": date}})
    assert (await fetched(answer)).access_key_id


# The chain


@pytest.fixture
def own_files(monkeypatch, tmp_path):
    """The AWS files of a test, and no AWS setting of whoever runs it."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE", "AWS_CA_BUNDLE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    # Whoever asks this address has asked the daemon's own endpoint.
    monkeypatch.setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", "http://127.0.0.1:1/")
    monkeypatch.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", "http://127.0.0.1:1/roles/deploy")
    return tmp_path


def test_the_chain_has_neither_metadata_nor_container_provider(own_files):
    """The daemon would ask itself, and wait for itself."""
    resolver = AwsChain().session().get_component("credential_provider")
    methods = [provider.METHOD for provider in resolver.providers]
    assert not METADATA & set(methods)
    assert {"env", "assume-role", "assume-role-with-web-identity", "shared-credentials-file", "custom-process"} <= set(
        methods
    )


async def test_without_any_key_the_chain_ends_with_none(own_files):
    """With the providers in, this would connect to the addresses above."""
    assert await AwsChain().session().get_credentials() is None


@pytest.mark.parametrize("origin", ["Ec2InstanceMetadata", "EcsContainer"])
async def test_a_profile_cannot_name_them_either(own_files, origin):
    """`credential_source` in a profile copied from an EC2 host would make the daemon ask itself."""
    (own_files / "config").write_text(f"[default]\nrole_arn = {ROLE}\ncredential_source = {origin}\n")
    with pytest.raises(SourceError) as raised:
        await source().fetch()
    assert origin in raised.value.message


async def test_a_key_in_the_environment_and_in_a_profile_is_found(own_files, monkeypatch):
    """The two ways most hosts give the daemon its key."""
    (own_files / "credentials").write_text("[work]\naws_access_key_id = AKIAFILE\naws_secret_access_key = x\n")
    assert (await AwsChain().session("work").get_credentials()).access_key == "AKIAFILE"
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAENVIRONMENT")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "x")
    assert (await AwsChain().session().get_credentials()).access_key == "AKIAENVIRONMENT"


async def test_a_profile_that_is_missing_is_invalid_and_named(own_files):
    """A typing mistake in `profile`."""
    with pytest.raises(Invalid, match="nosuchprofile"):
        await source(profile="nosuchprofile").fetch()


async def test_a_config_file_of_aws_that_is_broken_is_named(own_files):
    """Somebody else's mistake in ~/.aws/config."""
    (own_files / "config").write_text("[broken\n")
    with pytest.raises(Invalid) as raised:
        await source().fetch()
    assert str(own_files / "config") in raised.value.message


def test_the_region_of_the_aws_profile_is_found(own_files, monkeypatch):
    """A host that has a region in ~/.aws/config would call STS in Virginia."""
    monkeypatch.delenv("AWS_DEFAULT_REGION", raising=False)
    (own_files / "config").write_text("[default]\nregion = eu-north-1\n")
    assert named_region(None) == "eu-north-1"
