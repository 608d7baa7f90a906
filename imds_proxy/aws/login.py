"""Profiles with `login_session`: sessions of `aws login`, which are refreshed without a person for some hours.

In: botocore's provider of them, which reads and writes `~/.aws/login/cache`. Out: the same provider, with a key that it
can sign with and words for what goes wrong with the cache. "Login for AWS local development using console credentials"
of the AWS CLI user guide.
"""

from typing import Any

import aiobotocore.credentials
import botocore.credentials

from imds_proxy.errors import Denied, Invalid
from imds_proxy.host.extras import how_to_install


def with_login(provider: Any, role: str) -> Any:
    """Botocore's provider, able to refresh.

    Args:
        provider: Made for one session.
        role: For messages.
    """
    load, profile = provider.load, provider._profile_name  # noqa: SLF001 - it has no public ways

    async def load_with_key() -> Any:
        profiles = provider._load_config().get("profiles", {})  # noqa: SLF001
        if "login_session" in profiles.get(profile, {}):
            _provide_key(role, profile)
        return await load()

    provider.load = load_with_key
    provider._token_cache = _Cache(provider._token_cache, role, profile)  # noqa: SLF001
    return provider


def _provide_key(role: str, profile: str) -> None:
    """Give botocore what it signs with, where awscrt is not installed."""
    if aiobotocore.credentials.EC is not None:
        return
    try:
        from imds_proxy.aws.login_key import LoginKey  # noqa: PLC0415 - an extra
    except ModuleNotFoundError as error:
        raise Invalid(
            f'role "{role}": profile "{profile}" has its credentials by aws login, which needs the Python package'
            f" {error.name}, which is not installed",
            how_to_install("login", str(error.name)),
        ) from None
    botocore.credentials.EC = aiobotocore.credentials.EC = LoginKey


class _Cache:
    """The sessions on disk, as botocore's provider uses them.

    Args:
        cache: botocore's.
        role: For messages.
        profile: The same.
    """

    def __init__(self, cache: Any, role: str, profile: str) -> None:
        self._cache = cache
        self._place = f'role "{role}": the session of aws login of profile "{profile}"'
        self._again = f"as the user the daemon runs as: aws login --profile {profile}"

    def __contains__(self, key: str) -> bool:
        return key in self._cache

    def __getitem__(self, key: str) -> Any:
        try:
            found = self._cache[key]
        except KeyError:  # botocore's way to say that a file cannot be read, or is no JSON
            raise Denied(f"{self._place}: its file cannot be read", self._again) from None
        if not isinstance(found, dict):
            raise Denied(f"{self._place}: its file holds something else", self._again)
        return found

    def __setitem__(self, key: str, value: Any) -> None:
        try:
            self._cache[key] = value
        except OSError as error:
            raise Invalid(
                f"{self._place}: it was refreshed, and cannot be saved: {error.strerror}",
                "let the daemon's user write to ~/.aws/login/cache (ReadWritePaths= of its unit), or name another"
                " folder, for the daemon and aws login, in AWS_LOGIN_CACHE_DIRECTORY",
            ) from None
