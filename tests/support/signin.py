"""AWS Sign-In's token endpoint, which refreshes the sessions of `aws login`, and the cache that `aws login` leaves."""

import base64
import hashlib
import http.server
import json
import time
from pathlib import Path

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

from imds_proxy.credentials import timestamp
from support.aws import new_session
from support.http_double import HttpDouble

CLIENT_ID = "arn:aws:signin:::devtools/same-device"
SESSION = "arn:aws:iam::123456789012:user/somebody"
REFRESH = "refresh-token-of-somebody"


class Login:
    """A person who has signed in, by a key of their own."""

    def __init__(self, folder: Path, role_arn: str):
        self.folder, self.role_arn = folder, role_arn
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.path = folder / f"{hashlib.sha256(SESSION.encode()).hexdigest()}.json"

    def document(self, life: float = 900, **changes) -> dict:
        """What `aws login` writes: keys that are left out are `...`."""
        made = new_session(self.role_arn, "somebody")
        document = {
            "accessToken": {
                "accessKeyId": made.access_key_id,
                "secretAccessKey": made.secret_access_key,
                "sessionToken": made.session_token,
                "accountId": SESSION.split(":")[4],
                "expiresAt": timestamp(time.time() + life),
            },
            "tokenType": "aws_sigv4",
            "clientId": CLIENT_ID,
            "refreshToken": REFRESH,
            "idToken": "e30.e30.e30",
            "dpopKey": self.key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.TraditionalOpenSSL,
                serialization.NoEncryption(),
            ).decode(),
        } | changes
        return {name: value for name, value in document.items() if value is not ...}

    def sign_in(self, life: float = 900, **changes) -> dict:
        """Leave a session in the cache."""
        self.folder.mkdir(parents=True, exist_ok=True)
        document = self.document(life, **changes)
        self.path.write_text(json.dumps(document))
        self.path.chmod(0o600)
        return document

    def cached(self) -> dict:
        return json.loads(self.path.read_text())


class SignIn(HttpDouble):
    """Refreshes the session of one login, by its refresh token and its key."""

    def __init__(self, login: Login):
        self.login, self.refused, self.mistakes, self.refreshes = login, "", [], 0
        self.proofs: set[str] = set()
        super().__init__(_Handler, service=self)

    def answer(self, path: str, headers, body: bytes) -> tuple[int, dict]:
        if self.refused:
            return 403, {"error": self.refused, "message": f"refused, with {REFRESH}"}
        try:
            assert path == "/v1/token"
            assert "Authorization" not in headers
            asked = json.loads(body)
            assert asked == {"clientId": CLIENT_ID, "grantType": "refresh_token", "refreshToken": REFRESH}
            self._verify(headers["DPoP"])
        except Exception as error:  # noqa: BLE001 - told to the test
            self.mistakes.append(repr(error))
            return 400, {"error": "INVALID_REQUEST", "message": "x"}
        self.refreshes += 1
        renewed = self.login.document()
        output = {"accessToken": renewed["accessToken"], "tokenType": "aws_sigv4", "expiresIn": 900}
        return 200, output | {"refreshToken": REFRESH}

    def _verify(self, proof: str) -> None:
        """RFC 9449, section 4.3."""
        head, claims, signature = (base64.urlsafe_b64decode(part + "==") for part in proof.split("."))
        header, said = json.loads(head), json.loads(claims)
        numbers = self.login.key.public_key().public_numbers()
        wanted = {
            name: base64.urlsafe_b64encode(value.to_bytes(32)).rstrip(b"=").decode()
            for name, value in (("x", numbers.x), ("y", numbers.y))
        }
        assert header == {"typ": "dpop+jwt", "alg": "ES256", "jwk": {"kty": "EC", "crv": "P-256"} | wanted}
        assert (said["htm"], said["htu"]) == ("POST", f"{self.url}/v1/token")
        assert abs(said["iat"] - time.time()) < 60
        assert said["jti"] not in self.proofs
        self.proofs.add(said["jti"])
        assert len(signature) == 64
        der = encode_dss_signature(int.from_bytes(signature[:32]), int.from_bytes(signature[32:]))
        self.login.key.public_key().verify(der, proof.rpartition(".")[0].encode(), ec.ECDSA(hashes.SHA256()))


class _Handler(http.server.BaseHTTPRequestHandler):
    service: SignIn

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        status, document = self.service.answer(self.path, self.headers, body)
        answer = json.dumps(document).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(answer)))
        self.send_header("Content-Type", "application/json")
        if status != 200:
            kind = {403: "AccessDeniedException", 400: "ValidationException"}[status]
            self.send_header("x-amzn-ErrorType", kind)
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_):
        """Say nothing."""
