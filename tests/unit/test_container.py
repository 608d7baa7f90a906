"""Who gets which role over the container protocol (metadata/container.py): every condition, without a socket."""

import json

import pytest

from imds_proxy.callers.caller import Caller, ServiceAccount
from imds_proxy.callers.grant_token_files import TokenFiles
from imds_proxy.callers.grants import Grants
from imds_proxy.callers.kubernetes.verifier import KeysMissing, NotAccepted
from imds_proxy.config.reader import parse
from imds_proxy.host.clock import Clock
from imds_proxy.host.state_dir import open_state_dir
from imds_proxy.metadata.container import ContainerCredentials
from imds_proxy.metadata.messages import Request
from imds_proxy.metadata.role_tokens import load_or_make_tokens
from imds_proxy.metadata.routes import route
from imds_proxy.metadata.session_tokens import SessionTokens, Tokens
from imds_proxy.renewal.keeper import Keeper
from imds_proxy.telemetry.stats import RenewalStats
from support.plane import CONTAINER_TOKEN, KEY, credentials, role_table, role_tokens

UID = 1000
SHOP, OTHER = ServiceAccount("shop", "frontend", "frontend-1"), ServiceAccount("other", "job", "job-1")
ROLES = ("a", "b", "c", "tagged", "pods")


class Accounts:
    """Verifies three tokens."""

    def verify(self, token, _now):
        if token == "early":
            raise KeysMissing("the keys are not here yet")
        if token not in {"shop", "other"}:
            raise NotAccepted("no such token")
        return {"shop": SHOP, "other": OTHER}[token]


class Sessions:
    """A role with a session for each service account."""

    def __init__(self, held):
        self.asked, self._held = [], held

    def serve(self, account):
        self.asked.append(account)
        return self._held


class Container:
    """The container protocol of a config with two token files, as one caller of uid 1000 finds it."""

    def __init__(self, folder):
        self.files = {name: folder / name for name in ("a", "b", "narrow")}
        for name, path in self.files.items():
            path.write_text(f"the-token-of-file-{name}")
            path.chmod(0o600)
        self.token_files = TokenFiles()

    def build(self, grants, *, held=ROLES, served=ROLES, sessions=None, role_token_uids=None):
        tables = {name: role_table(name)[name] for name in ROLES}
        accounts = {"issuer": "https://cluster", "jwks_file": "/etc/jwks.json"}
        config = parse({"roles": tables, "grants": grants, "service_accounts": accounts}, "test")
        keepers = {name: Keeper(name, clock=Clock(), stats=RenewalStats()) for name in served}
        for name in set(held) & set(served):
            keepers[name].adopt(credentials(name), due=False)
        tokens = Tokens(SessionTokens(KEY), role_tokens(ROLES, Clock()), self.token_files, Accounts())
        self.keepers = keepers
        self._container = ContainerCredentials(
            grants=Grants(config.grants, None),
            keepers=keepers,
            sessions=sessions or {},
            role_arns={name: role.role_arn for name, role in config.roles.items()},
            tokens=tokens,
            clock=Clock(),
            role_token_uids=role_token_uids,
        )

    async def read(self):
        await self.token_files.follow(str(path) for path in self.files.values())

    def ask(self, target, token=None, *, method="GET", uid=UID):
        headers = {} if token is None else {"authorization": token}
        caller = Caller("127.0.0.1", "127.0.0.1:1338", b"uid 1000", uid=uid)
        return self._container.answer(Request(method, target, headers, caller), route(target))

    def opens(self, token, **caller):
        """The roles that a token opens, each asked for what it is."""
        opened = []
        for name in (*ROLES, "unknown", ""):
            answer = self.ask(f"/roles/{name}", token, **caller)
            if answer.status == 200:
                assert json.loads(answer.body)["RoleArn"].endswith(f"/{name}")
                assert answer.role == name
                opened.append(name)
            else:
                assert (answer.status, json.loads(answer.body)["code"]) == (401, "AccessDenied")
        return opened


@pytest.fixture
async def container(tmp_path):
    made = Container(tmp_path)
    yield made
    await made.token_files.close()


def grants_of(container):
    return [
        {"role": "a", "token_file": str(container.files["a"])},
        {"role": "b", "token_file": str(container.files["b"])},
        {"role": "b", "token_file": str(container.files["narrow"]), "uid": UID},
        {"role": "c", "uid": UID},
    ]


async def test_the_token_of_a_grants_file_opens_the_role_of_that_grant_alone(container):
    """One container's token would open every other's role."""
    container.build(grants_of(container))
    await container.read()
    assert container.opens("the-token-of-file-a") == ["a"]
    assert container.opens("the-token-of-file-b") == ["b"]
    assert container.opens("Bearer the-token-of-file-b") == ["b"]


async def test_a_token_is_not_enough_where_the_grant_has_further_keys(container):
    """A token that leaked would hold for every user of the host."""
    container.build(grants_of(container))
    await container.read()
    assert container.opens("the-token-of-file-narrow") == ["b"]
    assert container.opens("the-token-of-file-narrow", uid=UID + 1) == []
    assert container.opens("the-token-of-file-narrow", uid=None) == []


async def test_what_the_connection_may_have_takes_no_token_and_is_added_to_none(container):
    """`/roles/NAME` is for who shows a token: a web page or a proxy of that user shows none."""
    container.build(grants_of(container))
    await container.read()
    for token in (None, "", "wrong", "the-token-of-file", "the-token-of-file-c"):
        assert container.opens(token) == []
    assert "c" not in container.opens("the-token-of-file-a")


async def test_a_roles_own_token_opens_that_role_alone(container):
    """Whoever may read the file of one role would have all."""
    container.build(grants_of(container))
    await container.read()
    for name in ROLES:
        assert container.opens(CONTAINER_TOKEN + name) == [name]


async def test_a_roles_own_token_counts_for_its_users_alone(container):
    """Sent to another user's listener by mistake, it would open the role for that user."""
    container.build(grants_of(container), role_token_uids=frozenset({0, UID}))
    await container.read()
    for uid, opened in ((0, ["c"]), (UID, ["c"]), (UID + 1, []), (None, [])):
        assert container.opens(CONTAINER_TOKEN + "c", uid=uid) == opened


async def test_the_token_of_a_role_that_is_no_longer_handed_out_opens_nothing(container):
    """Its file stays in the state directory."""
    container.build(grants_of(container), served=("b",))
    await container.read()
    assert container.opens(CONTAINER_TOKEN + "a") == []
    assert container.opens("the-token-of-file-a") == []


async def test_the_audit_is_told_by_which_file_a_caller_came(container):
    container.build(grants_of(container))
    await container.read()
    assert container.ask("/roles/a", "the-token-of-file-a").caller.token_file == str(container.files["a"])
    assert container.ask("/roles/b", "the-token-of-file-a").caller.token_file == str(container.files["a"])
    assert container.ask("/roles/a", "wrong").caller.token_file is None


async def test_until_the_files_are_read_a_token_may_be_right(container):
    """A 401 would send some SDKs on to another identity; what is known already opens."""
    container.build(grants_of(container))
    answer = container.ask("/roles/a", "the-token-of-file-a")
    assert (answer.status, json.loads(answer.body)["code"]) == (503, "TokensUnavailable")
    assert container.ask("/roles/a", CONTAINER_TOKEN + "a").status == 200
    await container.read()
    assert container.ask("/roles/a", "the-token-of-file-a").status == 200


@pytest.mark.parametrize("method", ["PUT", "POST", "DELETE", "OPTIONS"])
async def test_only_reading_is_answered(container, method):
    container.build(grants_of(container))
    await container.read()
    for target, token in (("/roles/a", "the-token-of-file-a"), ("/v1/credentials", "shop")):
        assert container.ask(target, token, method=method).status == 405
    assert container.ask("/roles/a", "the-token-of-file-a", method="HEAD").status == 200


# The roles' own tokens


def test_without_a_state_directory_no_role_has_a_token_of_its_own():
    assert load_or_make_tokens(None, ROLES) == {}


@pytest.mark.parametrize(
    "content", [b"", b"short", b"fifteen-letters", b"two words that are long", "ümlaut".encode() * 9]
)
def test_a_file_that_holds_no_token_is_no_token(tmp_path, caplog, content):
    """An empty one would be opened by a request without any."""
    state = open_state_dir(tmp_path / "state")
    made = load_or_make_tokens(state, ["a", "b"])
    state.write("tokens/a", content)
    assert load_or_make_tokens(state, ["a", "b"]) == {"b": made["b"]}
    assert "the container protocol is off for this role" in caplog.text
    state.write("tokens/a", made["a"] + b"\n")  # of an editor
    assert load_or_make_tokens(state, ["a", "b"]) == made


# Service accounts


ACCOUNTS = [
    {"role": "c", "uid": UID},
    {"role": "a", "service_account": "shop/frontend", "uid": UID},
    {"role": "b", "service_account": "shop/*"},
]


def of_account(container, token, asked="", **caller):
    answer = container.ask(f"/v1/credentials{asked}", token, **caller)
    body = json.loads(answer.body)
    return body["RoleArn"].rpartition("/")[2] if answer.status == 200 else (answer.status, body["code"])


async def test_a_service_account_has_the_first_role_that_is_granted_to_it(container):
    """Not what its connection may have besides: on a node that is every pod's."""
    container.build(ACCOUNTS)
    assert of_account(container, "shop") == "a"
    assert of_account(container, "shop", uid=UID + 1) == "b"
    assert of_account(container, "other") == (403, "AccessDenied")


@pytest.mark.parametrize(
    ("token", "answer"),
    [("wrong", (401, "AccessDenied")), ("", (401, "AccessDenied")), ("early", (503, "KeysUnavailable"))],
)
async def test_a_token_that_is_not_believed_has_nothing(container, token, answer):
    container.build(ACCOUNTS)
    assert of_account(container, token) == answer
    assert of_account(container, "the-token-of-file-a") == (401, "AccessDenied")
    assert of_account(container, CONTAINER_TOKEN + "a") == (401, "AccessDenied")


async def test_a_service_accounts_token_opens_no_role_by_name(container):
    container.build(ACCOUNTS)
    await container.read()
    assert container.opens("shop") == []


async def test_each_service_account_has_its_own_session_where_the_role_says_so(container):
    """A pod would act under another one's name."""
    container.build(ACCOUNTS)
    sessions = Sessions(container.keepers["pods"].serve())
    container.build([{"role": "tagged", "service_account": "shop/*"}], sessions={"tagged": sessions})
    assert of_account(container, "shop") == "pods"  # what the session for it gives, not what the role has
    assert sessions.asked == [SHOP]
    assert of_account(container, "other") == (403, "AccessDenied")
    assert sessions.asked == [SHOP]


def arn(name, account="123456789012"):
    return f"arn:aws:iam::{account}:role/path/{name}"


async def test_an_account_has_the_one_of_its_roles_that_it_asks_for(container):
    """Of two roles it would always have the first, whatever its annotation says."""
    container.build(ACCOUNTS)
    for name in ("a", "b"):
        for asked in (name, arn(name), arn(name).replace(":", "%3A").replace("/", "%2f")):
            assert of_account(container, "shop", f"/{asked}") == name
            assert of_account(container, "shop", f"//{asked}//?x=y") == name


@pytest.mark.parametrize(
    "asked", ["c", "nobodys", arn("c"), arn("nobodys"), arn("a", "210987654321"), "%00", "a%41", "*"]
)
async def test_a_role_that_is_not_granted_cannot_be_asked_for(container, asked):
    """The value is what a client says: it would open every role of the config."""
    container.build(ACCOUNTS)
    answer = container.ask(f"/v1/credentials/{asked}", "shop")
    body = json.loads(answer.body)
    assert (answer.status, body["code"], body["Code"]) == (403, "AccessDenied", "AccessDenied")
    assert "annotation asks for another role than is granted" in body["message"]
    assert len({container.ask(f"/v1/credentials/{each}", "shop").body for each in (asked, "c", "nobodys")}) == 1
    assert "; granted: a, b" in answer.reason


async def test_who_is_granted_nothing_sees_no_difference(container):
    """Whoever has a pod could find out which roles there are."""
    container.build(ACCOUNTS)
    said = {container.ask(f"/v1/credentials{each}", "other")[:3] for each in ("", "/a", "/nobodys", f"/{arn('a')}")}
    assert len(said) == 1
    assert said.pop()[0] == 403
    assert container.ask("/v1/credentials", "other").reason == "no role is granted to this service account"
    assert container.ask("/v1/credentials/a", "other").reason == "asks for a; granted: nothing"


async def test_a_token_that_is_not_believed_has_nothing_by_asking(container):
    container.build(ACCOUNTS)
    assert of_account(container, "wrong", "/a") == (401, "AccessDenied")
    assert of_account(container, "early", "/a") == (503, "KeysUnavailable")
    assert container.ask("/v1/credentials/a", "wrong").reason == "no such token"


async def test_a_session_of_its_own_can_be_asked_for(container):
    container.build(ACCOUNTS)
    sessions = Sessions(container.keepers["pods"].serve())
    grants = [{"role": "a", "service_account": "shop/*"}, {"role": "tagged", "service_account": "shop/*"}]
    container.build(grants, sessions={"tagged": sessions})
    assert of_account(container, "shop") == of_account(container, "shop", f"/{arn('a')}") == "a"
    assert sessions.asked == []
    assert of_account(container, "shop", f"/{arn('tagged')}") == "pods"
    assert sessions.asked == [SHOP]


async def test_the_log_says_once_who_asks_for_what(container, caplog):
    """An operator sees why a pod has no role, and a pod in a loop fills no disk."""
    container.build(ACCOUNTS)
    for _ in range(50):
        container.ask(f"/v1/credentials/{arn('c')}", "shop")
    [line] = caplog.records
    assert (line.service_account, line.asks_for, line.granted) == ("shop/frontend", arn("c"), "a, b")
    assert "[[grants]]" in line.advice
    container.ask("/v1/credentials/%1b%5b2J", "shop")
    assert caplog.records[-1].asks_for == "something that is no role"


async def test_only_reading_a_role_that_is_asked_for_is_answered(container):
    container.build(ACCOUNTS)
    assert container.ask("/v1/credentials/a", "shop", method="PUT").status == 405
    assert container.ask("/v1/credentials/a", "shop", method="HEAD").status == 200


async def test_a_role_without_credentials_is_said_to_be_one(container):
    container.build(ACCOUNTS, held=())
    assert of_account(container, "shop") == (503, "CredentialsUnavailable")
    container.build(ACCOUNTS, served=())
    assert of_account(container, "shop") == (503, "CredentialsUnavailable")
