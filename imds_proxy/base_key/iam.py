"""What is asked of AWS about a user's access keys, each call signed with one key.

"ListAccessKeys", "CreateAccessKey", "UpdateAccessKey", "DeleteAccessKey" and "GetAccessKeyLastUsed" in the IAM API
reference, "GetCallerIdentity" in the STS API reference. In: a key. Out: what AWS says. Errors: Denied (with the
statement that the user's policy needs), Throttled, Unreachable, Invalid.
"""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, Final

from aiobotocore.session import AioSession
from botocore.exceptions import BotoCoreError, ClientError
from botocore.loaders import Loader
from botocore.parsers import ResponseParserError

from imds_proxy.aws import endpoint_setting, refusals
from imds_proxy.aws.call import Call
from imds_proxy.aws.guarded_http import client_config
from imds_proxy.aws.lean_endpoints import lean_loader
from imds_proxy.aws.setting_error import SettingError
from imds_proxy.aws.signing_guard import SigningGuard, watch
from imds_proxy.aws.sts import caller_arn, observe_refusal, observe_time
from imds_proxy.base_key.access_keys import PER_USER, AccessKey, KeyPair, User, hint
from imds_proxy.base_key.words import LABEL, told
from imds_proxy.credentials import Secret
from imds_proxy.errors import Denied, Invalid, SourceError
from imds_proxy.host.clock import Clock

ACTIONS: Final = (
    "iam:ListAccessKeys",
    "iam:CreateAccessKey",
    "iam:UpdateAccessKey",
    "iam:DeleteAccessKey",
    "iam:GetAccessKeyLastUsed",
)
"""What the user's policy has to allow, on the user itself."""

_TIME_LIMIT: Final = 20.0
_NO_ANSWER: Final = (BotoCoreError, ResponseParserError, SettingError, OSError, TimeoutError)
_UNREADABLE: Final = (ValueError, LookupError, TypeError, AttributeError, ArithmeticError)
_NOBODYS_KEY: Final = "AKIA0000000000000000"  # no id that AWS gives has these digits in it
_GONE, _FULL = "NoSuchEntity", "LimitExceeded"
_NOT_PERMITTED: Final = {"AccessDenied", "AccessDeniedException", "UnauthorizedOperation"}
_SERVER_ERROR: Final = 500


class UnknownKey(Denied):
    """AWS does not know the key that signed: not yet, where it is new, or no longer."""


class Iam:
    """Makes callers; holds botocore's data files while it lives, and they are large: keep none.

    Args:
        region: For STS; IAM has one endpoint for all of a partition.
        clock: Told what time AWS says it is.
    """

    def __init__(self, region: str, clock: Clock) -> None:
        self._region = region
        self._clock = clock
        self._loader: Loader | None = None

    @asynccontextmanager
    async def caller(self, key: KeyPair) -> AsyncIterator["Caller"]:
        """Whoever signs with `key`."""
        self._loader = self._loader or await asyncio.to_thread(_load)
        session = AioSession()
        session.register_component("data_loader", self._loader)
        session.set_default_client_config(client_config())
        guard = watch(session, f"key {hint(key.id)}")
        session.set_credentials(key.id, key.secret.reveal())
        async with self._client(session, "sts") as sts, self._client(session, "iam") as iam:
            yield Caller(sts, iam, key, self._clock, guard)

    @asynccontextmanager
    async def _client(self, session: Any, service: str) -> AsyncIterator[Any]:
        async with AsyncExitStack() as stack:
            try:
                endpoint_setting.check(session, service)
                made = await stack.enter_async_context(session.create_client(service, region_name=self._region))
            except _NO_ANSWER as error:
                raise told(refusals.translate(error, Call(LABEL, f"a client of {service}"))) from None
            yield made


def _load() -> Loader:
    """All of botocore's data that the clients need, read in a thread: the loop goes on answering."""
    loader = lean_loader()
    for service in ("sts", "iam"):
        loader.load_service_model(service, "service-2")
        loader.load_service_model(service, "endpoint-rule-set-1")
    loader.load_data("endpoints")
    return loader


class Caller:
    """One key's calls about the keys of its own user."""

    def __init__(self, sts: Any, iam: Any, key: KeyPair, clock: Clock, guard: SigningGuard) -> None:
        self._sts = sts
        self._iam = iam
        self._key = key
        self._clock = clock
        self._guard = guard

    async def user(self) -> User:
        """Whose key this is; needs no permission. Raises UnknownKey; Invalid where it is no IAM user's."""
        answer = await self._ask(self._sts, "sts:GetCallerIdentity")
        try:
            arn = caller_arn(answer["Arn"])
        except _UNREADABLE:
            raise _nonsense("sts:GetCallerIdentity") from None
        if ":user/" not in arn:
            what = f"the key {hint(self._key.id)} belongs to {arn}, which is no IAM user"
            raise Invalid(what, "put a key of an IAM user there, which may do nothing but what this host needs")
        return User(arn)

    async def keys(self, user: User) -> dict[str, AccessKey]:
        """The user's keys by id."""
        answer = await self._ask(self._iam, "iam:ListAccessKeys", user)
        try:
            keys = [
                AccessKey(str(key["AccessKeyId"]), key["Status"] == "Active", key["CreateDate"].timestamp())
                for key in answer["AccessKeyMetadata"]
            ]
        except _UNREADABLE:
            raise _nonsense("iam:ListAccessKeys") from None
        return {key.id: key for key in keys}

    async def last_used(self, user: User, key_id: str) -> float | None:
        """When AWS last saw the key used, seconds since the epoch; None: never. AWS may know some hours late."""
        answer = await self._ask(self._iam, "iam:GetAccessKeyLastUsed", user, named=False, AccessKeyId=key_id)
        date = answer.get("AccessKeyLastUsed", {}).get("LastUsedDate")
        return None if date is None else float(date.timestamp())

    async def create(self, user: User) -> KeyPair:
        """A new key. Denied and Throttled: none was made; any other error: nobody knows."""
        answer = await self._ask(self._iam, "iam:CreateAccessKey", user)
        try:
            return KeyPair(str(answer["AccessKey"]["AccessKeyId"]), Secret(str(answer["AccessKey"]["SecretAccessKey"])))
        except _UNREADABLE:
            raise _nonsense("iam:CreateAccessKey") from None

    async def deactivate(self, user: User, key_id: str) -> None:
        """Make the key useless, for as long as nobody activates it."""
        await self._ask(self._iam, "iam:UpdateAccessKey", user, gone=True, AccessKeyId=key_id, Status="Inactive")

    async def delete(self, user: User, key_id: str) -> None:
        """Delete the key for good; well where it is gone already. AWS refuses it for a key of another user."""
        await self._ask(self._iam, "iam:DeleteAccessKey", user, gone=True, AccessKeyId=key_id)

    async def check_permissions(self, user: User) -> None:
        """Ask for all that is needed besides making a key, in ways that change nothing.

        IAM decides on permission before it looks for the key, so a key that is not there serves to ask.
        """
        await self.last_used(user, self._key.id)
        await self.deactivate(user, _NOBODYS_KEY)
        await self.delete(user, _NOBODYS_KEY)

    async def _ask(
        self, client: Any, action: str, user: User | None = None, *, named: bool = True, gone: bool = False, **more: str
    ) -> Any:
        """One call; `named` says whose keys it is about, `gone` that a key which is not there is an answer too."""
        call = Call(
            LABEL, action, user.arn if user else "", client.meta.endpoint_url, f"key {hint(self._key.id)}", self._guard
        )
        parameters = more | ({"UserName": user.name} if user and named else {})
        try:
            async with asyncio.timeout(_TIME_LIMIT):
                answer = await getattr(client, _METHODS[action])(**parameters)
        except ClientError as error:
            observe_refusal(self._clock, error, call.endpoint)
            if gone and refusals.code_and_text(error)[0] == _GONE:
                return {}
            raise _refusal(error, call, self._clock.skew) from None
        except _NO_ANSWER as error:
            raise told(refusals.translate(error, call)) from None  # its text may hold an answer, and that a secret
        except _UNREADABLE:
            raise _nonsense(action) from None
        observe_time(self._clock, answer, call.endpoint)
        return answer


_METHODS: Final = {
    "sts:GetCallerIdentity": "get_caller_identity",
    "iam:ListAccessKeys": "list_access_keys",
    "iam:CreateAccessKey": "create_access_key",
    "iam:UpdateAccessKey": "update_access_key",
    "iam:DeleteAccessKey": "delete_access_key",
    "iam:GetAccessKeyLastUsed": "get_access_key_last_used",
}


def policy_statement(user: User) -> str:
    """What the user's policy needs, as JSON on one line."""
    return json.dumps({"Effect": "Allow", "Action": ACTIONS, "Resource": user.arn})


def two_keys(what: str) -> Denied:
    """There is no room for a new key."""
    return Denied(
        f"IAM allows {PER_USER} keys a user, and {what}",
        "delete the one that nobody uses: aws iam delete-access-key; where another host shares this user, give each"
        " host a user of its own",
    )


def _refusal(error: ClientError, call: Call, skew: float) -> SourceError:
    """The error of ours for AWS's."""
    known = refusals.translate(error, call, skew=skew)
    code, status = refusals.code_and_text(error)[0], error.response.get("ResponseMetadata", {}).get("HTTPStatusCode")
    if code in _NOT_PERMITTED and call.target:
        return told(known, advice=f"add this statement to the user's policy: {policy_statement(User(call.target))}")
    if code == _FULL:
        return two_keys("both are there by now")
    if refusals.refuses_credentials(error) and not refusals.is_about_time(error):
        advice = "put a key that works into the file; where another host shares this user, give each a user of its own"
        return UnknownKey(told(known).message, advice)
    if isinstance(status, int) and status >= _SERVER_ERROR:
        return told(known, advice="nothing: it is retried")
    return told(known, advice="see what AWS says") if isinstance(known, Invalid) else told(known)


def _nonsense(action: str) -> Invalid:
    return Invalid(f"{action}: the answer is not what AWS sends", "check the proxy, and AWS_ENDPOINT_URL")
