"""The JSON patch (RFC 6902) that injects variables and token into a pod. Pure, and empty for what has them already.

A container that sets one of the variables by which it would find the daemon has arrangements of its own and is left
alone entirely: half of each would be neither.
"""

from dataclasses import dataclass, field
from typing import Any, Final

from imds_proxy.webhook.annotations import Injection, RefusedError
from imds_proxy.webhook.pod import Container, Pod

VOLUME: Final = "eks-pod-identity-token"
FOLDER: Final = "/var/run/secrets/pods.eks.amazonaws.com/serviceaccount"
TOKEN: Final = "eks-pod-identity-token"  # noqa: S105 - the name of its file
URI_VARIABLE: Final = "AWS_CONTAINER_CREDENTIALS_FULL_URI"
TOKEN_VARIABLE: Final = "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE"  # noqa: S105 - a variable's name
NO_METADATA: Final = "AWS_EC2_METADATA_DISABLED"
REGIONS: Final = ("AWS_REGION", "AWS_DEFAULT_REGION")
OWN: Final = frozenset(
    {
        URI_VARIABLE,
        TOKEN_VARIABLE,
        "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
        "AWS_CONTAINER_AUTHORIZATION_TOKEN",
    }
)
"""A container with one of these is left alone."""
_PREFERRED: Final = ("AWS_ACCESS_KEY_ID", "AWS_WEB_IDENTITY_TOKEN_FILE")
"""Variables that SDKs follow before they ask a container's credential service."""


@dataclass(slots=True)
class Patch:
    """What is changed.

    Args:
        operations: Of the JSON patch; empty: nothing.
        containers: Names of those that get the variables.
        warnings: For whoever makes the pod.
    """

    operations: list[dict[str, Any]] = field(default_factory=list)
    containers: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


def patch_of(pod: Pod, wanted: Injection) -> Patch:
    """What makes a pod one that has what is wanted.

    Raises:
        RefusedError: Name or path of the volume are taken by another one.
    """
    patch = Patch()
    for container in pod.containers:
        if container.name in wanted.skipped or OWN & (container.variables or frozenset()):
            continue
        patch.operations += _of_container(container, wanted)
        patch.containers.append(container.name)
        patch.warnings += _preferred(container)
    if patch.containers:
        patch.operations += _of_volumes(pod, wanted)
    return patch


def variables(container: Container, wanted: Injection) -> dict[str, str]:
    """Name and value of each variable that a container gets."""
    known = container.variables or frozenset()
    found = {URI_VARIABLE: wanted.uri, TOKEN_VARIABLE: f"{FOLDER}/{TOKEN}"}
    if NO_METADATA not in known:
        found[NO_METADATA] = "true"
    if wanted.region and not known.intersection(REGIONS):
        found |= dict.fromkeys(REGIONS, wanted.region)
    return found


def _of_container(container: Container, wanted: Injection) -> list[dict[str, Any]]:
    path = f"/spec/{container.list_name}/{container.index}"
    env = [{"name": name, "value": value} for name, value in variables(container, wanted).items()]
    operations = _added(f"{path}/env", env, exists=container.variables is not None)
    at_folder = {name for name, where in container.mounts or () if where.rstrip("/") == FOLDER}
    if at_folder - {VOLUME}:
        raise RefusedError(f"container {container.name} mounts another volume at {FOLDER}: mount that elsewhere")
    if not at_folder:
        mount = {"name": VOLUME, "mountPath": FOLDER, "readOnly": True}
        operations += _added(f"{path}/volumeMounts", [mount], exists=container.mounts is not None)
    return operations


def _of_volumes(pod: Pod, wanted: Injection) -> list[dict[str, Any]]:
    if pod.volumes is not None and VOLUME in pod.volumes:
        if not _is_token(pod.volumes[VOLUME], wanted.audience):
            raise RefusedError(
                f"volume {VOLUME} is there already and has no token for {wanted.audience} as {TOKEN}: rename it"
            )
        return []
    token = {"audience": wanted.audience, "expirationSeconds": wanted.expiration, "path": TOKEN}
    volume = {"name": VOLUME, "projected": {"sources": [{"serviceAccountToken": token}]}}
    return _added("/spec/volumes", [volume], exists=pod.volumes is not None)


def _is_token(volume: Any, audience: str) -> bool:
    """Whether a volume holds a token for an audience where containers are told to look for it."""
    projected = volume.get("projected")
    sources = projected.get("sources") if isinstance(projected, dict) else None
    tokens = [
        each.get("serviceAccountToken")
        for each in (sources if isinstance(sources, list) else ())
        if isinstance(each, dict)
    ]
    return any(
        isinstance(token, dict) and (token.get("path"), token.get("audience")) == (TOKEN, audience) for token in tokens
    )


def _added(path: str, values: list[dict[str, Any]], *, exists: bool) -> list[dict[str, Any]]:
    """Operations that add to the end of a list, or make it."""
    if not exists:
        return [{"op": "add", "path": path, "value": values}]
    return [{"op": "add", "path": f"{path}/-", "value": value} for value in values]


def _preferred(container: Container) -> list[str]:
    return [
        f"container {container.name} sets {name}: SDKs follow that, not the credentials of its service account"
        for name in _PREFERRED
        if name in (container.variables or ())
    ]
