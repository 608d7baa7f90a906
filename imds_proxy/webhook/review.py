"""AdmissionReview, version admission.k8s.io/v1: read strictly, answered briefly. Pure.

In: the body of a request. Out: `Review`, and the body of the answer. Errors: MalformedError, for what no API server
sends; there is no answer to that, because there is no uid that it could echo.
"""

import base64
import json
import re
from dataclasses import dataclass, field
from typing import Any, Final

from imds_proxy.webhook.pod import MalformedError, Pod, read_pod

VERSION: Final = "admission.k8s.io/v1"
KIND: Final = "AdmissionReview"
_POD: Final = ("", "v1", "Pod")
_PLAIN_NAME: Final = re.compile(r"[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?")
_LONGEST_UID: Final = 128  # characters
_LONGEST_WARNING: Final = 256  # characters; kube-apiserver cuts longer ones, and drops what goes beyond its total


@dataclass(frozen=True, slots=True)
class Review:
    """A question of the API server's.

    Args:
        uid: Of the question; the answer has the same.
        namespace: Of the pod.
        pod: What is to be made; None: this is no creation of a pod, and is none of our business.
    """

    uid: str
    namespace: str
    pod: Pod | None


@dataclass(frozen=True, slots=True)
class Verdict:
    """The answer.

    Args:
        allowed: Whether the pod may be made.
        operations: Of a JSON patch; empty: none.
        warnings: What kubectl shows to whoever makes the pod.
        code: HTTP status of a refusal.
        message: Why it is refused.
        audit: For the audit log of the API server.
    """

    allowed: bool = True
    operations: list[dict[str, Any]] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    code: int = 0
    message: str = ""
    audit: dict[str, str] = field(default_factory=dict)


def read_review(body: bytes | bytearray) -> Review:
    """The question in a request's body; raises MalformedError."""
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        raise MalformedError("the body is not JSON") from None
    if not isinstance(document, dict) or (document.get("apiVersion"), document.get("kind")) != (VERSION, KIND):
        raise MalformedError(f"the body is no {KIND} of {VERSION}: set admissionReviewVersions to [v1]")
    request = document.get("request")
    if not isinstance(request, dict):
        raise MalformedError("there is no request in the review")
    uid = request.get("uid")
    if not isinstance(uid, str) or not 0 < len(uid) <= _LONGEST_UID:
        raise MalformedError("the request has no uid")
    if not _creates_a_pod(request):
        return Review(uid, "", None)
    namespace, pod = request.get("namespace"), read_pod(request.get("object"))
    for name in (namespace, pod.account):  # they become part of a URL
        if not isinstance(name, str) or not _PLAIN_NAME.fullmatch(name):
            raise MalformedError("the namespace or the service account is none that a cluster can have")
    return Review(uid, str(namespace), pod)


def answer(uid: str, verdict: Verdict) -> bytes:
    """The body of an answer."""
    response: dict[str, Any] = {"uid": uid, "allowed": verdict.allowed}
    if not verdict.allowed:
        response["status"] = {"code": verdict.code, "message": verdict.message}
    elif verdict.operations:
        patch = json.dumps(verdict.operations).encode()
        response |= {"patchType": "JSONPatch", "patch": base64.b64encode(patch).decode()}
    if verdict.warnings:
        response["warnings"] = [text[:_LONGEST_WARNING] for text in verdict.warnings]
    if verdict.audit:
        response["auditAnnotations"] = verdict.audit
    return json.dumps({"apiVersion": VERSION, "kind": KIND, "response": response}).encode()


def _creates_a_pod(request: dict[str, Any]) -> bool:
    kind = request.get("kind")
    if not isinstance(kind, dict) or (kind.get("group", ""), kind.get("version"), kind.get("kind")) != _POD:
        return False
    return request.get("operation") == "CREATE" and not request.get("subResource")
