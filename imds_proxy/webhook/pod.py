"""What of a pod decides what is injected, read strictly. Pure.

In: the pod of an AdmissionReview, as JSON. Out: `Pod`. Errors: MalformedError, for what no API server sends.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from imds_proxy.errors import ImdsProxyError

DEFAULT_ACCOUNT: Final = "default"
"""The service account of a pod that names none."""
_MIRROR: Final = "kubernetes.io/config.mirror"
_OS_LABELS: Final = ("kubernetes.io/os", "beta.kubernetes.io/os")
_WINDOWS: Final = "windows"
_LISTS: Final = ("initContainers", "containers")


class MalformedError(ImdsProxyError):
    """What was sent is no pod, or no review; says which part."""


@dataclass(frozen=True, slots=True)
class Container:
    """A container or init container.

    Args:
        list_name: "containers" or "initContainers".
        index: Its place there.
        name: Its name.
        variables: Names of its environment variables; None where it has no list of them.
        mounts: Name of the volume and path in the container; None where it has no list of them.
    """

    list_name: str
    index: int
    name: str
    variables: frozenset[str] | None
    mounts: tuple[tuple[str, str], ...] | None


@dataclass(frozen=True, slots=True)
class Pod:
    """A pod as it is asked for.

    Args:
        name: Its name, or what its name begins with.
        account: Name of its service account.
        annotations: Its own.
        left_alone: Why nothing is injected whatever its account asks for; empty: nothing is in the way.
        containers: Init containers and containers.
        volumes: By name; None where it has no list of them.
    """

    name: str
    account: str
    annotations: Mapping[str, str]
    left_alone: str
    containers: tuple[Container, ...]
    volumes: Mapping[str, Mapping[str, Any]] | None


def read_pod(value: object) -> Pod:
    """The pod in JSON that has been parsed; raises MalformedError."""
    document = _mapping(value, "object")
    metadata, spec = _mapping(document.get("metadata"), "metadata"), _mapping(document.get("spec"), "spec")
    annotations = _texts(metadata.get("annotations"), "metadata.annotations")
    return Pod(
        name=_text(metadata, "name") or _text(metadata, "generateName"),
        account=_text(spec, "serviceAccountName") or DEFAULT_ACCOUNT,
        annotations=annotations,
        left_alone=_left_alone(annotations, spec),
        containers=tuple(
            _container(each, name, index)
            for name in _LISTS
            for index, each in enumerate(_list(spec.get(name), f"spec.{name}") or ())
        ),
        volumes=_volumes(spec),
    )


def _left_alone(annotations: Mapping[str, str], spec: Mapping[str, Any]) -> str:
    if _MIRROR in annotations:
        return "it is the mirror of a static pod, which can have no service account token"
    system = _text(_mapping(spec.get("os"), "spec.os"), "name")
    selector = _texts(spec.get("nodeSelector"), "spec.nodeSelector")
    if _WINDOWS in {system, *(selector.get(label) for label in _OS_LABELS)}:
        return "it is for Windows, where the daemon does not run"
    return ""


def _container(value: object, list_name: str, index: int) -> Container:
    where = f"spec.{list_name}[{index}]"
    document = _mapping(value, where)
    variables, mounts = (_list(document.get(key), f"{where}.{key}") for key in ("env", "volumeMounts"))
    return Container(
        list_name,
        index,
        _text(document, "name"),
        None if variables is None else frozenset(_text(_mapping(each, f"{where}.env"), "name") for each in variables),
        None
        if mounts is None
        else tuple((_text(each, "name"), _text(each, "mountPath")) for each in map(_as_mapping, mounts)),
    )


def _volumes(spec: Mapping[str, Any]) -> Mapping[str, Mapping[str, Any]] | None:
    volumes = _list(spec.get("volumes"), "spec.volumes")
    return None if volumes is None else {_text(each, "name"): each for each in map(_as_mapping, volumes)}


def _as_mapping(value: object) -> Mapping[str, Any]:
    return _mapping(value, "an entry")


def _mapping(value: object, what: str) -> Mapping[str, Any]:
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise MalformedError(f"{what} is no object")
    return value


def _list(value: object, what: str) -> list[Any] | None:
    if value is not None and not isinstance(value, list):
        raise MalformedError(f"{what} is no list")
    return value


def _text(document: Mapping[str, Any], key: str) -> str:
    value = document.get(key)
    if value is not None and not isinstance(value, str):
        raise MalformedError(f"{key} is no string")
    return value or ""


def _texts(value: object, what: str) -> Mapping[str, str]:
    found = _mapping(value, what)
    if not all(isinstance(each, str) for each in found.values()):
        raise MalformedError(f"{what} holds what is no string")
    return found
