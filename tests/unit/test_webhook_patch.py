"""What the webhook injects into which pods; no server, no cluster."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imds_proxy.webhook.annotations import Defaults, RefusedError, asks, injection
from imds_proxy.webhook.patch import FOLDER, OWN, VOLUME, patch_of
from imds_proxy.webhook.pod import MalformedError, read_pod
from imds_proxy.webhook.review import Verdict, answer, read_review
from support.admission import ASKS, INJECTED, ROLE_ARN, patched, pod_of, review_of, token_volume, variables

REGION = Defaults(region="eu-west-1")


def injected(pod, account=None, defaults=REGION):
    """The pod as it is made, and the warnings."""
    read = read_pod(pod)
    patch = patch_of(read, injection(ASKS | (account or {}), read.annotations, defaults))
    return patched(pod, patch.operations), patch.warnings


def test_every_container_gets_variables_and_token():
    """An init container that fetches from S3 would fail, or the sidecar of the application."""
    pod, warnings = injected(pod_of("main", "sidecar", initContainers=[{"name": "fetch"}]))
    spec = pod["spec"]
    for container in (*spec["containers"], *spec["initContainers"]):
        assert variables(container) == INJECTED | {"AWS_REGION": "eu-west-1", "AWS_DEFAULT_REGION": "eu-west-1"}
        assert container["volumeMounts"] == [{"name": VOLUME, "mountPath": FOLDER, "readOnly": True}]
    expected = {"audience": "pods.eks.amazonaws.com", "expirationSeconds": 86400, "path": "eks-pod-identity-token"}
    assert (token_volume(pod), warnings) == (expected, [])


def test_what_a_pod_has_already_stays():
    pod = pod_of(
        {"name": "main", "env": [{"name": "A", "value": "1"}], "volumeMounts": [{"name": "data", "mountPath": "/d"}]},
        volumes=[{"name": "data", "emptyDir": {}}],
    )
    made, _ = injected(pod)
    container = made["spec"]["containers"][0]
    assert container["env"][0] == {"name": "A", "value": "1"}
    assert [each["name"] for each in container["volumeMounts"]] == ["data", VOLUME]
    assert [each["name"] for each in made["spec"]["volumes"]] == ["data", VOLUME]


@pytest.mark.parametrize("name", sorted(OWN))
def test_a_container_with_arrangements_of_its_own_is_left_alone(name):
    """It would get a URI from us and a token from elsewhere."""
    own = {"name": "main", "env": [{"name": name, "value": "mine"}]}
    pod, _ = injected(pod_of(own, "other"))
    assert pod["spec"]["containers"][0] == own
    assert variables(pod["spec"]["containers"][1]).items() >= INJECTED.items()


def test_nothing_is_added_to_a_pod_all_of_whose_containers_are_left_alone():
    pod = pod_of("main", annotations={"eks.amazonaws.com/skip-containers": "main"})
    assert injected(pod)[0] == pod


def test_containers_that_the_pod_names_are_skipped():
    pod, _ = injected(pod_of("a", "b", "c", annotations={"eks.amazonaws.com/skip-containers": "a, c"}))
    assert ["env" in each for each in pod["spec"]["containers"]] == [False, True, False]


@pytest.mark.parametrize("name", ["AWS_REGION", "AWS_DEFAULT_REGION"])
def test_a_region_of_the_containers_own_stays_the_only_one(name):
    """One SDK would ask in one region, another in the other."""
    pod, _ = injected(pod_of({"name": "main", "env": [{"name": name, "value": "us-east-1"}]}))
    assert variables(pod["spec"]["containers"][0]) == INJECTED | {name: "us-east-1"}


def test_instance_metadata_that_a_container_has_switched_on_stays_on():
    pod, _ = injected(pod_of({"name": "main", "env": [{"name": "AWS_EC2_METADATA_DISABLED", "value": "false"}]}))
    assert variables(pod["spec"]["containers"][0])["AWS_EC2_METADATA_DISABLED"] == "false"


@pytest.mark.parametrize("name", ["AWS_ACCESS_KEY_ID", "AWS_WEB_IDENTITY_TOKEN_FILE"])
def test_whoever_makes_the_pod_is_told_of_what_sdks_follow_first(name):
    """They would look for the fault in the daemon."""
    _, [warning] = injected(pod_of({"name": "main", "env": [{"name": name, "value": "x"}]}))
    assert name in warning


def test_annotations_decide_on_the_token():
    account = {"eks.amazonaws.com/audience": "sts.amazonaws.com", "eks.amazonaws.com/token-expiration": "7200"}
    made, _ = injected(pod_of(), account)
    assert token_volume(made) | {"path": None} == {
        "audience": "sts.amazonaws.com",
        "expirationSeconds": 7200,
        "path": None,
    }


def test_the_expiration_of_the_pod_wins():
    made, _ = injected(
        pod_of(annotations={"eks.amazonaws.com/token-expiration": "600"}), {"eks.amazonaws.com/token-expiration": "x"}
    )
    assert token_volume(made)["expirationSeconds"] == 600


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("audience", ""),
        ("audience", "two words"),
        ("audience", "ü"),
        ("audience", "a" * 254),
        ("token-expiration", "599"),
        ("token-expiration", "86401"),
        ("token-expiration", "1h"),
        ("token-expiration", ""),
        ("token-expiration", "-600"),
        ("token-expiration", " 600"),
        ("token-expiration", "٦٠٠"),
        ("token-expiration", "9" * 5000),
        ("role-arn", "arn:aws:iam::1:role/../../latest/meta-data"),
        ("role-arn", "a//b"),
        ("role-arn", "a/"),
        ("role-arn", "a?b"),
        ("role-arn", "a#b"),
        ("role-arn", "a%2fb"),
        ("role-arn", "a b"),
        ("role-arn", "$(HOME)"),
        ("role-arn", "a\n"),
        ("role-arn", "r" * 2049),
    ],
)
def test_an_annotation_that_cannot_be_used_is_named(name, value):
    """The pod would start, and each SDK in it fail with words about something else."""
    with pytest.raises(RefusedError, match=f"eks.amazonaws.com/{name} is ") as refused:
        injected(pod_of(), {f"eks.amazonaws.com/{name}": value})
    assert str(refused.value).isascii()
    assert str(refused.value).isprintable()
    assert len(str(refused.value)) < 200


@pytest.mark.parametrize(
    "role", [ROLE_ARN, "deploy", "arn:aws-us-gov:iam::123456789012:role/path/to/Role+=,.@-_1", "a" * 2048]
)
def test_a_role_is_asked_for_as_it_is_written(role):
    made, _ = injected(pod_of(), {"eks.amazonaws.com/role-arn": role})
    uri = variables(made["spec"]["containers"][0])["AWS_CONTAINER_CREDENTIALS_FULL_URI"]
    assert uri == f"http://169.254.170.23/v1/credentials/{role}"


@pytest.mark.parametrize("annotations", [{}, {"eks.amazonaws.com/role-arn": ""}, {"eks.amazonaws.com/audience": "x"}])
def test_an_account_that_names_no_role_does_not_ask(annotations):
    assert not asks(annotations)


def test_another_volume_of_the_name_is_not_taken_for_the_token():
    taken = [{"name": VOLUME, "secret": {"secretName": "theirs"}}]
    with pytest.raises(RefusedError, match="rename it"):
        injected(pod_of(volumes=taken))


def test_a_token_for_another_audience_is_not_taken_for_ours():
    token = {"audience": "vault", "path": "eks-pod-identity-token"}
    taken = [{"name": VOLUME, "projected": {"sources": [{"serviceAccountToken": token}]}}]
    with pytest.raises(RefusedError, match=r"no token for pods\.eks\.amazonaws\.com"):
        injected(pod_of(volumes=taken))


@pytest.mark.parametrize("path", [FOLDER, f"{FOLDER}/"])
def test_another_volume_at_the_path_is_not_covered(path):
    mounts = [{"name": "theirs", "mountPath": path}]
    with pytest.raises(RefusedError, match="mount that elsewhere"):
        injected(pod_of({"name": "main", "volumeMounts": mounts}))


def test_a_mount_that_is_there_is_not_made_twice():
    """The API server refuses two mounts at one path."""
    mounts = [{"name": VOLUME, "mountPath": f"{FOLDER}/"}]
    made, _ = injected(pod_of({"name": "main", "volumeMounts": mounts}))
    assert made["spec"]["containers"][0]["volumeMounts"] == mounts


def test_a_container_that_comes_later_gets_what_the_others_have():
    """As a service mesh adds it: the API server asks again then."""
    made, _ = injected(pod_of())
    made["spec"]["containers"].append({"name": "proxy"})
    again, _ = injected(made)
    first, second = again["spec"]["containers"]
    assert variables(first) == variables(second)
    assert len(again["spec"]["volumes"]) == 1


@pytest.mark.parametrize(
    ("pod", "reason"),
    [
        (pod_of(os={"name": "windows"}), "Windows"),
        (pod_of(nodeSelector={"kubernetes.io/os": "windows"}), "Windows"),
        (pod_of(nodeSelector={"beta.kubernetes.io/os": "windows"}), "Windows"),
        (pod_of(annotations={"kubernetes.io/config.mirror": "x"}), "static pod"),
    ],
)
def test_a_pod_that_could_not_use_it_is_left_alone(pod, reason):
    assert reason in read_pod(pod).left_alone


@pytest.mark.parametrize(
    "spec", [{"hostNetwork": True}, {"automountServiceAccountToken": False}, {"os": {"name": "linux"}}]
)
def test_a_pod_that_could_use_it_is_not_left_alone(spec):
    assert not read_pod(pod_of(**spec)).left_alone


def test_a_pod_that_names_no_account_has_the_default_one():
    assert read_pod(pod_of(account="")).account == "default"


@pytest.mark.parametrize(
    "change",
    [
        {"operation": "UPDATE"},
        {"operation": "DELETE", "object": None},
        {"subResource": "ephemeralcontainers"},
        {"kind": {"group": "apps", "version": "v1", "kind": "Deployment"}},
        {"kind": None},
    ],
)
def test_what_is_no_creation_of_a_pod_is_let_through(change):
    """A rule too many in the webhook's configuration would stop a cluster."""
    review = read_review(json.dumps(review_of(pod_of(), **change)).encode())
    assert review.pod is None
    assert json.loads(answer(review.uid, Verdict()))["response"] == {"uid": review.uid, "allowed": True}


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"null",
        b"[]",
        b"{",
        b"\xff",
        b"[" * 100_000,
        b'{"apiVersion":"admission.k8s.io/v1beta1","kind":"AdmissionReview","request":{"uid":"1"}}',
        b'{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview"}',
        b'{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview","request":{}}',
        json.dumps(review_of(pod_of(), uid="u" * 129)).encode(),
        json.dumps(review_of(pod_of(), namespace="../secrets")).encode(),
        json.dumps(review_of(pod_of(), namespace=None)).encode(),
        json.dumps(review_of(pod_of(account="a/../../secrets/x"))).encode(),
        json.dumps(review_of({"metadata": [], "spec": {}})).encode(),
        json.dumps(review_of({"spec": {"containers": {"name": "x"}}})).encode(),
        json.dumps(review_of({"spec": {"containers": [{"name": 1}]}})).encode(),
        json.dumps(review_of({"spec": {"nodeSelector": {"a": 1}}})).encode(),
    ],
)
def test_what_no_api_server_sends_is_refused(body):
    """Part of it becomes the path of a request with the webhook's token."""
    with pytest.raises(MalformedError):
        read_review(body)


NAMES = st.sampled_from(["main", "sidecar", "AWS_REGION", "AWS_EC2_METADATA_DISABLED", VOLUME, *sorted(OWN), "x"])
ENV = st.lists(st.fixed_dictionaries({"name": NAMES, "value": st.text(max_size=3)}), unique_by=lambda e: e["name"])
MOUNTS = st.lists(
    st.fixed_dictionaries({"name": NAMES, "mountPath": st.sampled_from([FOLDER, f"{FOLDER}/", "/data"])}),
    unique_by=lambda each: each["mountPath"].rstrip("/"),
)
CONTAINERS = st.lists(
    st.fixed_dictionaries({"name": NAMES}, optional={"env": ENV, "volumeMounts": MOUNTS, "image": st.just("none")}),
    max_size=4,
)
TOKENS = st.fixed_dictionaries(
    {"audience": st.sampled_from(["vault", "pods.eks.amazonaws.com"]), "path": st.just("eks-pod-identity-token")}
)
VOLUMES = st.lists(
    st.one_of(
        st.fixed_dictionaries({"name": NAMES, "emptyDir": st.just({})}),
        st.fixed_dictionaries(
            {"name": NAMES, "projected": st.builds(lambda t: {"sources": [{"serviceAccountToken": t}]}, TOKENS)}
        ),
    ),
    unique_by=lambda each: each["name"],
)
SPECS = st.fixed_dictionaries({"containers": CONTAINERS}, optional={"initContainers": CONTAINERS, "volumes": VOLUMES})
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["name", "env", "x"]), inner),
)


@given(SPECS)
def test_any_pod_is_injected_once_and_stays_valid(spec):
    """The API server asks again when another webhook has changed a pod; a pod with a name twice is refused."""
    pod = {"metadata": {}, "spec": spec}
    try:
        made, _ = injected(pod)
    except RefusedError:
        return
    for before, after in zip(spec["containers"], made["spec"]["containers"], strict=True):
        if not OWN & set(variables(before)):
            assert variables(after).items() >= {**INJECTED, **variables(before)}.items()
            paths = [each["mountPath"].rstrip("/") for each in after["volumeMounts"]]
            assert (len(paths), paths.count(FOLDER)) == (len(set(paths)), 1)
        else:
            assert before == after
    names = [each["name"] for each in made["spec"].get("volumes", [])]
    assert len(names) == len(set(names))
    assert injected(made)[0] == made


@given(JSON, st.sampled_from(["metadata", "spec", "containers", "initContainers", "volumes", "os", "annotations"]))
def test_whatever_is_sent_is_read_or_refused(value, where):
    """It would be an unexpected error, and a pod of somebody else waits."""
    document = {"metadata": {where: value}, "spec": {where: value}}
    try:
        read = read_pod({where: value} if where in {"metadata", "spec"} else document)
        patch_of(read, injection(ASKS, read.annotations, REGION))
    except (MalformedError, RefusedError):
        pass
