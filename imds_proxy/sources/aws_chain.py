"""The daemon's own AWS credential chain: environment, profile, shared files, web identity, process.

Never the instance metadata or container providers: those would find this very daemon (PROTOCOL.md 29).
"""

from typing import Any

import aiobotocore.session
from botocore.exceptions import BotoCoreError
from botocore.loaders import Loader

_METADATA_PROVIDERS = ("iam-role", "container-role")


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
    """Makes AWS sessions for this process; all share one loader, which is where a session's memory goes."""

    def __init__(self) -> None:
        self._loader = LeanLoader(extra_search_paths=None)

    def session(self, profile: str | None = None) -> Any:
        """A new aiobotocore session.

        Made for each renewal (some 10 ms), because a session reads the environment's files once: a key that was
        rotated on disk is picked up by the next renewal and not by a restart.
        """
        session = aiobotocore.session.AioSession(profile=profile)
        session.register_component("data_loader", self._loader)
        resolver = session.get_component("credential_provider")
        for name in _METADATA_PROVIDERS:
            resolver.remove(name)
        # A profile may name them too, by `credential_source`.
        sourcer = resolver.providers[_index(resolver, "assume-role")]._credential_sourcer  # noqa: SLF001
        sourcer._providers = [p for p in sourcer._providers if p.METHOD not in _METADATA_PROVIDERS]  # noqa: SLF001
        return session

    def region(self) -> str | None:
        """The region that the AWS environment or profile names, if any."""
        try:
            region: str | None = self.session().get_config_variable("region")
        except BotoCoreError:  # a profile that is not there or does not parse: the first renewal says which
            return None
        return region


def _index(resolver: Any, method: str) -> int:
    return next(index for index, provider in enumerate(resolver.providers) if method == provider.METHOD)
