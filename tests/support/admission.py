"""Reviews as an API server sends them, and JSON patches applied to their pods as it applies them."""

import base64
import copy
import json

ROLE_ARN = "arn:aws:iam::123456789012:role/Api"
ASKS = {"eks.amazonaws.com/role-arn": ROLE_ARN}
TOKEN_FILE = "/var/run/secrets/pods.eks.amazonaws.com/serviceaccount/eks-pod-identity-token"
INJECTED = {
    "AWS_CONTAINER_CREDENTIALS_FULL_URI": f"http://169.254.170.23/v1/credentials/{ROLE_ARN}",
    "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE": TOKEN_FILE,
    "AWS_EC2_METADATA_DISABLED": "true",
}


def pod_of(*containers, account="api", annotations=None, name="api-7d9f", **spec):
    """A pod; a container is its name, or a dictionary."""
    made = [each if isinstance(each, dict) else {"name": each, "image": "none"} for each in containers or ("main",)]
    metadata = {"name": name} | ({"annotations": annotations} if annotations else {})
    account = {"serviceAccountName": account} if account else {}
    return {"metadata": metadata, "spec": {"containers": made, **account, **spec}}


def review_of(pod, *, uid="705ab4f5-6393-11e8-b7cc-42010a800002", namespace="shop", **request):
    """The body of a request; `request` goes besides or in place."""
    always = {
        "uid": uid,
        "kind": {"group": "", "version": "v1", "kind": "Pod"},
        "resource": {"group": "", "version": "v1", "resource": "pods"},
        "operation": "CREATE",
        "namespace": namespace,
        "object": pod,
        "dryRun": False,
    }
    return {"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": always | request}


def patch_in(response):
    """The operations in an answer; none where it has no patch."""
    if "patch" not in response:
        return []
    assert response["patchType"] == "JSONPatch"
    return json.loads(base64.b64decode(response["patch"]))


def patched(pod, operations):
    """A pod after `add` operations, by RFC 6902: a list's place has to be there, "-" is its end."""
    pod = copy.deepcopy(pod)
    for each in operations:
        assert each["op"] == "add"
        *path, last = each["path"].removeprefix("/").split("/")
        target = pod
        for step in path:
            target = target[int(step) if isinstance(target, list) else step]
        if isinstance(target, list):
            assert last == "-"
            target.append(copy.deepcopy(each["value"]))
        else:
            target[last] = copy.deepcopy(each["value"])
    return pod


def variables(container):
    """Name and value of each variable, in a container that has each once."""
    found = {each["name"]: each.get("value") for each in container.get("env", [])}
    assert len(found) == len(container.get("env", []))
    return found


def token_volume(pod):
    """What is projected into the volume of the token; None where there is no such volume."""
    found = [each for each in pod["spec"].get("volumes", []) if each["name"] == "eks-pod-identity-token"]
    assert len(found) < 2
    return found[0]["projected"]["sources"][0]["serviceAccountToken"] if found else None
