"""IAM Identity Center's portal: GetRoleCredentials, for whoever has signed in."""

import hashlib
import http.server
import json
import time
import urllib.parse

from imds_proxy.credentials import timestamp
from support.aws import new_session
from support.http_double import HttpDouble

START_URL = "https://login.example.test/start"


def cached_token(token: str, name: str = START_URL, life: float = 3600) -> tuple[str, str]:
    """What `aws sso login` leaves in ~/.aws/sso/cache: a file's name and its content."""
    document = {"startUrl": START_URL, "region": "eu-west-1", "accessToken": token}
    document["expiresAt"] = timestamp(time.time() + life)
    return f"{hashlib.sha1(name.encode()).hexdigest()}.json", json.dumps(document)


class Portal(HttpDouble):
    """Gives sessions of one role to the bearer of one token, each for `life` seconds."""

    def __init__(self, token: str, role_arn: str, life: float = 3600):
        self._token, self._role_arn, self._life = token, role_arn, life
        super().__init__(_Handler, portal=self)

    def answer(self, token: str | None, asked: dict[str, str]) -> tuple[int, str, dict]:
        """Status, kind of error, document."""
        if token != self._token:
            return 401, "UnauthorizedException", {"message": "Session token not found or invalid"}
        if self._role_arn != f"arn:aws:iam::{asked['account_id']}:role/{asked['role_name']}":
            return 403, "ForbiddenException", {"message": "No access"}
        session = new_session(self._role_arn, "person")
        credentials = {
            "accessKeyId": session.access_key_id,
            "secretAccessKey": session.secret_access_key,
            "sessionToken": session.session_token,
            "expiration": int((time.time() + self._life) * 1000),
        }
        return 200, "", {"roleCredentials": credentials}


class _Handler(http.server.BaseHTTPRequestHandler):
    portal: Portal

    def do_GET(self):
        path, _, query = self.path.partition("?")
        assert path == "/federation/credentials"
        asked = dict(urllib.parse.parse_qsl(query))
        status, error, document = self.portal.answer(self.headers.get("x-amz-sso_bearer_token"), asked)
        body = json.dumps(document).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Content-Type", "application/json")
        if error:
            self.send_header("x-amzn-ErrorType", error)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        """Say nothing."""
