"""A file of credentials that something else pushes to the host."""

import json
import secrets
from datetime import UTC, datetime, timedelta

from support.daemon import HOST

ROLE = """
[roles.{name}]
source = "file"
path = "{path}"
"""


class Writer:
    """What puts credentials on the host: a new session at each write."""

    def __init__(self, folder, form="json", role="deploy"):
        self.path = folder / f"{role}.credentials"
        self.form = form
        self.key = ""
        self.role = ROLE.format(name=role, path=self.path)
        self.config = HOST + self.role

    def text(self, life=3600.0):
        self.key = "ASIA" + secrets.token_hex(8).upper()
        secret, token = secrets.token_urlsafe(30), "IQoJb3JpZ2luX2Vj" + secrets.token_urlsafe(200)
        end = (datetime.now(UTC) + timedelta(seconds=life)).isoformat(timespec="seconds")
        keys = {"AccessKeyId": self.key, "SecretAccessKey": secret}
        if self.form == "json":
            return json.dumps({"Version": 1, **keys, "SessionToken": token, "Expiration": end}, indent=2)
        if self.form == "imds":
            return json.dumps({"Code": "Success", **keys, "Token": token, "Expiration": end})
        lines = f"aws_access_key_id={self.key}\naws_secret_access_key={secret}\naws_session_token={token}\n"
        return f"[default]\n{lines}x_security_token_expires={end}\n"

    def rename(self, life=3600.0):
        new = self.path.with_suffix(".new")
        new.write_text(self.text(life))
        new.chmod(0o600)
        new.rename(self.path)

    def rewrite(self, life=3600.0):
        self.path.write_text(self.text(life))
        self.path.chmod(0o600)
