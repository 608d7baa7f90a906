"""Service account tokens, judged from memory (callers/: service_account_token, signing_keys, service_accounts)."""

import asyncio
import json
import string
import subprocess
import sys
from itertools import pairwise
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from imds_proxy.callers.caller import ServiceAccount
from imds_proxy.callers.kubernetes import jwks
from imds_proxy.callers.kubernetes.jwks_refresh import KeySet
from imds_proxy.callers.kubernetes.verifier import KeysMissing, NotAccepted, ServiceAccounts
from imds_proxy.config.grants import ServiceAccountsConfig
from imds_proxy.errors import Invalid
from support.kubernetes import AUDIENCE, ISSUER, Cluster, Key, keyed, signed, unsigned
from support.virtual_time import run

NOW = 1_800_000_000
LEEWAY = 30
PRIVATE = "kubernetes.io"
KEYS = {name: Key(name) for name in ("RS256", "ES256", "ES384", "ES512")}
CLUSTER = Cluster(KEYS["RS256"])
POD = ServiceAccount("shop", "api", "api-7d9f", "5b4f2f0e-9d5c-4a53-8a0f-3d3d3c0f7a11")


def accounts(*entries, **settings):
    """As the daemon has them once keys were fetched; nothing is fetched here."""
    found = ServiceAccounts()
    found._settings = ServiceAccountsConfig(**{"issuer": ISSUER, "jwks_file": "/nonexistent"} | settings)
    content = json.dumps({"keys": entries or [key.jwk() for key in KEYS.values()]}).encode()
    found._keys = KeySet(found._settings, jwks.parse(content, "the key set"))
    return found


ACCOUNTS = accounts()


def refused(token, now=NOW, subject=ACCOUNTS):
    with pytest.raises(NotAccepted) as caught:
        subject.verify(token, now)
    assert not [part for part in token.split(".") if len(part) > 8 and part in str(caught.value)]
    return str(caught.value)


def token(**claims):
    return CLUSTER.token(NOW, **claims)


# The table

GOOD = {"issuer": ISSUER, "jwks_url": "https://api.example/openid/v1/jwks"}
WRONG = [
    ({"jwks_url": None}, "takes one of jwks_url and jwks_file"),
    ({"jwks_file": "/etc/jwks.json"}, "takes one of jwks_url and jwks_file"),
    ({"jwks_url": "http://api.example/openid/v1/jwks"}, "has to be https"),
    ({"jwks_url": None, "jwks_file": "/k", "ca_bundle": "/ca"}, "are for jwks_url"),
    ({"jwks_url": None, "jwks_file": "k"}, "absolute path"),
    ({"issuer": ""}, "issuer"),
    ({"issuer": []}, "issuer"),
    ({"issuer": [ISSUER, ""]}, "issuer"),
    ({"issuer": [ISSUER, ISSUER]}, "names the same twice"),
    ({"audience": ""}, "audience"),
    ({"audience": []}, "audience"),
    ({"audience": [AUDIENCE, ""]}, "audience"),
    ({"audience": [AUDIENCE, AUDIENCE]}, "names the same twice"),
    ({"audience": 7}, "valid string"),
    ({"audience": {AUDIENCE: True}}, "audience"),
    ({"audience": [[AUDIENCE]]}, "audience"),
    ({"leeway": "1h"}, "leeway"),
    ({"algorithms": ["none"]}, "algorithms"),
]


@pytest.mark.parametrize(("change", "words"), WRONG, ids=lambda each: each if isinstance(each, str) else "")
def test_a_table_that_cannot_be_meant_is_refused(change, words):
    """Before it decides whom this host believes."""
    ServiceAccountsConfig(**GOOD)
    settings = {name: value for name, value in (GOOD | change).items() if value is not None}
    with pytest.raises(ValidationError, match=words):
        ServiceAccountsConfig(**settings)


# What is accepted


@pytest.mark.parametrize("name", KEYS)
def test_a_pods_token_says_whose_it_is(name):
    """With each kind of key that kube-apiserver takes."""
    assert ACCOUNTS.verify(CLUSTER.token(NOW, key=KEYS[name]), NOW) == POD


def test_a_token_without_a_pod_is_its_accounts():
    """As `kubectl create token` makes them."""
    assert ACCOUNTS.verify(token(pod=None), NOW) == ServiceAccount("shop", "api")


@pytest.mark.parametrize("audience", [AUDIENCE, [AUDIENCE], ["vault", AUDIENCE]], ids=repr)
def test_an_audience_is_one_or_several(audience):
    """RFC 7519 has both forms."""
    assert ACCOUNTS.verify(token(aud=audience), NOW) == POD


STS = "sts.amazonaws.com"


@pytest.mark.parametrize("audience", [AUDIENCE, STS, [STS], [AUDIENCE, STS], ["vault", STS]], ids=repr)
def test_of_several_configured_audiences_one_is_enough(audience):
    """Pods made for EKS Pod Identity and pods made for web identity would not both have their roles."""
    subject = accounts(audience=[AUDIENCE, STS])
    assert subject.verify(token(aud=audience), NOW) == POD
    for other in (
        "vault",
        ["vault"],
        STS.upper(),
        STS + "/",
        f"{AUDIENCE} {STS}",
        f"{AUDIENCE},{STS}",
        [AUDIENCE[:-1]],
    ):
        assert refused(token(aud=other), subject=subject) == "the token is for another audience"


def test_one_configured_audience_is_a_list_of_one():
    assert accounts(audience=STS)._settings == accounts(audience=[STS])._settings
    assert accounts()._settings.audience == (AUDIENCE,)
    assert accounts(audience=STS).verify(token(aud=STS), NOW) == POD
    refused(token(), subject=accounts(audience=STS))  # the default one is not added to it


NEW_ISSUER = "https://oidc.example.com/cluster"


@pytest.mark.parametrize("issuer", [ISSUER, NEW_ISSUER])
def test_of_several_configured_issuers_one_is_enough(issuer):
    """While a cluster changes its issuer, its pods show tokens of both; one half would have no role."""
    subject = accounts(issuer=[ISSUER, NEW_ISSUER])
    assert subject.verify(token(iss=issuer), NOW) == POD
    for other in (None, "", issuer + "/", issuer[:-1], f"{ISSUER} {NEW_ISSUER}", f"{ISSUER},{NEW_ISSUER}", [issuer]):
        assert refused(token(iss=other), subject=subject) == "the token is of another issuer"


def test_one_configured_issuer_is_a_list_of_one():
    """Its text must not be searched: part of an issuer is another issuer."""
    assert accounts()._settings == accounts(issuer=[ISSUER])._settings
    refused(token(iss=ISSUER[:-1]), subject=accounts())
    refused(token(iss=NEW_ISSUER), subject=accounts())


@pytest.mark.parametrize("algorithm", ["RS384", "RS512"])
def test_an_rsa_key_that_names_no_algorithm_takes_the_longer_hashes(algorithm):
    subject = accounts(KEYS["RS256"].jwk(alg=None))
    assert subject.verify(CLUSTER.token(NOW, algorithm=algorithm), NOW) == POD
    refused(CLUSTER.token(NOW, algorithm=algorithm))  # where it names RS256


# Times


def test_clocks_may_differ_by_the_leeway():
    """A pod's first token comes within a second of its being made."""
    subject = token(life=600)
    for now in (NOW - LEEWAY, NOW + 600 + LEEWAY - 1):
        assert ACCOUNTS.verify(subject, now) == POD
    assert refused(subject, NOW - LEEWAY - 1) == "the token is not valid yet"
    assert refused(subject, NOW + 600 + LEEWAY) == "the token has expired"


@pytest.mark.parametrize("name", ["nbf", "iat"])
def test_a_token_of_the_future_is_refused(name):
    assert refused(token(**{name: NOW + 3600})) == "the token is not valid yet"
    assert ACCOUNTS.verify(token(**{name: None}), NOW) == POD  # they may be left out


ODD = [None, True, "9999999999", [NOW], {}, float("nan"), float("inf"), -1, 1e300]


@pytest.mark.parametrize("value", ODD, ids=repr)
def test_a_token_ends_at_a_time(value):
    """One without an end would be good for ever, as the old tokens in secrets are."""
    assert "until when" in refused(token(exp=value))


# Whom it is for, and whose it is


@pytest.mark.parametrize("audience", [None, "sts.amazonaws.com", ["a", "b"], [], [[AUDIENCE]], {AUDIENCE: 1}], ids=repr)
def test_a_token_for_somebody_else_is_refused(audience):
    """Whoever a pod shows its other tokens to could come here with them."""
    assert refused(token(aud=audience)) == "the token is for another audience"


@pytest.mark.parametrize("issuer", [None, ISSUER + "/", ISSUER.upper(), [ISSUER], "https://other.example"], ids=repr)
def test_a_token_of_another_cluster_is_refused(issuer):
    assert refused(token(iss=issuer)) == "the token is of another issuer"


SUBJECTS = [
    None,
    "system:serviceaccount:shop:admin",
    "system:serviceaccount:kube-system:api",
    "system:serviceaccount:shop",
    "system:serviceaccount:shop:api:more",
    "system:node:shop:api",
    "system:serviceaccount:shop:api\n",
    ["system:serviceaccount:shop:api"],
]


@pytest.mark.parametrize("subject", SUBJECTS, ids=repr)
def test_a_subject_and_its_private_claim_agree(subject):
    """Nobody has to guess which of two names is granted a role."""
    refused(token(sub=subject))


@pytest.mark.parametrize("name", ["*", "..", "Api", "api/../x", "a b", "", "a" * 254, "über"])
def test_a_name_is_one_that_kubernetes_gives(name):
    """It goes into session tags and into the audit."""
    refused(token(account=name))
    refused(token(namespace=name))
    if name:
        refused(token(pod=name))


@pytest.mark.parametrize("private", [None, "shop", {}, {"namespace": "shop", "serviceaccount": "api"}], ids=repr)
def test_a_private_claim_has_kubernetes_form(private):
    refused(token(**{PRIVATE: private}))


def test_a_claim_twice_is_refused():
    """Another reader of the same token would take the other one."""
    claims = json.dumps(CLUSTER.claims(NOW))
    twice = claims[:-1] + ', "sub": "system:serviceaccount:shop:api"}'
    text = unsigned({"alg": "RS256", "kid": KEYS["RS256"].id}, twice.encode())
    refused(signed(text, KEYS["RS256"].sign(text.encode())))


# Whose signature it is


def test_a_token_that_nobody_signed_is_refused():
    """`alg: none`, in each spelling."""
    for name in ("none", "None", "NONE", "nOnE", ""):
        text = unsigned({"alg": name, "kid": KEYS["RS256"].id}, CLUSTER.claims(NOW))
        for end in (".", "", ".AA"):
            refused(text + end)


@pytest.mark.parametrize("algorithm", ["HS256", "HS384", "HS512"])
def test_a_public_key_is_no_secret(algorithm):
    """Key confusion: the public key, which everybody has, taken for the secret of an HMAC."""
    for key in KEYS.values():
        text = unsigned({"alg": algorithm, "kid": key.id}, CLUSTER.claims(NOW))
        jwk = key.jwk()
        secrets = key.pem, key.pem.strip(), json.dumps(jwk).encode(), json.dumps(jwk, separators=(",", ":")).encode()
        for secret in secrets:
            refused(keyed(text, secret))


@pytest.mark.parametrize("algorithm", ["PS256", "RS384", "RS512", "ES256", "EdDSA", "RS1"])
def test_a_key_is_used_for_its_own_algorithm_alone(algorithm):
    signer = algorithm if algorithm in {"PS256", "RS384", "RS512"} else "RS256"
    text = unsigned({"alg": algorithm, "kid": KEYS["RS256"].id}, CLUSTER.claims(NOW))
    refused(signed(text, KEYS["RS256"].sign(text.encode(), signer)))


def test_a_token_signed_by_somebody_else_is_refused():
    """Under the id of a key of the cluster's."""
    for name in ("RS256", "ES256"):
        stranger = Key(name)
        stranger.id = KEYS[name].id
        assert "signature" in refused(CLUSTER.token(NOW, key=stranger))


def test_a_token_cannot_bring_its_own_key():
    """`jwk`, `jku`, `x5u` and `x5c` are the sender's words; nothing is fetched from there."""
    stranger = Key()
    for kid in (KEYS["RS256"].id, "unknown"):
        for extra in ({"jwk": stranger.jwk()}, {"jku": "https://127.0.0.1:9/x"}, {"x5u": "https://127.0.0.1:9/x"}):
            subject = accounts()
            bad = CLUSTER.token(NOW, key=stranger, header=extra | {"kid": kid})
            with pytest.raises((NotAccepted, KeysMissing)):
                subject.verify(bad, NOW)
    good = token(header={"jku": "https://127.0.0.1:9/x", "jwk": stranger.jwk()})
    assert ACCOUNTS.verify(good, NOW) == POD


@pytest.mark.parametrize("kid", [None, "", 7, ["a"], "k" * 257], ids=["none", "empty", "number", "list", "long"])
def test_a_token_names_its_key(kid):
    refused(token(header={"kid": kid}))


def test_critical_headers_are_not_passed_over():
    """RFC 7515: whoever does not understand them refuses."""
    refused(token(header={"crit": ["exp"], "exp": 1}))
    refused(token(header={"crit": ["b64"], "b64": False}))


def test_what_cannot_be_a_token_costs_nothing():
    """Before anything is parsed."""
    assert "8 kB" in refused("a" * 100_000)
    assert "8 kB" in refused(token(padding="x" * 100_000))
    deep = unsigned(b"[" * 3000, b"[" * 3000) + ".AA"
    numbers = unsigned(b'{"alg":' + b"9" * 5000 + b"}", b"{}") + ".AA"
    for text in (
        "",
        "x",
        "..",
        "a.b",
        "a.b.c.d",
        "Bearer " + token(),
        token() + "\n",
        "é.é.é",
        deep,
        numbers,
        "\0.a.b",
    ):
        assert "expected" in refused(text)


TOKENS = {name: CLUSTER.token(NOW, key=key) for name, key in KEYS.items()}


@given(st.sampled_from(sorted(TOKENS)), st.data())
def test_every_other_text_is_another_token(name, data):
    """One character changed, put in or taken out: not one of them is accepted, though its bits may mean the same."""
    text = TOKENS[name]
    place = data.draw(st.integers(0, len(text) - 1))
    character = data.draw(st.sampled_from([*string.printable, ""]))
    keep = data.draw(st.booleans())
    other = text[:place] + character + text[place + (not keep) :]
    if other != text:
        with pytest.raises((NotAccepted, KeysMissing)):
            ACCOUNTS.verify(other, NOW)


@pytest.mark.parametrize("name", TOKENS)
def test_the_last_character_of_a_signature_has_one_form(name):
    """It has bits that say nothing."""
    text = TOKENS[name]
    for character in string.ascii_letters + string.digits + "-_+/=":
        if character != text[-1]:
            refused(text[:-1] + character)
    refused(text + "=")
    while "-" not in text.rpartition(".")[2]:
        text = CLUSTER.token(NOW, key=KEYS[name])
    refused(text[::-1].replace("-", "+", 1)[::-1])


# The key set


@pytest.mark.parametrize(
    "members",
    [
        {"use": "enc"},
        {"key_ops": ["sign"]},
        {"key_ops": "verify"},
        {"kid": None},
        {"kid": 7},
        {"alg": "HS256"},
        {"alg": "none"},
        {"alg": "RS256", "kty": "oct", "k": "c2VjcmV0"},
        {"kty": "EC"},
        {"kty": "OKP", "crv": "Ed25519", "x": "AA"},
        {"n": "AQAB"},
        {"n": 7},
        {"e": "AQ"},
        {"d": "AQAB"},
    ],
    ids=repr,
)
def test_an_entry_that_is_no_public_signing_key_is_ignored(members):
    """The others of the set are used."""
    other = KEYS["ES256"]
    found = jwks.parse(json.dumps({"keys": [KEYS["RS256"].jwk(**members), other.jwk()]}).encode(), "x")
    assert (list(found.keys), found.ignored) == ([other.id], 1)


def test_a_private_or_a_small_key_is_ignored():
    """Whoever reads the set could sign with the one, and whoever computes with the other."""
    content = json.dumps({"keys": [KEYS["RS256"].private_jwk(), Key(size=1024).jwk(), "x", None, []]}).encode()
    found = jwks.parse(content, "x")
    assert (dict(found.keys), found.ignored) == ({}, 5)


@pytest.mark.parametrize(
    "content",
    [b"", b"<html>", b"[]", b"{}", b'{"keys":{}}', b"[" * 10000, b"\xff", b"1" * 5000],
    ids=lambda each: each[:9],
)
def test_what_is_no_key_set_is_told(content):
    with pytest.raises(Invalid, match="the place holds no JSON Web Key Set"):
        jwks.parse(content, "the place")


# What is not there yet


def test_without_keys_a_caller_is_told_to_come_again():
    """A 401 would send some SDKs on to the host's own role."""
    subject = accounts()
    subject._keys = KeySet(subject._settings)
    with pytest.raises(KeysMissing):
        subject.verify(token(), NOW)
    refused(token(), NOW + 7200, subject)  # whatever the keys are, this one is over


def test_before_the_config_is_followed_nobody_is_refused():
    with pytest.raises(KeysMissing):
        ServiceAccounts().verify(token(), NOW)


def test_an_unknown_key_is_looked_for_only_if_the_rest_fits():
    """Tokens of other clusters, or old ones, do not make this host ask the API server."""
    stranger, subject = Key(), accounts()
    for claims in ({"iss": "https://other.example"}, {"aud": "x"}, {"life": -60}, {"sub": "me"}):
        refused(CLUSTER.token(NOW, key=stranger, **claims), NOW, subject)
    assert not subject._keys._asked.is_set()
    with pytest.raises(KeysMissing):
        subject.verify(CLUSTER.token(NOW, key=stranger), NOW)
    assert subject._keys._asked.is_set()


@pytest.mark.parametrize("failures", [0, 1, 20])
def test_keys_are_fetched_ahead_of_time(failures):
    """Every five minutes at the latest, not by all hosts at once; after a failure sooner, and never in a hot loop."""
    times, subject = [], KeySet(ServiceAccountsConfig(**GOOD))

    async def fetch():
        times.append(asyncio.get_running_loop().time())
        subject._failures = failures

    async def main():
        subject._fetch = fetch
        task = asyncio.create_task(subject.run())
        await asyncio.sleep(36_000)
        task.cancel()

    run(main())
    gaps = {later - earlier for earlier, later in pairwise(times)}
    shortest, longest = {0: (250, 300), 1: (1, 2), 20: (1, 60)}[failures]
    assert shortest <= min(gaps) < max(gaps) <= longest
    assert len(gaps) > 50


def test_keys_are_fetched_for_unknown_ones_ten_seconds_apart():
    """However many ids come, and at once where the last fetch is long ago."""
    times, subject = [], KeySet(ServiceAccountsConfig(**GOOD))

    async def fetch():
        times.append(asyncio.get_running_loop().time())
        subject._asked.clear()

    async def main():
        subject._fetch = fetch
        task = asyncio.create_task(subject.run())
        await asyncio.sleep(100)
        for number in range(1000):
            subject.look_for(str(number))
            await asyncio.sleep(0.1)
        task.cancel()

    run(main())
    assert times[:2] == [0, 100]
    assert len(times) == 11
    assert min(later - earlier for earlier, later in pairwise(times)) == pytest.approx(10)


# What it costs who does not use it

MISSING = """
import asyncio, sys, logging
class Missing:
    def find_spec(self, name, *_):
        if name.partition(".")[0] == "{module}": raise ModuleNotFoundError("not there", name="{module}")
sys.meta_path.insert(0, Missing())
from types import SimpleNamespace
from imds_proxy.callers.kubernetes.verifier import ServiceAccounts, KeysMissing, missing_package
from imds_proxy.config.grants import ServiceAccountsConfig
from imds_proxy.telemetry import log
log.configure("INFO", "json", sys.stdout)
async def main():
    accounts = ServiceAccounts()
    settings = ServiceAccountsConfig(issuer="https://x", jwks_file="/x")
    await accounts.follow(SimpleNamespace(service_accounts=settings))
    await accounts._task
    await accounts.close()
    try: accounts.verify({token!r}, {now})
    except KeysMissing: print("later")
asyncio.run(main())
"""


@pytest.mark.parametrize(("module", "package"), [("jwt", "PyJWT"), ("cryptography", "cryptography")])
def test_a_missing_extra_is_named(module, package):
    """The daemon goes on for everybody else."""
    script = MISSING.format(module=module, token=CLUSTER.token(NOW, iss="https://x"), now=NOW)
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True)
    line, later = done.stdout.splitlines()
    told = json.loads(line)
    assert told["level"] == "error"
    assert package in told["error"]
    assert f"{sys.executable} -m pip install 'imds-proxy[kubernetes]'" in told["advice"]
    assert later == "later"


def test_nothing_heavy_is_imported_for_nothing():
    """Most hosts have no pods."""
    script = (
        "import imds_proxy.callers.kubernetes.verifier, imds_proxy.callers.grant_token_files, sys; print(*sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True)
    assert not {"jwt", "cryptography", "aiohttp"} & set(done.stdout.split())


async def test_without_the_table_nothing_runs():
    subject = ServiceAccounts()
    before = asyncio.all_tasks()
    await subject.follow(SimpleNamespace(service_accounts=None))
    assert asyncio.all_tasks() == before
    refused(token(), NOW, subject)
    await subject.close()


async def test_a_reload_believes_another_issuer_before_it_waits_for_anything(monkeypatch):
    """The new grants hold already: an account of the old cluster would have its namesake's role."""
    subject, close, seen = ServiceAccounts(), ServiceAccounts.close, []

    async def closing(subject):
        seen.append((subject._settings, subject._keys))
        await close(subject)

    monkeypatch.setattr(ServiceAccounts, "close", closing)
    old, new = (ServiceAccountsConfig(issuer=issuer, jwks_file="/nonexistent") for issuer in (ISSUER, "https://new"))
    await subject.follow(SimpleNamespace(service_accounts=old))
    await subject.follow(SimpleNamespace(service_accounts=new))
    assert seen == [(old, None), (new, None)]
    refused(token(), NOW, subject)
    await subject.close()
