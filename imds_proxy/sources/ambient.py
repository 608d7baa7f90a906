"""What the daemon's own AWS chain gives, passed on with its expiry: SSO cache, profile, environment.

In: the environment, `~/.aws`, a profile's name. Out: the session that is found there. Errors: Denied, Throttled,
Unreachable, Invalid; long-lived keys are refused, since handing those out is what this daemon exists to end.
"Configuring IAM Identity Center authentication with the AWS CLI" of the AWS CLI user guide, "AWS SDKs and Tools
standardized credential providers" of the AWS SDKs and Tools guide.
"""

from imds_proxy.access_key import hint
from imds_proxy.aws.session import AwsChain, Found, find
from imds_proxy.aws.sts import fallback_region
from imds_proxy.config.roles import AmbientConfig
from imds_proxy.credentials import Credentials, Secret
from imds_proxy.errors import Denied, Invalid, SourceError
from imds_proxy.host.clock import Clock
from imds_proxy.sources.interface import Context, Source


def make(role: str, settings: AmbientConfig, context: Context) -> Source:
    """The source of one role."""
    region = context.region or fallback_region(role, settings.role_arn)
    return Ambient(role, settings, context.chain(), region, context.clock)


class Ambient(Source):
    """One role's source.

    Args:
        role: The name it has in the config.
        settings: Its settings.
        chain: Makes AWS sessions.
        region: Where a profile that assumes a role calls STS, unless the environment or the profile says it.
        clock: Wall time.
    """

    passes_on = True

    def __init__(self, role: str, settings: AmbientConfig, chain: AwsChain, region: str, clock: Clock) -> None:
        self._role = role
        self._settings = settings
        self._chain = chain
        self._region = region
        self._clock = clock

    async def fetch(self) -> Credentials:
        """What the chain has now."""
        began = self._clock.boot()
        found = await find(self._chain, self._role, self._settings.profile, self._region)
        if found is None:
            raise self._nothing()
        return self._credentials(found, self._clock.then(began))

    def _credentials(self, found: Found, obtained: float) -> Credentials:
        frozen = found.frozen
        if not frozen.token:
            raise self._long_lived(found)
        if found.expiration is None:
            raise self._without_expiry(found)
        return Credentials(
            access_key_id=frozen.access_key,
            secret_access_key=Secret(frozen.secret_key),
            session_token=Secret(frozen.token),
            expiration=found.expiration,
            obtained=obtained,
            role_arn=self._settings.role_arn,
            account=frozen.account_id or None,
        )

    def _nothing(self) -> SourceError:
        profile = self._settings.profile
        where = f'in profile "{profile}"' if profile else "in environment, shared files, SSO cache or process"
        option = f" --profile {profile}" if profile else ", or name a profile"
        login = f"aws sso login{option} (or aws login{option})" if profile else f"aws sso login, aws login{option}"
        return Denied(f'role "{self._role}": no AWS credentials {where}', f"as the user the daemon runs as: {login}")

    def _long_lived(self, found: Found) -> SourceError:
        return Invalid(
            f'role "{self._role}": key …{hint(found.frozen.access_key)} of {found.method} is long-lived, and is not'
            " handed out: it would be there for every program on this host to keep, and never ends",
            'let it be this daemon\'s alone, and have it assume a role: source = "assume-role"',
        )

    def _without_expiry(self, found: Found) -> SourceError:
        return Invalid(
            f'role "{self._role}": session key …{hint(found.frozen.access_key)} of {found.method} does not say when it'
            " ends, and nobody here guesses",
            "set AWS_CREDENTIAL_EXPIRATION beside it in the environment, or use a profile that renews itself: SSO,"
            " role_arn or credential_process",
        )
