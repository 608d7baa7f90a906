"""An OpenID Connect provider, and AWS's side of it: who verifies its tokens against what IAM and the role say."""

import base64
import json
import time
from email.utils import formatdate

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from moto.iam.models import iam_backends
from moto.sts.models import sts_backends
from werkzeug.wrappers import Request, Response

from imds_proxy.credentials import timestamp
from imds_proxy.demo.aws_double import ACCOUNT, PARTITION, AwsDouble
from support.aws import parameter, sts_error

AUDIENCE = "sts.amazonaws.com"
SUBJECT = "system:serviceaccount:build:agent"
_ACTION = "AssumeRoleWithWebIdentity"
_ANSWER = """<AssumeRoleWithWebIdentityResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/">
<AssumeRoleWithWebIdentityResult><AssumedRoleUser><AssumedRoleId>{id}</AssumedRoleId><Arn>{arn}</Arn></AssumedRoleUser>
<Credentials><AccessKeyId>{session.access_key_id}</AccessKeyId>
<SecretAccessKey>{session.secret_access_key}</SecretAccessKey><SessionToken>{session.session_token}</SessionToken>
<Expiration>{end}</Expiration></Credentials></AssumeRoleWithWebIdentityResult></AssumeRoleWithWebIdentityResponse>"""


class Issuer:
    """Signs tokens with a key of its own (RS256)."""

    def __init__(self, url: str = "https://oidc.example.test/cluster"):
        self.url = url
        self.issued: list[str] = []
        self._key = rsa.generate_private_key(65537, 2048)

    @property
    def provider(self) -> str:
        """As IAM names it."""
        return self.url.removeprefix("https://")

    def token(self, life: float = 3600, **claims) -> str:
        """A token as Kubernetes projects them; `claims` are besides those it always has, or in their place."""
        now = int(time.time())
        always = {"iss": self.url, "aud": [AUDIENCE], "sub": SUBJECT, "iat": now, "exp": now + int(life)}
        always["jti"] = f"{len(self.issued)}"  # two of one second are two
        head = f"{_encode({'alg': 'RS256', 'typ': 'JWT'})}.{_encode(always | claims)}"
        signature = self._key.sign(head.encode(), padding.PKCS1v15(), hashes.SHA256())
        self.issued.append(f"{head}.{_base64(signature)}")
        return self.issued[-1]

    def signed(self, token: str) -> bool:
        head, _, signature = token.rpartition(".")
        try:
            self._key.public_key().verify(_bytes(signature), head.encode(), padding.PKCS1v15(), hashes.SHA256())
        except InvalidSignature:
            return False
        return True


class Federation:
    """What AWS does with the tokens of one issuer; an `AwsDouble.interfere`.

    `ahead` is by how many seconds AWS's clock is ahead of this host's; `life`, how long sessions are, if not as asked.
    """

    def __init__(self, double: AwsDouble, issuer: Issuer):
        self.issuer, self.ahead, self.life = issuer, 0.0, None
        self.tokens: list[str] = []
        self._double = double

    def register(self, *audiences: str) -> None:
        """Make the identity provider in IAM."""
        iam_backends[ACCOUNT][PARTITION].create_open_id_connect_provider(self.issuer.url, [], list(audiences), {})

    def unregister(self) -> None:
        iam_backends[ACCOUNT][PARTITION].open_id_providers.clear()

    def trust(self, role: str, statement: dict) -> None:
        """Give a role a trust policy of one statement."""
        policy = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
        iam_backends[ACCOUNT][PARTITION].update_assume_role_policy(role, policy)

    def statement(self, audience: str = AUDIENCE, subject: str = SUBJECT) -> dict:
        """A trust policy statement for one subject."""
        provider = self.issuer.provider
        return {
            "Effect": "Allow",
            "Principal": {"Federated": f"arn:aws:iam::{ACCOUNT}:oidc-provider/{provider}"},
            "Action": f"sts:{_ACTION}",
            "Condition": {"StringEquals": {f"{provider}:aud": audience, f"{provider}:sub": subject}},
        }

    def __call__(self, request: Request) -> Response | None:
        if parameter(request, "Action") != _ACTION:
            return None
        answer = self._refusal(request) or self._session(request)
        answer.headers["Date"] = formatdate(time.time() + self.ahead, usegmt=True)
        return answer

    def _refusal(self, request: Request) -> Response | None:
        assert "Authorization" not in request.headers, "this call is not signed"
        token = parameter(request, "WebIdentityToken")
        self.tokens.append(token)
        claims = json.loads(_bytes(token.split(".")[1]))
        provider = claims["iss"].removeprefix("https://")
        known = iam_backends[ACCOUNT][PARTITION].open_id_providers
        registered = known.get(f"arn:aws:iam::{ACCOUNT}:oidc-provider/{provider}")
        if registered is None:
            words = f"No OpenIDConnect provider found in your account for {claims['iss']}"
            return sts_error("InvalidIdentityToken", words)
        if not self.issuer.signed(token):
            return sts_error("InvalidIdentityToken", "The ID Token provided is not a valid JWT.")
        now = int(time.time() + self.ahead)
        if claims["exp"] <= now:
            words = f"Token expired: current date/time {now} must be before the expiration date/time {claims['exp']}"
            return sts_error("ExpiredTokenException", words)
        audiences = claims["aud"] if isinstance(claims["aud"], list) else [claims["aud"]]
        if not set(audiences) & set(registered.client_id_list):
            return sts_error("InvalidIdentityToken", "Incorrect token audience")
        if not _trusts(parameter(request, "RoleArn"), registered.arn, provider, audiences, claims["sub"]):
            return sts_error("AccessDenied", f"Not authorized to perform sts:{_ACTION}", 403)
        return None

    def _session(self, request: Request) -> Response:
        life = int(parameter(request, "DurationSeconds") or 3600)
        session = sts_backends[ACCOUNT][PARTITION].assume_role(
            region_name="us-east-1",
            role_session_name=parameter(request, "RoleSessionName"),
            role_arn=parameter(request, "RoleArn"),
            policy=parameter(request, "Policy"),
            duration=life,
            external_id=None,
        )
        if self.life is not None:
            life = self.life
            self._double.shorten(session.access_key_id, life)
        end = timestamp(time.time() + life)
        body = _ANSWER.format(id=session.user_id, arn=session.arn, session=session, end=end)
        return Response(body, content_type="text/xml")


def _trusts(role_arn: str, federated: str, provider: str, audiences: list[str], subject: str) -> bool:
    role = iam_backends[ACCOUNT][PARTITION].get_role_by_arn(role_arn)
    for statement in json.loads(role.assume_role_policy_document)["Statement"]:
        wanted = statement.get("Condition", {}).get("StringEquals", {})
        if (
            statement["Principal"].get("Federated") == federated
            and statement["Action"] == f"sts:{_ACTION}"
            and wanted.get(f"{provider}:aud") in {None, *audiences}
            and wanted.get(f"{provider}:sub") in {None, subject}
        ):
            return True
    return False


def _encode(part: dict) -> str:
    return _base64(json.dumps(part).encode())


def _base64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _bytes(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
