"""How often AWS is asked whose a key is, to explain a denial (aws/caller_identities.py), at the AWS double."""

import asyncio

import pytest

from imds_proxy.aws import caller_identities
from imds_proxy.aws.session import AwsChain
from imds_proxy.aws.sts_caller import FromChain, FromRole
from imds_proxy.config.roles import AssumeRoleConfig
from imds_proxy.errors import Denied, SourceError
from imds_proxy.host.clock import Clock
from imds_proxy.sources.assume_role import AssumeRole
from support.aws import is_assume_role, parameter, sts_error
from support.plane import credentials

CODES = ["Throttling", "RequestLimitExceeded", "ExpiredToken", "InvalidClientTokenId", "SignatureDoesNotMatch"]
FURTHER = ["ValidationError", "RegionDisabledException", "ServiceUnavailable"]


@pytest.fixture
def roles(aws, monkeypatch):
    """`roles(count)`: as many AssumeRole sources of one process."""
    use(aws.environment, monkeypatch)
    chain = AwsChain()

    def make(count, base=None):
        settings = {"role_arn": aws.role_arn, "session_name": "web1", "sts_endpoint": aws.double.url}
        options = AssumeRoleConfig.model_validate(settings)
        made = base or FromChain(None)
        return [AssumeRole(f"r{number}", options, made, chain, "eu-west-1", Clock()) for number in range(count)]

    return make


def use(environment, monkeypatch):
    for name, value in environment.items():
        monkeypatch.setenv(name, value)


def refuse(aws, code, status=400):
    aws.double.interfere = lambda request: sts_error(code, "no", status) if is_assume_role(request) else None


async def failures(roles):
    """What each role's attempt says, all at once."""
    found = await asyncio.gather(*(role.fetch() for role in roles), return_exceptions=True)
    assert all(isinstance(error, SourceError) for error in found), found
    return found


def asked(aws):
    return [call.key_id for call in aws.double.calls if call.action == "GetCallerIdentity"]


@pytest.mark.parametrize("code", CODES + FURTHER)
async def test_it_is_not_asked_where_it_explains_nothing(aws, roles, code):
    """An account that is throttled would be called twice as often, and be throttled for longer."""
    refuse(aws, code)
    await failures(roles(5))
    assert len(aws.double.calls) == 5
    assert asked(aws) == []


async def test_it_is_asked_once_for_all_roles_and_attempts(aws, roles):
    """A trust policy that somebody broke would be two calls each time, for each role."""
    refuse(aws, "AccessDenied", 403)
    denied = roles(5)
    said = [error for _ in range(4) for error in await failures(denied)]
    assert asked(aws) == [aws.key_id]
    assert all(isinstance(error, Denied) and aws.double.user_arn("host") in error.advice for error in said)


async def test_it_is_asked_again_after_a_while(aws, roles, monkeypatch):
    """The message would name a user for ever whom AWS knows by another name now."""
    monkeypatch.setattr(caller_identities, "KEPT", 0.5)
    refuse(aws, "AccessDenied", 403)
    [role] = roles(1)
    await failures([role])
    await failures([role])
    assert len(asked(aws)) == 1
    await asyncio.sleep(0.6)
    await failures([role])
    assert len(asked(aws)) == 2


async def test_that_aws_did_not_say_is_kept_too(aws, roles):
    """Where that call is forbidden or away, it would be made at each denial."""

    def refuse_all(request):
        return sts_error("AccessDenied" if is_assume_role(request) else "Throttling", "no", 403)

    aws.double.interfere = refuse_all
    [role] = roles(1)
    for _ in range(3):
        [error] = await failures([role])
        assert f"key …{aws.key_id[-4:]}" in error.message
    assert len(asked(aws)) == 1


async def test_another_key_is_asked_about_at_once(aws, roles, monkeypatch):
    """The message would name the user whose key was replaced."""
    refuse(aws, "AccessDenied", 403)
    [role] = roles(1)
    await failures([role])
    key_id, secret = aws.double.add_user("another")
    use({"AWS_ACCESS_KEY_ID": key_id, "AWS_SECRET_ACCESS_KEY": secret}, monkeypatch)
    [error] = await failures([role])
    assert asked(aws) == [aws.key_id, key_id]
    assert aws.double.user_arn("another") in error.advice


async def test_a_role_that_gives_up_waiting_takes_the_answer_from_nobody(aws, roles):
    """A reload in the middle would leave the others without their explanation."""
    hold = asyncio.Event()
    loop = asyncio.get_running_loop()

    def slow(request):
        if is_assume_role(request):
            return sts_error("AccessDenied", "no", 403)
        if parameter(request, "Action") == "GetCallerIdentity":
            asyncio.run_coroutine_threadsafe(hold.wait(), loop).result(10)
        return None

    aws.double.interfere = slow
    first, second = (asyncio.create_task(role.fetch()) for role in roles(2))
    while not any(task.get_name() == "ask AWS whose a key is" for task in asyncio.all_tasks()):
        await asyncio.sleep(0.01)
    await asyncio.sleep(0.2)
    first.cancel()
    hold.set()
    with pytest.raises(Denied) as said:
        await second
    assert aws.double.user_arn("host") in said.value.advice
    assert len(asked(aws)) == 1
    assert not any(task.get_name() == "ask AWS whose a key is" for task in asyncio.all_tasks())


async def test_a_session_whose_arn_is_known_is_not_asked_about(aws, roles):
    """Each renewal of a parent is another key: it would be one more call for each of them."""
    refuse(aws, "AccessDenied", 403)
    parent = credentials()
    [error] = await failures(roles(1, FromRole("parent", lambda: parent)))
    assert asked(aws) == []
    assert parent.session_arn in error.message
