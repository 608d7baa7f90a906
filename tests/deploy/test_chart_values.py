"""The values of the chart: each has a description, a default and an effect, and what is none is refused in words."""

import copy
import json

import pytest
import yaml

from support.chart import CASES, CHART, at, leaves, schema, template

DEFAULTS = yaml.safe_load((CHART / "values.yaml").read_text())
LEAVES = {".".join(path): (path, each) for path, each in leaves(schema())}
NEEDS = {
    "mode": ("sidecar.application.image", "registry.example.com/app:1.0"),
    "metrics.enabled": ("metrics.allowedAddresses", ["10.1.2.0/24"]),
    "daemonset.dnsPolicy": ("serviceAccounts.jwksUrl", "https://10.0.0.10:6443/openid/v1/jwks"),
    "webhook.enabled": ("webhook.tls.mode", "certManager"),
    "metrics.clientCa.secretName": ("metrics.clientCa.configMapName", ""),
}
"""Values that are an error by themselves, and with which other one they are none."""


def with_value(values, path, value):
    """A copy of values, in which the one at a path is another."""
    changed = copy.deepcopy(values)
    place = changed
    for name in path[:-1]:
        place = place.setdefault(name, {})
    place[path[-1]] = value
    return changed


@pytest.fixture(scope="module")
def rendered():
    """Each case's values, and what is rendered of them."""
    cases = {name: yaml.safe_load(path.read_text()) for name, path in CASES.items()}
    return {name: (values, template(values=values)) for name, values in cases.items()}


def test_the_schema_has_every_default_and_no_other():
    """A value without a schema would be refused by it; one without a default is not found by who reads values.yaml."""

    def paths(values, path=()):
        for name, each in values.items():
            inner = ".".join((*path, name))
            if inner in LEAVES:
                yield inner
            else:
                yield from paths(each, (*path, name))

    assert sorted(paths(DEFAULTS)) == sorted(LEAVES)


def tables(node):
    for each in node["properties"].values():
        if "properties" in each:
            yield each
            yield from tables(each)


def test_every_value_is_strict():
    """null takes a default away: where one is missing the templates would fail, in Go's words."""
    for each in (schema(), *tables(schema())):
        assert each["additionalProperties"] is False
        assert each["required"] == [name for name in each["properties"] if name != "global"]


@pytest.mark.parametrize("name", LEAVES)
def test_every_value_is_documented(name):
    description = LEAVES[name][1]["description"]
    assert len(description.split()) >= 2
    assert "\n" not in description


@pytest.mark.parametrize("name", LEAVES)
def test_every_value_is_rendered(name, rendered):
    """One that changes nothing is a promise that the chart does not keep."""
    path, each = LEAVES[name]
    (example,) = each["examples"]
    problems = []
    for case, (values, before) in rendered.items():
        changed, without = with_value(values, path, example), before
        if name in NEEDS:
            besides, what = NEEDS[name]
            changed = with_value(changed, besides.split("."), what)
            without = template_or_error(with_value(values, besides.split("."), what))
        try:
            after = template(values=changed)
        except AssertionError as error:
            problems.append(f"{case}: {error}")
            continue
        if after != without:
            return
    pytest.fail(f"{name} = {json.dumps(example)} changes nothing in any case; {problems}")


def template_or_error(values):
    try:
        return template(values=values)
    except AssertionError as error:
        return str(error)


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        ("mode", "deployment", "value must be one of 'daemonset', 'sidecar'"),
        ("imagee", {}, "additional properties 'imagee' not allowed"),
        ("image.tags", "1", "additional properties 'tags' not allowed"),
        ("image.tag", 1.0, "got number, want string"),
        ("metrics.tls", None, "missing property 'tls'"),
        ("image.digest", "sha256:5e", "does not match pattern"),
        ("config", {"roles": {}}, "got object, want string"),
        ("secretFiles", [{"secretName": "x"}], "missing property 'name'"),
        ("awsToken.expirationSeconds", 60, "minimum: got 60, want 600"),
        ("serviceAccounts.jwksUrl", "http://10.0.0.1/openid/v1/jwks", "does not match pattern"),
        ("serviceAccounts.audiences", [], "minItems: got 0, want 1"),
        ("serviceAccounts.audiences", "pods.eks.amazonaws.com", "got string, want array"),
        (
            "daemonset.addresses",
            ["10.96.0.1"],
            "value must be one of '169.254.170.23', 'fd00:ec2::23', '169.254.170.2'",
        ),
        ("daemonset.maxUnavailable", 0, "minimum: got 0, want 1"),
        ("daemonset.maxUnavailable", "ten", "does not match pattern"),
        ("daemonset.port", 65536, "maximum: got 65,536, want 65,535"),
        ("daemonset.port", "80", "got string, want integer"),
        ("daemonset.resources.limit", {}, "additional properties 'limit' not allowed"),
        ("metrics.address", "10.0.0.1", "value must be one of '0.0.0.0', '::'"),
        ("state.path", "var/lib", "does not match pattern"),
        ("webhook.failurePolicy", "ignore", "value must be one of 'Ignore', 'Fail'"),
    ],
)
def test_what_is_no_value_is_refused_with_its_place(path, value, words):
    """A mistyped key that is ignored leaves a default where something else was meant."""
    given = with_value(yaml.safe_load(CASES["daemonset"].read_text()), path.split("."), value)
    with pytest.raises(AssertionError) as refused:
        template(values=given)
    assert words in str(refused.value)
    assert f"at '/{path.replace('.', '/')}" in str(refused.value) or "propert" in words


def test_defaults_are_of_the_schema():
    """And so of the type that is documented."""
    for path, each in LEAVES.values():
        default = at(DEFAULTS, path)
        assert default in each["enum"] if "enum" in each else default is not None
