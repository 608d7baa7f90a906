"""The signature of Roles Anywhere, against answers that were made by others.

The known answers were made once: the canonical requests by botocore's Signature Version 4, the signatures by
`openssl dgst -sha256 -sign`. The key was made for this and is nobody's.
"""

import base64
import hashlib

import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from hypothesis import given
from hypothesis import strategies as st

from imds_proxy.host.http_client import WebRequest
from imds_proxy.sources.roles_anywhere.certificate import of_pem
from imds_proxy.sources.roles_anywhere.key_pair import KeyPair
from imds_proxy.sources.roles_anywhere.sigv4_x509 import canonical_query, canonical_request, signed, string_to_sign
from support.certificates import Authority

KEY = b"""-----BEGIN PRIVATE KEY-----
MIIEvgIBADANBgkqhkiG9w0BAQEFAASCBKgwggSkAgEAAoIBAQCrL2DKX6DEktIE
dFt7dUjgUuc/JQsrO7MkYtAjshTlutnRfmkZS+JTj+9zm2BHuVLzsjFh3qR0Q9Qz
U1duKYJO/I8K5raUh7dSHNVscCGPQ9RP89q3mM1eY1m2WmmIV9VJsA0MNQJuFGOQ
mnBxcgahr7jUJNxWivm9hSZOcjHXlb9BEqxcv6WJEErKK/FxQFC42H5WEBi0MsDJ
00eHsILFlSDb6uqtcIg6EgD6qf2SeXg3zowzP4Ubnx0xfduXlFksLcDLx8T3xTBO
8kfAMYUYH/EJJ8s1In7ndADQVUI4V+EVv52+c3sBAtBDLs2tgw8i84Ulrc0HtVE1
XA60ZzXXAgMBAAECggEAKeNPf2Wz/LXifyWLxyN1YDLZFAn3+C3FEae+P6XRWD+H
EiypAgAgEwt67+J6xkIyaqBVVhn5StvYHnELyVCN6s8BH41B6wlkkcqtbLnpdFmI
J8JHaDqTMkAEUUtBXJQFhGD4aF7GR/JkRJuN3SymM8VAaGTWp7SdFMNykqp9yL8c
oYH2hy4k4lgQDnkxjD21W2QYix+g/4nLcznZr4P2uR5WJut1hv9w/PsFGbgqBuWl
ozGsh428m7WeS3jAfT0xYrA8t57m2PBNI42zOqdfVXZ1Jme+ytro6LHGF+hHxI1r
bCtEUPkK5+P+mZYsYQMmLFsdMBzpyrz0NaelqWUsaQKBgQDfYgoC5bzRtMs7GK+H
3E5mut9DaXzmopjkpaSJ2G82MVx7TCGySL4M1TWrb3QOmeqUjXEYezrvb4UwvcDw
ytcrUBQ3fw5hISTNvPvmxXwHc34S43yY3MWWnSwx9LXSdoHM7CByktzGOXTqz+At
vBg3O80epKGQx8H9QDg/1SnbbwKBgQDELjQneJzVyO+8z09Yzh1NLiLtl9BHPeUx
OAtiDkaimPIPNmmA5ISig5UcgIjogz87ATnVbaOqyv7C9A1wKOC8bKfw48D1Db0H
y6pU7+hwUvlSjDyGpbH9M2baRNtUQSy8yt/3Daa4NnZ+a494KrPFITJtot1ylmGj
HHwCg3e4GQKBgGRElGvShVu4BFVFclzQZZy1GsweiILZzzkqpN1++gRgSbvKY4Gs
JyqJdWq7P2PicKo3huFPRxf8fdNwCS/MTKLTcg+rB2BPyT5UKtneIRsTGy8NT3sp
9cLyT8kop4iNyxuZjcL/6vtLBRD1OBIvUMtSG3M6wI7FK20qq1TzsLMfAoGBAJH4
vx3PhQMdrCSVLLkrRGo1NhALshIQYAUramzfqnc5zoK7Pe2GG5rAxaabjUNUxSum
Ud4Y4nsm6EEvTwBxqicJwjxfeyfbvReb13WzvQQ2+QUPC8o0aCe6o4EtUvVyOVOQ
sO0m3zKac7jFV89WFsVLWjZxxMyKUMQJYcyM/fuhAoGBAIVzkqkfEl4q7FCAW94M
0qoyrGHIuTV2eTaZvw9u2ckJOA2eoc6gyBTnzBCHYAOZY5VInJZ4cgHfvTZXuxGe
wl0Fro75yUtP7sZV18D62X5fZf5rY2r5DSbax0ZBpfmyfkThrM7wiLYQeK4+h0lK
EPRq+t5hgKN3UhSWmA4iuuAT
-----END PRIVATE KEY-----
"""
CERTIFICATE = b"""-----BEGIN CERTIFICATE-----
MIIDKjCCAhKgAwIBAgIIASNFZ4mrze8wDQYJKoZIhvcNAQELBQAwIzEhMB8GA1UE
AwwYa25vd24tYW5zd2VyLmV4YW1wbGUuY29tMCAXDTI2MTEyMTEyMzkzOVoYDzIx
MjYxMDI4MTIzOTM5WjAjMSEwHwYDVQQDDBhrbm93bi1hbnN3ZXIuZXhhbXBsZS5j
b20wggEiMA0GCSqGSIb3DQEBAQUAA4IBDwAwggEKAoIBAQCrL2DKX6DEktIEdFt7
dUjgUuc/JQsrO7MkYtAjshTlutnRfmkZS+JTj+9zm2BHuVLzsjFh3qR0Q9QzU1du
KYJO/I8K5raUh7dSHNVscCGPQ9RP89q3mM1eY1m2WmmIV9VJsA0MNQJuFGOQmnBx
cgahr7jUJNxWivm9hSZOcjHXlb9BEqxcv6WJEErKK/FxQFC42H5WEBi0MsDJ00eH
sILFlSDb6uqtcIg6EgD6qf2SeXg3zowzP4Ubnx0xfduXlFksLcDLx8T3xTBO8kfA
MYUYH/EJJ8s1In7ndADQVUI4V+EVv52+c3sBAtBDLs2tgw8i84Ulrc0HtVE1XA60
ZzXXAgMBAAGjYDBeMB0GA1UdDgQWBBRjQmZlEWudlGP2bhLUY3keBJrB4DAfBgNV
HSMEGDAWgBRjQmZlEWudlGP2bhLUY3keBJrB4DAMBgNVHRMBAf8EAjAAMA4GA1Ud
DwEB/wQEAwIHgDANBgkqhkiG9w0BAQsFAAOCAQEAWXOCoUAOvU+Ox9aYx93vx7z0
3kp+SsBB8y47+nrrKLN1/bvhQ0OKRUkjf48aaHHtXGkcnLoNh1tBH9VD9+xC4N//
Owoaf6de6LfM21DEn+KOV9wCQ4qK3pk+xbxycXjZ35hX2LVGXA/5Gu7uIxCfabGW
WkQwhBzyGP7alGyMDu51ea/IOACo5RjmmolxlZFPVPoubL3Etk9qaHNPbxUtenkF
d8csOGheADEexI9gROhLCWNxBJBDv0aGS4ELh+6DNne0+0ZYEa2IqxvQxPqbU+qM
GdEMrlCNeFeKhWYwdNPANFpxgryJxUVfrzEWXUSL5nx6ntgUNxG6NDeKTMR8gA==
-----END CERTIFICATE-----
"""
INTERMEDIATE = b"""-----BEGIN CERTIFICATE-----
MIIBXzCCAQSgAwIBAgIBBzAKBggqhkjOPQQDAjANMQswCQYDVQQDDAJDQTAgFw0y
NjExMjExMjM5MzlaGA8yMTI2MTAyODEyMzkzOVowDTELMAkGA1UEAwwCQ0EwWTAT
BgcqhkjOPQIBBggqhkjOPQMBBwNCAASGbCLdMHWXTvLOJvXpaDDX+IrdEPvCY24e
VfWPaXcQ3pJY2DuljbL4g3UShpjLR3pTuHop38n5TiYTBzXPd+Sjo1MwUTAdBgNV
HQ4EFgQUm4mOUUvXs604XWhI5EApwcW6tcAwHwYDVR0jBBgwFoAUm4mOUUvXs604
XWhI5EApwcW6tcAwDwYDVR0TAQH/BAUwAwEB/zAKBggqhkjOPQQDAgNJADBGAiEA
5sPnCnZFYxnBi3RW3XPR0/+gLLr6XWMzBKcMsxHtbTUCIQCk6z+iPn+kWxdzZbUI
M1wo9PphjX1sOaatZ6RO4thG9g==
-----END CERTIFICATE-----
"""
SERIAL = 81985529216486895
HOST = "rolesanywhere.eu-west-1.amazonaws.com"
PARAMETERS = [
    (
        "trustAnchorArn",
        "arn:aws:rolesanywhere:eu-west-1:123456789012:trust-anchor/11111111-2222-3333-4444-555555555555",
    ),
    ("profileArn", "arn:aws:rolesanywhere:eu-west-1:123456789012:profile/66666666-7777-8888-9999-000000000000"),
    ("roleArn", "arn:aws:iam::123456789012:role/path/Host+x"),
]
REQUEST = WebRequest(
    "POST",
    f"https://{HOST}/sessions?{canonical_query(PARAMETERS)}",
    {"Content-Type": "application/json"},
    b'{"durationSeconds": 3600}',
)
DATE, MOMENT = "20261103T120000Z", 1793707200.75
SCOPE = "20261103/eu-west-1/rolesanywhere/aws4_request"
HASH = "ebf4a299f5647c8114738e603f224d4bfb160dcf04e06a0a2f3589b59d11859b"
HASH_WITH_CHAIN = "1f978ef1ee9423c911230477ad1bde6a3ff0f56f1b987f2215245ce72f4a388e"
SIGNATURE = (
    "7c8da66dfbdcdb4918d93e0e30a7eb9c4b25bca71b800c4ef0ce3f9031c7673ba135e6831da85d8632b0f54a5f872b2d"
    "4d3ad3e0f66f3f8cd26fd243c58bcf99f59c16be1c7f34b6900df8a86ad8db8147e89ca0fe97ccfb17828293b18f4798"
    "38680579053f1a097a9cbe40fb787b8d590b76b4b055e13d3e70479e15e74c226050ac4d91bffd48b563d4d1f99ae1f7"
    "b6f7627007cb3bd1f1cf7bd62ca830a412c8f626fc370a659df837e31e49f4f0cacb8b359102a8e1d5e672abb8cbb3f5"
    "bb4b39d82d3fff206d2929149fc43099d6617f537141a2fdde02d8de4cc8ae3214ae5a34de53f758c30a88f7a96f7fb0"
    "857c831652068bfd8b58b9c82e98aa12"
)
SIGNATURE_WITH_CHAIN = (
    "0975ac5375f1d97dd2374528e1c6d258f64650bc54080c52f84c148a6d77d81690898c842484e31e1cc97ea6a4ef7b92"
    "fc474d6af5de31f9df7e417a523319d3392b80d6f5a6d01ad2b545bbe81b61c458d0263607780603caeb945992d81d51"
    "755c8c3e28a42031b46da60953a8655c1052f02d19ddee654dcba3dcf79b8c43b870f981f0ae6f78bea9f9ed1c67f36a"
    "bc5632ecac8e5fec2283d46ab35b332ac96c7e3a889c8fd4d3df421423fe07535d9aeb6d8cab868f60d3ed8553802753"
    "5876a57478cda79cff7b496a1b50e89c4e6153b34ea2ebe0f1c89743ef50b551e4ca8f8888d2a22e2899e65a6e20a19d"
    "b1f3323d422cd288bc2c5b4e4c73966f"
)


def pair(*chain):
    key = load_pem_private_key(KEY, None)
    return KeyPair(
        *of_pem(CERTIFICATE),
        tuple(certificate for pem in chain for certificate in of_pem(pem)),
        "RSA",
        lambda message: key.sign(message, padding.PKCS1v15(), hashes.SHA256()),
    )


def der(pem):
    return "".join(pem.decode().splitlines()[1:-1])


def test_the_request_is_signed_as_the_known_answer_is():
    headers = signed(REQUEST, pair(), "eu-west-1", MOMENT).headers
    assert headers == {
        "Content-Type": "application/json",
        "Host": HOST,
        "X-Amz-Date": DATE,
        "X-Amz-X509": der(CERTIFICATE),
        "Authorization": f"AWS4-X509-RSA-SHA256 Credential={SERIAL}/{SCOPE}, "
        f"SignedHeaders=content-type;host;x-amz-date;x-amz-x509, Signature={SIGNATURE}",
    }


def test_intermediates_are_sent_and_signed_in_their_order():
    headers = signed(REQUEST, pair(INTERMEDIATE, INTERMEDIATE), "eu-west-1", MOMENT).headers
    assert headers["X-Amz-X509-Chain"] == f"{der(INTERMEDIATE)},{der(INTERMEDIATE)}"
    assert headers["Authorization"] == (
        f"AWS4-X509-RSA-SHA256 Credential={SERIAL}/{SCOPE}, "
        f"SignedHeaders=content-type;host;x-amz-date;x-amz-x509;x-amz-x509-chain, Signature={SIGNATURE_WITH_CHAIN}"
    )


@pytest.mark.parametrize(("chain", "expected"), [((), HASH), ((INTERMEDIATE, INTERMEDIATE), HASH_WITH_CHAIN)])
def test_the_canonical_request_hashes_to_the_known_answer(chain, expected):
    request = signed(REQUEST, pair(*chain), "eu-west-1", MOMENT)
    canonical = canonical_request(without_authorization(request))
    assert hashlib.sha256(canonical.encode()).hexdigest() == expected
    text = string_to_sign("AWS4-X509-RSA-SHA256", DATE, SCOPE, canonical)
    assert text == f"AWS4-X509-RSA-SHA256\n{DATE}\n{SCOPE}\n{expected}"


TEXT = st.text(st.characters(codec="utf-8", exclude_categories=["Cs"]), max_size=20)
NAME = st.text("abcXYZ019-_.~ +/%:@éß=&", min_size=1, max_size=20)


@given(st.dictionaries(NAME, TEXT, max_size=5), st.binary(max_size=200), st.text(" abc:,;", max_size=20))
def test_the_canonical_request_is_botocores_for_any_input(parameters, body, value):
    """Two implementations of one rule: where they differ, AWS would refuse the signature."""
    query = canonical_query(list(parameters.items()))
    headers = {"Content-Type": f"a{value}b", "Host": HOST, "X-Amz-Date": DATE}
    ours = canonical_request(WebRequest("POST", f"https://{HOST}/sessions?{query}", headers, body))
    request = AWSRequest("POST", f"https://{HOST}/sessions", headers=headers, data=body, params=parameters)
    theirs = SigV4Auth(None, "rolesanywhere", "eu-west-1").canonical_request(request)
    assert ours.splitlines() == theirs.splitlines()


@pytest.mark.parametrize("kind", ["p256", "p384", "p521"])
def test_an_ec_signature_is_der_in_hexadecimal_over_sha256(kind):
    issued = Authority().issue(kind=kind)
    mine = KeyPair(issued.as_read, (), "ECDSA", lambda text: issued.key.sign(text, ec.ECDSA(hashes.SHA256())))
    request = signed(REQUEST, mine, "eu-west-1", MOMENT)
    algorithm, _, rest = request.headers["Authorization"].partition(" ")
    assert algorithm == "AWS4-X509-ECDSA-SHA256"
    assert rest.startswith(f"Credential={issued.certificate.serial_number}/{SCOPE}, ")
    text = string_to_sign(algorithm, DATE, SCOPE, canonical_request(without_authorization(request)))
    signature = bytes.fromhex(rest.partition("Signature=")[2])
    issued.key.public_key().verify(signature, text.encode(), ec.ECDSA(hashes.SHA256()))
    assert request.headers["X-Amz-X509"] == base64.b64encode(mine.certificate_der).decode()


def without_authorization(request):
    headers = {name: value for name, value in request.headers.items() if name != "Authorization"}
    return WebRequest(request.method, request.url, headers, request.body)
