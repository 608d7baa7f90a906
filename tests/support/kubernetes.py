"""A cluster, as far as it is asked here: it signs service account tokens, and its API server says with which keys.

Tokens are made by hand, not by the library that judges them.
"""

import base64
import hashlib
import hmac
import json
import ssl
import threading
import time
import uuid

import trustme
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from support.network import Listener

ISSUER = "https://kubernetes.default.svc.cluster.local"
AUDIENCE = "pods.eks.amazonaws.com"
HASHES = {"256": hashes.SHA256, "384": hashes.SHA384, "512": hashes.SHA512}
CURVES = {"ES256": (ec.SECP256R1, "P-256"), "ES384": (ec.SECP384R1, "P-384"), "ES512": (ec.SECP521R1, "P-521")}
KEYS_PATH = "/openid/v1/jwks"
ISSUED = []
"""Every token of the run, for the secret scan."""
TABLES = """
[[grants]]
role = "deploy"
service_account = "shop/api"

[service_accounts]
issuer = "{issuer}"
jwks_url = "{url}"
ca_bundle = "{ca_bundle}"
"""
"""Config for a daemon."""


def by_pod(daemon, token_file):
    """What EKS Pod Identity sets in a pod; the address there is 169.254.170.23."""
    return {
        "AWS_CONTAINER_CREDENTIALS_FULL_URI": f"{daemon.endpoint}v1/credentials",
        "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE": str(token_file),
        "AWS_EC2_METADATA_DISABLED": "true",
    }


class Key:
    """A signing key; its id is made of the public key, as kube-apiserver makes it."""

    def __init__(self, algorithm="RS256", size=2048):
        self.algorithm = algorithm
        self._private = (
            rsa.generate_private_key(65537, size)
            if algorithm[0] != "E"
            else ec.generate_private_key(CURVES[algorithm][0]())
        )
        self.public = self._private.public_key()
        der = self.public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        self.id = _base64(hashlib.sha256(der).digest())
        self.pem = self.public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)

    def jwk(self, **members):
        """Its entry in the key set; `members` are besides those it always has, or in their place; None: without it."""
        numbers, always = self.public.public_numbers(), {"use": "sig", "kid": self.id, "alg": self.algorithm}
        if self.algorithm[0] == "E":
            size = (self.public.key_size + 7) // 8
            curve = CURVES[self.algorithm][1]
            always |= {"kty": "EC", "crv": curve, "x": _number(numbers.x, size), "y": _number(numbers.y, size)}
        else:
            always |= {"kty": "RSA", "n": _number(numbers.n, self.public.key_size // 8), "e": _number(numbers.e, 3)}
        return {name: value for name, value in (always | members).items() if value is not None}

    def private_jwk(self):
        return self.jwk(d=_number(self._private.private_numbers().d, self.public.key_size // 8))

    def sign(self, text, algorithm=None):
        """The signature of a token's first two parts."""
        algorithm = algorithm or self.algorithm
        digest = HASHES[algorithm[2:]]()
        if algorithm[0] == "R":
            return self._private.sign(text, padding.PKCS1v15(), digest)
        if algorithm[0] == "P":
            return self._private.sign(text, padding.PSS(padding.MGF1(digest), digest.digest_size), digest)
        size = (self.public.key_size + 7) // 8
        return b"".join(
            each.to_bytes(size, "big") for each in decode_dss_signature(self._private.sign(text, ec.ECDSA(digest)))
        )


class Cluster:
    """Keys, and the tokens signed by the newest."""

    def __init__(self, *keys, issuer=ISSUER):
        self.issuer = issuer
        self.keys = list(keys) or [Key()]

    def key_set(self):
        return json.dumps({"keys": [key.jwk() for key in self.keys]}).encode()

    def claims(self, now=None, *, life=3600, namespace="shop", account="api", pod="api-7d9f", **claims):
        """What a projected token of a pod claims; `claims` go besides or in place; None: without it."""
        now = int(time.time() if now is None else now)
        private = {"namespace": namespace, "serviceaccount": {"name": account, "uid": str(uuid.uuid4())}}
        if pod:
            private["pod"] = {"name": pod, "uid": "5b4f2f0e-9d5c-4a53-8a0f-3d3d3c0f7a11"}
        always = {"iss": self.issuer, "aud": [AUDIENCE], "sub": f"system:serviceaccount:{namespace}:{account}"}
        always |= {"iat": now, "nbf": now, "exp": now + life, "jti": str(uuid.uuid4()), "kubernetes.io": private}
        return {name: value for name, value in (always | claims).items() if value is not None}

    def token(self, now=None, *, key=None, header=None, algorithm=None, **claims):
        """A signed token; `header` as `claims`; `algorithm`, if another one than the key's own."""
        key = key or self.keys[-1]
        head = {"alg": algorithm or key.algorithm, "kid": key.id} | (header or {})
        text = unsigned({name: value for name, value in head.items() if value is not None}, self.claims(now, **claims))
        token = signed(text, key.sign(text.encode(), algorithm))
        ISSUED.append(token)
        return token


def unsigned(header, claims):
    """A token's first two parts; each a dictionary, or JSON as bytes."""
    parts = [part if isinstance(part, bytes) else json.dumps(part).encode() for part in (header, claims)]
    return ".".join(map(_base64, parts))


def signed(text, signature):
    return f"{text}.{_base64(signature)}"


def keyed(text, secret):
    """A token signed by HS256, with whatever is taken for a secret."""
    return signed(text, hmac.digest(secret, text.encode(), "sha256"))


class ApiServer(Listener):
    """The cluster's HTTPS server, with a CA of its own; `requests` are the heads it was sent.

    `interfere`, if set, is called with the TLS connection instead of answering it.
    """

    def __init__(self, cluster, folder, *, port=0, authority=None, token=None):
        self.cluster, self.token, self.interfere = cluster, token, None
        self.requests: list[str] = []
        self.arrived = threading.Event()
        self.authority = authority or trustme.CA()
        self.ca_bundle = str(folder / "cluster-ca.pem")
        self.authority.cert_pem.write_to_path(self.ca_bundle)
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.authority.issue_cert("127.0.0.1").configure_cert(self._context)
        super().__init__(port)

    @property
    def url(self):
        return f"https://127.0.0.1:{self.port}{KEYS_PATH}"

    def handle(self, connection):
        with self._context.wrap_socket(connection, server_side=True) as inside:
            head = b""
            while b"\r\n\r\n" not in head:
                if not (piece := inside.recv(65536)):
                    return
                head += piece
            self.requests.append(head.decode("latin-1"))
            self.arrived.set()
            if self.interfere is not None:
                self.interfere(inside)
            elif self.token is not None and f"Authorization: Bearer {self.token}\r\n" not in self.requests[-1]:
                inside.sendall(response(b'{"kind":"Status","code":403}', "403 Forbidden"))
            else:
                inside.sendall(response(self.cluster.key_set(), content_type="application/jwk-set+json"))


def response(body, status="200 OK", content_type="application/json", headers=""):
    """An HTTP answer as bytes."""
    return (
        f"HTTP/1.1 {status}\r\nContent-Type: {content_type}\r\nContent-Length: {len(body)}\r\n"
        f"{headers}Connection: close\r\n\r\n"
    ).encode() + body


def _number(value, size):
    return _base64(value.to_bytes(size, "big"))


def _base64(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
