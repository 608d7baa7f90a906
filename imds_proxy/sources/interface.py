"""What every source is, and what holds for all of them."""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar, Final

from imds_proxy.access_key import SWAPPED, SWAPPED_ADVICE, are_swapped
from imds_proxy.config.role_base import RoleConfig
from imds_proxy.credentials import Credentials, timestamp
from imds_proxy.errors import Denied, Invalid
from imds_proxy.host.clock import Clock
from imds_proxy.host.file_watcher import FileWatcher
from imds_proxy.host.tls import KeptContexts
from imds_proxy.partitions import USUAL, Variants
from imds_proxy.telemetry.log import told
from imds_proxy.telemetry.stats import CertificateStats

if TYPE_CHECKING:
    from imds_proxy.aws.session import AwsChain

LONGEST_LIFE: Final = 7 * 86400
"""Seconds. AWS gives no session more than 36 hours, and other implementations of STS a week: whatever lives longer
is a long-lived key with a date made up for it, or nonsense."""


CHAINED_LIMIT: Final = 3600
"""Seconds. AWS gives a chained session an hour at most, and refuses to give any where more is asked for."""


def longest_life(settings: RoleConfig) -> int:
    """Seconds that a session of a role may live: what is asked for, where the source asks; else `LONGEST_LIFE`."""
    asked: int | None = getattr(settings, "duration", None)
    if asked is None:
        return LONGEST_LIFE
    return min(asked, CHAINED_LIMIT) if settings.parent else asked


class Source(ABC):
    """One way to obtain one role's credentials."""

    passes_on: ClassVar[bool] = False
    """Whether its sessions are made and renewed by something else, so that it may hand out one of them for a while."""

    local: ClassVar[bool] = False
    """Whether a fetch only reads a small file: nobody is called for it, and nothing is started."""

    certificate: CertificateStats | None = None
    """How the certificate is that this source proves itself with, if it has one."""

    @abstractmethod
    async def fetch(self) -> Credentials:
        """Obtain fresh credentials; ends by itself within a time limit of its own. Call it through `obtain`.

        Raises:
            SourceError: As Denied, Throttled, Unreachable or Invalid, in words for the operator.
        """

    async def changed(self) -> None:
        """Return when a fetch is worth making before the schedule says so. Raises nothing; here: never returns."""
        await asyncio.get_running_loop().create_future()


@dataclass(frozen=True, slots=True)
class Context:
    """What the daemon gives to a source besides its settings.

    Args:
        clock: Wall time; told what time AWS says it is.
        chain: The daemon's own AWS chain; botocore is imported when it is first asked for.
        region: The region of the config, the environment or the AWS profile, if anybody said one.
        parent: The live credentials of the role that this one is obtained with (`RoleConfig.parent`).
        tls: The TLS contexts of all sources.
        watcher: Of the files of all sources.
        variants: Which of AWS's endpoints a source calls that calls them without botocore.
    """

    clock: Clock
    chain: "Callable[[], AwsChain]"
    region: str | None
    parent: Callable[[], Credentials | None]
    tls: KeptContexts = field(default_factory=KeptContexts)
    watcher: FileWatcher = field(default_factory=FileWatcher)
    variants: Variants = USUAL


async def obtain(role: str, source: Source, clock: Clock) -> Credentials:
    """What the source hands out, if that is alive and its life is that of a session.

    Raises:
        SourceError: As `Source.fetch`; Denied where key id and secret key are swapped; Invalid for dead credentials,
            and for such as outlive any session.
    """
    credentials = await source.fetch()
    if are_swapped(credentials.access_key_id, credentials.secret_access_key.reveal()):
        raise Denied(f'role "{role}": what the source handed out: {SWAPPED}', SWAPPED_ADVICE)
    now, end = clock.now(), credentials.expiration
    if end <= now:
        raise Invalid(
            f'role "{role}": the source handed out credentials dead since {timestamp(end)}',
            "renew them where they come from, and compare this host's clock with AWS's",
        )
    if end > now + LONGEST_LIFE:
        raise Invalid(
            f'role "{role}": the source handed out credentials with a life of {round((end - now) / 86400)} days, which'
            " no session has",
            "have it hand out temporary credentials with their true expiration",
        )
    return credentials


def unexpected(role: str, error: Exception) -> Invalid:
    """The error for an exception that nobody thought of; without its text, which may hold a secret."""
    advice = "this is a defect of imds-proxy: please report this line"
    return Invalid(f'role "{role}": unexpected {told(error)}', advice)
