"""An on-premises instance at CodeDeploy: registered for a session, tagged, looked at, deregistered.

In: a name, a session's ARN, tags. Out: what CodeDeploy has about the name. Errors: as `api.py`; NameTakenError.
"Register an on-premises instance with CodeDeploy" and "Managing on-premises instances operations in CodeDeploy" of the
CodeDeploy user guide.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Protocol, Self

from imds_proxy.codedeploy.api import RefusedError
from imds_proxy.credentials import timestamp
from imds_proxy.errors import ImdsProxyError
from imds_proxy.host.redaction import hidden
from imds_proxy.printable import LONGEST_NAME, printable

TAKEN_FOR: Final = 24 * 60 * 60.0
"""Seconds that a name stays taken after its instance was deregistered."""
_TAKEN_RULE: Final = "a name stays taken for 24 hours after its instance was deregistered"

_NAME_TAKEN: Final = "InstanceNameAlreadyRegisteredException"
_ARN_TAKEN: Final = "IamSessionArnAlreadyRegisteredException"
_UNKNOWN: Final = "InstanceNotRegisteredException"


class NameTakenError(ImdsProxyError):
    """The name, or the session, belongs to another instance."""


class Api(Protocol):
    """Where the calls go."""

    def call(self, operation: str, **parameters: Any) -> dict[str, Any]:
        """One call, by AWS's name of it; raises RefusedError for what CodeDeploy refuses."""


@dataclass(frozen=True, slots=True)
class Instance:
    """What CodeDeploy has about a name. Times are seconds since the epoch."""

    name: str
    arn: str
    """Of the session, or of the IAM user, that it was registered for."""
    registered: float | None = None
    deregistered: float | None = None
    tags: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, info: Mapping[str, Any]) -> Self:
        """From an `InstanceInfo`."""
        times = [info.get(key) for key in ("registerTime", "deregisterTime")]
        registered, deregistered = (time.timestamp() if time else None for time in times)
        arn = info.get("iamSessionArn") or info.get("iamUserArn") or "an ARN that CodeDeploy does not name"
        tags = {_name(tag["Key"]): _name(tag.get("Value", "")) for tag in info.get("tags", ())}
        return cls(_name(info["instanceName"]), hidden(arn), registered, deregistered, tags)


class Registry:
    """The instances of one account in one region."""

    def __init__(self, api: Api) -> None:
        self._api = api

    def register(self, name: str, session_arn: str) -> bool:
        """Register the name for the session; False where it was so already.

        Raises:
            NameTakenError: The name is another session's, or was until a day ago; or the session has another name.
        """
        try:
            self._api.call("RegisterOnPremisesInstance", instanceName=name, iamSessionArn=session_arn)
        except RefusedError as error:
            if error.code not in {_NAME_TAKEN, _ARN_TAKEN}:
                raise
            self._make_sure(name, session_arn)
            return False
        return True

    def tag(self, name: str, tags: Mapping[str, str]) -> None:
        """Add tags, or change the values of those that are there."""
        self._api.call("AddTagsToOnPremisesInstances", instanceNames=[name], tags=_as_list(tags))

    def untag(self, name: str, tags: Mapping[str, str]) -> None:
        """Remove tags."""
        self._api.call("RemoveTagsFromOnPremisesInstances", instanceNames=[name], tags=_as_list(tags))

    def show(self, name: str) -> Instance:
        """What CodeDeploy has about the name; raises RefusedError where it has nothing."""
        return Instance.of(self._api.call("GetOnPremisesInstance", instanceName=name)["instanceInfo"])

    def deregister(self, name: str) -> None:
        """No more deployments for it. CodeDeploy says nothing where the name was not registered."""
        self._api.call("DeregisterOnPremisesInstance", instanceName=name)

    def _make_sure(self, name: str, session_arn: str) -> None:
        """CodeDeploy has the name or the session already: is it this name for this session?"""
        there = self._find(name)
        if there is None:
            raise NameTakenError(
                f"{session_arn} is registered under another name than {name}",
                "one session is one instance: aws deploy list-on-premises-instances shows the names; deregister"
                " that one, or give this host's role another session_name",
            )
        if there.deregistered is not None:
            until = timestamp(there.deregistered + TAKEN_FOR)
            raise NameTakenError(
                f"{name} was registered for {there.arn} and deregistered at {timestamp(there.deregistered)}",
                f"{_TAKEN_RULE}: use another name, or this one after {until}",
            )
        if there.arn != session_arn:
            raise NameTakenError(
                f"{name} is registered for {there.arn}, not for {session_arn}",
                f"use another name; or imds-proxy codedeploy deregister --instance-name {name}, but {_TAKEN_RULE}",
            )

    def _find(self, name: str) -> Instance | None:
        try:
            return self.show(name)
        except RefusedError as error:
            if error.code != _UNKNOWN:
                raise
            return None


def _name(said: str) -> str:
    return printable(said, LONGEST_NAME)


def _as_list(tags: Mapping[str, str]) -> list[dict[str, str]]:
    return [{"Key": key, "Value": value} for key, value in tags.items()]
