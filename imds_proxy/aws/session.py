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
from typing import Any, Final

from aiobotocore.session import AioSession
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    InvalidConfigError,
    NoCredentialsError,
    PartialCredentialsError,
    ProfileNotFound,
)
from botocore.parsers import ResponseParserError

from imds_proxy.access_key import are_swapped
from imds_proxy.aws import endpoint_setting, files, refusals
from imds_proxy.aws.call import Call
from imds_proxy.aws.caller_identities import CallerIdentities
from imds_proxy.aws.guarded_http import Network, client_config
from imds_proxy.aws.kept_clients import Endpoint, KeptClients
from imds_proxy.aws.kept_sessions import KeptSessions, SharedSession, has_unchanging
from imds_proxy.aws.lean_endpoints import lean_loader
from imds_proxy.aws.no_answer import CONFIGURATION
from imds_proxy.aws.providers import fit_for_a_daemon, whose
from imds_proxy.aws.setting_error import SettingError
from imds_proxy.aws.settings import calls_sts_itself, region_of
from imds_proxy.aws.signing_guard import SigningGuard, give_guard, sent_by, signing, swapped, watch_current
from imds_proxy.credentials import timestamp
from imds_proxy.errors import ConfigError, Invalid, Unreachable
from imds_proxy.host.few_threads import FewThreads
from imds_proxy.host.loop_thread import LoopThread
from imds_proxy.host.open_files import shortage
from imds_proxy.host.threads import OneByOne
from imds_proxy.host.watched_files import READ_WITHIN, unanswered

_TIME_LIMIT: Final = 20.0

# They log each error before they raise it, with all of its text; it is told of by whoever asked, without that.
_TWICE_TOLD: Final = ("aiobotocore.credentials", "aiobotocore.tokens", "botocore.credentials", "botocore.tokens")

# What botocore raises where a file, a helper or a service says something that nobody expected.
_MISTAKES: Final = (ValueError, LookupError, TypeError, AttributeError, ArithmeticError)
_UNEXPECTED: Final = (*_MISTAKES, RuntimeError, EOFError)
# What it raises where a file that it could not read may be why something is not there.
_MISSING: Final = (ProfileNotFound, InvalidConfigError, PartialCredentialsError, NoCredentialsError)
_FAILURES: Final = (BotoCoreError, ClientError, ResponseParserError, SettingError, OSError, TimeoutError, *_UNEXPECTED)


class AwsChain:
    """Makes AWS sessions for this process, and clients of STS.

    What costs time and memory to make is kept and shared: botocore's data, its event handlers, TLS contexts, clients.
    None of that holds a key of the shared files; those are in a session, and gone with it.
    """

    def __init__(self) -> None:
        self._loader = lean_loader()
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
            SourceError: The files cannot be used; Unreachable where they did not answer, or have not since an earlier
                call.
        """
        try:
            make = partial(self._readable_session, profile, role=role, region=region, credentials=credentials)
            get = partial(self._sessions.get, (profile, region, credentials), make, credentials=credentials)
            session = await self._beside.do(get, within=READ_WITHIN)
        except TimeoutError:
            raise unanswered(role, "the AWS config and credentials files") from None
        except _FAILURES as error:
            raise refusals.chain_error(error, _call(role, profile), profile) from None
        self._sessions.used()
        return SharedSession(session, SigningGuard(whose(role)))

    def session(
        self, profile: str | None = None, *, role: str = "", region: str | None = None, credentials: bool = True
    ) -> Any:
        """A new aiobotocore session, whose calls are made within `signing`. Reads files: call it beside the loop.

        It reads the environment's files once: another one has to be made to pick up a key that was rotated on disk.

        Args:
            profile: Of the shared files; None: as the AWS SDKs choose it.
            role: For messages.
            region: Where neither the environment nor the profile says one.
            credentials: As for `fresh_session`.

        Raises:
            Invalid: Its credentials come from STS, in what is no region.
        """
        session = self._bare_session(profile)
        if region is not None:
            wanted = _own_region(session, role, credentials=credentials) or region
            if session.get_config_variable("region") != wanted:
                session.set_config_variable("region", wanted)
        give_guard(session, whose(role))
        fit_for_a_daemon(session.get_component("credential_provider"), role)
        return session

    def _readable_session(self, profile: str | None, *, role: str, region: str | None, credentials: bool) -> Any:
        try:
            return self.session(profile, role=role, region=region, credentials=credentials)
        except BotoCoreError as error:
            raise _of_files(error) from None
        except ValueError:
            files.check_variables()
            raise

    async def client(self, session: Any, endpoint: Endpoint) -> Any:
        """A client of STS with the settings of a session; its calls are made within `signing`. Not to be closed.

        Raises:
            BotoCoreError, SettingError: The settings cannot be used.
        """
        try:
            if endpoint.url is None:
                endpoint_setting.check(session, "sts")
            return await self._clients.get(session, endpoint)
        except BotoCoreError:  # some of these are ValueErrors too
            raise
        except _MISTAKES as error:  # botocore's way to say so of some settings
            what = f"the AWS settings of this host cannot be used ({type(error).__name__})"
            raise SettingError.invalid(what, CONFIGURATION) from None

    def _bare_session(self, profile: str | None) -> Any:
        session = AioSession(profile=profile, event_hooks=self._emitter, include_builtin_handlers=False)
        session.register_component("data_loader", self._loader)
        session.set_default_client_config(self._own_config)
        return session

    def setting(self, name: str) -> Any:
        """What the environment or the profile says of a setting, by botocore's name; None where neither can say."""
        try:
            return self._bare_session(None).get_config_variable(name)
        except BotoCoreError:
            return None


def _own_region(session: Any, role: str, *, credentials: bool) -> str | None:
    """The region of a session's own calls, as its environment or profile names it."""
    try:
        return region_of(session)
    except BotoCoreError:  # whatever asks for its credentials says it
        return None
    except ConfigError as error:
        if not credentials or not calls_sts_itself(session):
            return None
        raise Invalid(
            f"{whose(role)}: {error.message}", "correct it there; the profile's role is asked for in it"
        ) from None


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
    session = await chain.fresh_session(profile, role=role, region=region)
    call = replace(_call(role, profile), sent=sent_by(session))
    if has_unchanging(session):  # it was found before: nothing is read or asked
        return await _find_in(session, call, profile)
    try:
        async with asyncio.timeout(_TIME_LIMIT + READ_WITHIN):
            return await chain.finding.run(_find_in, session, call, profile)
    except TimeoutError:
        raise unanswered(role, "the AWS config and credentials files") from None
    except OSError as error:  # there is no file left for the loop
        raise refusals.chain_error(error, call, profile) from None


def _call(role: str, profile: str | None) -> Call:
    return Call(role, f'AWS credentials of profile "{profile}"' if profile else "AWS credentials")


async def _find_in(session: Any, call: Call, profile: str | None) -> Found | None:
    """The same, of a session; may block."""
    role = call.role
    try:
        async with asyncio.timeout(_TIME_LIMIT):
            with signing(session):
                credentials = await session.get_credentials()
                if credentials is None:
                    if (missing := shortage()) is not None:  # botocore takes a file it cannot open for an empty one
                        raise Unreachable(f'role "{role}": {call}: {missing[0]}', missing[1])
                    files.check_readable(files.CREDENTIALS)
                    return None
                frozen = await _frozen(credentials, call)
                files.check_key(frozen, credentials.method)
    except _FAILURES as error:
        if isinstance(error, _UNEXPECTED) and (broken := endpoint_setting.is_broken(session)) is not None:
            error = broken
        raise refusals.chain_error(_of_files(error), call, profile) from None  # its text may hold a secret
    if are_swapped(frozen.access_key or "", frozen.secret_key or ""):
        raise swapped(f'role "{role}": {call} of {credentials.method}')
    return Found(session, frozen, credentials.method, _end(credentials))


def _of_files(error: Exception) -> Exception:
    """The error for a file that cannot be read, where that may be why something is missing; else the same. Blocks."""
    if isinstance(error, _MISSING):
        try:
            files.check_variables()
            is_profile = isinstance(error, ProfileNotFound)
            files.check_readable(*((files.CONFIG, files.CREDENTIALS) if is_profile else ()))
        except SettingError as reason:
            return reason
    return error


async def _frozen(credentials: Any, call: Call) -> Any:
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
