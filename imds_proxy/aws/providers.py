"""botocore's providers of credentials, fit for a daemon: what they read is checked, and no helper is left behind."""

from dataclasses import dataclass, field
from typing import Any, Final, NoReturn

from aiobotocore.credentials import AioEnvProvider, AioLoginProvider, AioProcessProvider, AioSSOProvider
from botocore.credentials import AssumeRoleWithWebIdentityProvider
from botocore.exceptions import InvalidConfigError

from imds_proxy.aws import files
from imds_proxy.aws.chain_documents import SsoCache, check_environment, helper_document
from imds_proxy.aws.login import with_login
from imds_proxy.aws.other_documents import check_kind
from imds_proxy.host.run_command import run_command

_METADATA_PROVIDERS: Final = ("iam-role", "container-role")
_PROCESS_TIME_LIMIT: Final = 15.0


def whose(role: str) -> str:
    """What is looked up, for a message that names no role where there is none."""
    return f'role "{role}": AWS credentials' if role else "AWS credentials"


def fit_for_a_daemon(resolver: Any, role: str) -> None:
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
    make_web = builder._create_web_identity_provider  # noqa: SLF001
    builder._create_web_identity_provider = lambda *of: _reading(make_web(*of))  # noqa: SLF001
    make_sso = builder._create_sso_provider  # noqa: SLF001
    builder._create_sso_provider = lambda profile: _with_checked_cache(make_sso(profile), role)  # noqa: SLF001
    make_login = builder._create_login_provider  # noqa: SLF001
    builder._create_login_provider = lambda profile: with_login(make_login(profile), role)  # noqa: SLF001
    for provider in resolver.providers:
        _reading(provider)
        if isinstance(provider, AioProcessProvider):
            _careful(provider, role)
        elif isinstance(provider, AioSSOProvider):
            _with_checked_cache(provider, role)
        elif isinstance(provider, AioLoginProvider):
            with_login(provider, role)
        elif isinstance(provider, AioEnvProvider):
            _with_checked_end(provider, role)


def _nobody_to_ask(_: str) -> NoReturn:
    raise InvalidConfigError(error_msg="the profile wants an MFA code, and a daemon has nobody to ask for it")


def _reading(provider: Any) -> Any:
    """A provider that reads the token of a web identity as `aws_files` does."""
    if isinstance(provider, AssumeRoleWithWebIdentityProvider):
        provider._token_loader_cls = files.token_of  # noqa: SLF001 - it has no public way
    return provider


def _careful(provider: Any, role: str) -> Any:
    """A `credential_process` that is killed, with all it started, when it takes too long."""

    async def popen(*command: str, **_: Any) -> _Ended:
        what = "credential_process"
        output = await run_command(role, command, timeout=_PROCESS_TIME_LIMIT, what=what)
        check_kind(output, f'role "{role}": what credential_process {command[0]} printed')
        return _Ended(helper_document(output, f"{whose(role)}: what {what} printed"))

    provider._popen = popen  # noqa: SLF001
    return provider


def _with_checked_cache(provider: Any, role: str) -> Any:
    """A provider of SSO that says what is wrong with the token that `aws sso login` left."""
    folder, profile = provider._SSO_TOKEN_CACHE_DIR, provider._profile_name  # noqa: SLF001
    cache = SsoCache(folder, whose(role), profile)
    provider._token_cache = cache  # noqa: SLF001
    tokens = provider._token_provider  # noqa: SLF001
    tokens._cache = tokens._token_loader._cache = cache  # noqa: SLF001
    return provider


def _with_checked_end(provider: Any, role: str) -> None:
    """Credentials of the environment that say when they end so that everyone understands the same."""
    load = provider.load

    async def checked() -> Any:
        check_environment(whose(role))
        return await load()

    provider.load = checked


@dataclass(frozen=True, slots=True)
class _Ended:
    """A process that has ended well, as botocore looks at one."""

    output: bytes = field(repr=False)
    returncode: int = 0

    async def communicate(self) -> tuple[bytes, bytes]:
        return self.output, b""
