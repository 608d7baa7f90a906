"""Whatever a client shows as its token, a file holds as one, or an issuer hands out as its keys."""

import base64
import json

from cryptography.hazmat.primitives.asymmetric import ec, rsa
from hypothesis import given
from hypothesis import strategies as st
from jwt.algorithms import ECAlgorithm, RSAAlgorithm

from imds_proxy.callers.caller import ServiceAccount
from imds_proxy.callers.kubernetes import jwks
from imds_proxy.callers.kubernetes import token as service_account_token
from imds_proxy.callers.kubernetes.jwks import SigningKeys
from imds_proxy.callers.kubernetes.token import NotAccepted, UnverifiedToken
from imds_proxy.config.grants import ServiceAccountsConfig
from imds_proxy.errors import Invalid
from imds_proxy.sources.web_identity.oidc_token import OidcToken, read_token
from support.fuzzing import NESTED, as_json, as_read, changed, examples, nearly, outcome

NOW = 1_800_000_000.0
HEADER = {"alg": "RS256", "kid": "key-1", "typ": "JWT"}
CLAIMS = {
    "iss": "https://issuer.example",
    "sub": "system:serviceaccount:shop:api",
    "aud": ["pods.eks.amazonaws.com"],
    "azp": "client",
    "exp": NOW + 600,
    "iat": NOW - 5,
    "nbf": NOW - 5,
    "kubernetes.io": {
        "namespace": "shop",
        "serviceaccount": {"name": "api", "uid": "1"},
        "pod": {"name": "api-7d9f", "uid": "2"},
    },
}
BELIEVED = ServiceAccountsConfig(issuer="https://issuer.example", jwks_file="/etc/keys.json")
PUBLIC = [
    RSAAlgorithm.to_jwk(rsa.generate_private_key(65537, 2048).public_key()),
    ECAlgorithm.to_jwk(ec.generate_private_key(ec.SECP256R1()).public_key()),
]
KEYS = {"keys": [json.loads(key) | {"kid": f"key-{number}", "use": "sig"} for number, key in enumerate(PUBLIC)]}


def encoded(part: bytes) -> str:
    return base64.urlsafe_b64encode(part).rstrip(b"=").decode()


def token_of(header, claims, signature=b"signature"):
    return ".".join(map(encoded, (as_json(header), as_json(claims), signature)))


def read_both_ways(text):
    """As a client shows it, and as a file holds it."""
    shown = outcome(lambda: service_account_token.read(text))
    assert isinstance(shown, UnverifiedToken | NotAccepted)
    if isinstance(shown, UnverifiedToken):
        account = outcome(lambda: service_account_token.account_of(shown.claims, BELIEVED, NOW))
        assert isinstance(account, ServiceAccount | NotAccepted)
    held = outcome(lambda: read_token("deploy", text.encode("utf-8", "replace"), "token_file /run/token"))
    assert isinstance(held, OidcToken | Invalid)
    assert str(held).isprintable() or isinstance(held, Invalid)


@examples(250)
@given(header=nearly(HEADER) | st.just(HEADER), claims=nearly(CLAIMS))
def test_a_token_that_is_nearly_right(header, claims):
    read_both_ways(token_of(header, claims))


@examples(150)
@given(claims=nearly(CLAIMS))
def test_claims_that_are_nearly_right(claims):
    account = outcome(lambda: service_account_token.account_of(as_read(claims), BELIEVED, NOW))
    assert isinstance(account, ServiceAccount | NotAccepted)


@examples(150)
@given(text=changed(token_of(HEADER, CLAIMS).encode()).map(lambda text: text.decode("latin-1")) | st.text(max_size=40))
def test_a_token_with_a_few_characters_changed(text):
    read_both_ways(text)


def test_a_token_that_is_nested_deep_or_has_a_number_without_end():
    for part in (nested[:6000].encode() for nested in NESTED):
        read_both_ways(f"{encoded(as_json(HEADER))}.{encoded(part)}.AAAA")
        read_both_ways(f"{encoded(part)}.{encoded(as_json(CLAIMS))}.AAAA")
    read_both_ways(f"{encoded(as_json(HEADER))}.{encoded(b'9' * 5000)}.AAAA")


@examples(150)
@given(content=nearly(KEYS).map(as_json) | changed(as_json(KEYS)) | st.sampled_from(NESTED).map(str.encode))
def test_a_key_set(content):
    found = outcome(lambda: jwks.parse(content, "https://issuer.example/jwks"))
    assert isinstance(found, SigningKeys | Invalid)
    if isinstance(found, Invalid):
        return
    for key_id, algorithms in found.keys.items():
        for algorithm in algorithms:
            text = token_of({"alg": algorithm, "kid": key_id}, CLAIMS)
            token = UnverifiedToken(text, algorithm, key_id, CLAIMS)
            assert isinstance(outcome(lambda token=token: found.verify(token)), NotAccepted)


def test_what_is_changed_here_is_right_before():
    shown = service_account_token.read(token_of(HEADER, CLAIMS))
    assert str(service_account_token.account_of(shown.claims, BELIEVED, NOW)) == "shop/api"
    assert read_token("deploy", token_of(HEADER, CLAIMS).encode(), "a file").issuer == CLAIMS["iss"]
    assert len(jwks.parse(as_json(KEYS), "here").keys) == 2
