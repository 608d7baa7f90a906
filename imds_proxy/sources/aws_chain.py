"""The daemon's own AWS credential chain: environment, profile, shared files, web identity, process.

Never the instance metadata or container providers: those would find this very daemon (PROTOCOL.md 29).

In: the environment, `~/.aws`, a profile's name. Out: a session, or the credentials in it and when they end. Errors:
Denied, Throttled, Unreachable, Invalid. "AWS SDKs and Tools standardized credential providers" of the AWS SDKs and
Tools guide.
"""

import asyncio
import logging
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Final, NoReturn

from aiobotocore.credentials import AioProcessProvider
from aiobotocore.session import AioSession
from botocore.exceptions import BotoCoreError, ClientError, InvalidConfigError
from botocore.loaders import Loader
from botocore.parsers import ResponseParserError

from imds_proxy.access_key import are_swapped
from imds_proxy.credentials import timestamp
from imds_proxy.errors import Invalid, Unreachable
from imds_proxy.host.few_threads import FewThreads
from imds_proxy.host.open_files import shortage
from imds_proxy.loop_thread import LoopThread
from imds_proxy.sources import sts_errors
from imds_proxy.sources.aws_http import Network, client_config
from imds_proxy.sources.caller_identities import CallerIdentities
from imds_proxy.sources.command import run_command
from imds_proxy.sources.kept_clients import Endpoint, KeptClients
from imds_proxy.sources.kept_sessions import KeptSessions, SharedSession, has_unchanging
from imds_proxy.sources.signing_guard import SigningGuard, give_guard, sent_by, signing, swapped, watch_current
from imds_proxy.sources.watched_files import READ_WITHIN, unanswered
from imds_proxy.threads import OneByOne

_METADATA_PROVIDERS = ("iam-role", "container-role")
_TIME_LIMIT: Final = 20.0
_PROCESS_TIME_LIMIT: Final = 15.0

# They log each error before they raise it, with all of its text; it is told of by whoever asked, without that.
_TWICE_TOLD: Final = ("aiobotocore.credentials", "aiobotocore.tokens", "botocore.credentials", "botocore.tokens")

# What botocore raises where a file, a helper or a service says something that nobody expected.
_UNEXPECTED: Final = (ValueError, LookupError, TypeError, AttributeError, ArithmeticError, RuntimeError, EOFError)
_FAILURES: Final = (BotoCoreError, ClientError, ResponseParserError, OSError, TimeoutError, *_UNEXPECTED)


class LeanLoader(Loader):  # type: ignore[misc]  # botocore publishes no types
    """botocore's data files, without the megabyte of every service's endpoints.

    Endpoints come from the rule set in each service's own model; of `endpoints.json` only the partitions are still
    looked at, and those are in `partitions.json` too. Measured: 7 MB less for the life of the process.
    """

    def load_data_with_path(self, name: str) -> Any:
        """Data by name, as botocore does it, with its path."""
        if name != "endpoints":
            return super().load_data_with_path(name)
        partitions = super().load_data("partitions")["partitions"]
        return {"version": 3, "partitions": [_partition_without_services(entry) for entry in partitions]}, ""

    def load_data(self, name: str) -> Any:
        """Data by name, as botocore does it."""
        return self.load_data_with_path(name)[0]


def _partition_without_services(entry: dict[str, Any]) -> dict[str, Any]:
    suffix = entry["outputs"]["dnsSuffix"]
    return {
        "partition": entry["id"],
        "dnsSuffix": suffix,
        "regionRegex": entry["regionRegex"],
        "regions": {region: {} for region in entry["regions"]},
        "defaults": {"hostname": "{service}.{region}.{dnsSuffix}", "protocols": ["https"], "signatureVersions": ["v4"]},
        "services": {},
    }


class AwsChain:
    """Makes AWS sessions for this process, and clients of STS.

    What costs time and memory to make is kept and shared: botocore's data, its event handlers, TLS contexts, clients.
    None of that holds a key of the shared files; those are in a session, and gone with it.
    """

    def __init__(self) -> None:
        self._loader = LeanLoader(extra_search_paths=None)
        self._emitter = AioSession()._original_handler  # noqa: SLF001 - has botocore's handlers, which take 15 ms
        watch_current(self._emitter)
        self._config = client_config(Network())
        self._own_config = client_config(Network())  # of clients that a session makes itself, on another loop
        self.finding = LoopThread("AWS credentials")
        """Where botocore looks for credentials: it reads files, asks AWS and runs helpers by turns."""
        self._clients = KeptClients(self._bare_session, self._config)
        self.identities = CallerIdentities()
        self._sessions = KeptSessions()
        self._beside = OneByOne(FewThreads())
        for name in _TWICE_TOLD:
            logging.getLogger(name).setLevel(logging.CRITICAL)

    async def fresh_session(
        self, profile: str | None = None, *, role: str = "", region: str | None = None, credentials: bool = True
    ) -> Any:
        """What `session` makes of the files and the environment as they are now, with a guard of its own.

        Args:
            profile: As for `session`.
            role: The same.
            region: The same.
            credentials: Whether its own are used; else it is for its settings, and must not be asked for any.

        Raises:
            Unreachable: The files did not answer, or have not since an earlier call.
        """
        try:
            make = partial(self.session, profile, role=role, region=region)
            get = partial(self._sessions.get, (profile, region, credentials), make, credentials=credentials)
            session = await self._beside.do(get, within=READ_WITHIN)
        except TimeoutError:
            raise unanswered(role, "the AWS config and credentials files") from None
        self._sessions.used()
        return SharedSession(session, SigningGuard(_whose(role)))

    def session(self, profile: str | None = None, *, role: str = "", region: str | None = None) -> Any:
        """A new aiobotocore session, whose calls are made within `signing`. Reads files: call it beside the loop.

        It reads the environment's files once: another one has to be made to pick up a key that was rotated on disk.

        Args:
            profile: Of the shared files; None: as the AWS SDKs choose it.
            role: For messages.
            region: Where neither the environment nor the profile says one.
        """
        session = self._bare_session(profile)
        if region is not None and session.get_config_variable("region") is None:
            session.set_config_variable("region", region)
        give_guard(session, _whose(role))
        _fit_for_a_daemon(session.get_component("credential_provider"), role)
        return session

    async def client(self, session: Any, endpoint: Endpoint) -> Any:
        """A client of STS with the settings of a session; its calls are made within `signing`. Not to be closed.

        Raises:
            BotoCoreError, ValueError: The settings cannot be used.
        """
        return await self._clients.get(session, endpoint)

    def _bare_session(self, profile: str | None) -> Any:
        session = AioSession(profile=profile, event_hooks=self._emitter, include_builtin_handlers=False)
        session.register_component("data_loader", self._loader)
        session.set_default_client_config(self._own_config)
        return session

    def region(self) -> str | None:
        """The region that the AWS environment or profile names, if any."""
        try:
            region: str | None = self.session().get_config_variable("region")
        except BotoCoreError:  # a profile that is not there or does not parse: the first renewal says which
            return None
        return region


def _whose(role: str) -> str:
    return f'role "{role}": AWS credentials' if role else "AWS credentials"


def _fit_for_a_daemon(resolver: Any, role: str) -> None:
    """Providers that ask nobody but files, helpers and AWS, and leave no helper behind."""
    for name in _METADATA_PROVIDERS:
        resolver.remove(name)
    assume_role = next(provider for provider in resolver.providers if provider.METHOD == "assume-role")
    # A profile may name them too, by `credential_source`; and another profile with a helper, by `source_profile`.
    sourcer = assume_role._credential_sourcer  # noqa: SLF001
    sourcer._providers = [p for p in sourcer._providers if p.METHOD not in _METADATA_PROVIDERS]  # noqa: SLF001
    assume_role._prompter = _nobody_to_ask  # noqa: SLF001
    builder = assume_role._profile_provider_builder  # noqa: SLF001
    make = builder._create_process_provider  # noqa: SLF001
    builder._create_process_provider = lambda profile: _careful(make(profile), role)  # noqa: SLF001
    for provider in resolver.providers:
        if isinstance(provider, AioProcessProvider):
            _careful(provider, role)


def _nobody_to_ask(_: str) -> NoReturn:
    raise InvalidConfigError(error_msg="the profile wants an MFA code, and a daemon has nobody to ask for it")


def _careful(provider: Any, role: str) -> Any:
    """A `credential_process` that is killed, with all it started, when it takes too long."""

    async def popen(*command: str, **_: Any) -> _Ended:
        what = "credential_process"
        return _Ended(await run_command(role, command, timeout=_PROCESS_TIME_LIMIT, what=what))

    provider._popen = popen  # noqa: SLF001
    return provider


@dataclass(frozen=True, slots=True)
class _Ended:
    """A process that has ended well, as botocore looks at one."""

    output: bytes = field(repr=False)
    returncode: int = 0

    async def communicate(self) -> tuple[bytes, bytes]:
        return self.output, b""


@dataclass(frozen=True, slots=True)
class Found:
    """What the chain has."""

    session: Any
    frozen: Any = field(repr=False)
    """botocore's `ReadOnlyCredentials`: access_key, secret_key, token and account_id."""
    method: str
    """The provider's name."""
    expiration: float | None
    """Seconds since the epoch; None for what does not say."""


async def find(chain: AwsChain, role: str, profile: str | None, region: str | None = None) -> Found | None:
    """The credentials of the environment or a profile, whatever that takes: SSO, AssumeRole, a helper.

    Raises:
        SourceError: They cannot be had, or id and secret are swapped. None is returned where there is no trace of any.
    """
    call = sts_errors.Call(role, f'AWS credentials of profile "{profile}"' if profile else "AWS credentials")
    try:
        session = await chain.fresh_session(profile, role=role, region=region)
    except _FAILURES as error:
        raise sts_errors.chain_error(error, call, profile) from None
    call = replace(call, sent=sent_by(session))
    if has_unchanging(session):  # it was found before: nothing is read or asked
        return await _find_in(session, call, profile)
    try:
        async with asyncio.timeout(_TIME_LIMIT + READ_WITHIN):
            return await chain.finding.run(_find_in, session, call, profile)
    except TimeoutError:
        raise unanswered(role, "the AWS config and credentials files") from None
    except OSError as error:  # there is no file left for the loop
        raise sts_errors.chain_error(error, call, profile) from None


async def _find_in(session: Any, call: sts_errors.Call, profile: str | None) -> Found | None:
    """The same, of a session; may block."""
    role = call.role
    try:
        async with asyncio.timeout(_TIME_LIMIT):
            with signing(session):
                credentials = await session.get_credentials()
                if credentials is None:
                    if (missing := shortage()) is not None:  # botocore takes a file it cannot open for an empty one
                        raise Unreachable(f'role "{role}": {call}: {missing[0]}', missing[1])
                    return None
                frozen = await _frozen(credentials, call)
    except _FAILURES as error:
        raise sts_errors.chain_error(error, call, profile) from None  # its text may hold an answer, and that a secret
    if are_swapped(frozen.access_key or "", frozen.secret_key or ""):
        raise swapped(f'role "{role}": {call} of {credentials.method}')
    return Found(session, frozen, credentials.method, _end(credentials))


async def _frozen(credentials: Any, call: sts_errors.Call) -> Any:
    try:
        return await credentials.get_frozen_credentials()
    except RuntimeError:  # botocore's way to say that they are dead, and were so still after it had renewed them
        if (end := _end(credentials)) is None:
            raise
        what = f"what was found is dead since {timestamp(end)}, and nothing renews it"
        advice = "renew it where it comes from, and compare this host's clock with AWS's"
        raise Invalid(f'role "{call.role}": {call}: {what}', advice) from None


def _end(credentials: Any) -> float | None:
    moment = getattr(credentials, "_expiry_time", None)  # botocore has no public name for it
    return None if moment is None else float(moment.timestamp())
