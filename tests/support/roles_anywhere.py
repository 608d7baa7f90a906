"""IAM Roles Anywhere on loopback, which believes nothing: it verifies every request from the bytes that came.

Written from "The IAM Roles Anywhere authentication signing process" and "The IAM Roles Anywhere trust model" of the
IAM Roles Anywhere user guide alone, so that a mistake of the signer's is not made here a second time.
"""

import base64
import calendar
import hashlib
import json
import re
import secrets
import threading
import time
from dataclasses import dataclass
from email.utils import formatdate
from urllib.parse import quote, unquote

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding
from werkzeug.serving import WSGIRequestHandler, make_server
from werkzeug.wrappers import Request, Response

ACCOUNT = "123456789012"
REGION = "eu-west-1"
TRUST_ANCHOR = f"arn:aws:rolesanywhere:{REGION}:{ACCOUNT}:trust-anchor/11111111-2222-3333-4444-555555555555"
PROFILE = f"arn:aws:rolesanywhere:{REGION}:{ACCOUNT}:profile/66666666-7777-8888-9999-000000000000"
ROLE = f"arn:aws:iam::{ACCOUNT}:role/Host"
TRUSTED = frozenset({"sts:AssumeRole", "sts:TagSession", "sts:SetSourceIdentity"})

_WINDOW = 300
_LONGEST_CHAIN = 5
_AUTHORIZATION = re.compile(
    r"(AWS4-X509-(?:RSA|ECDSA)-SHA256) Credential=(\d+)/(\d{8})/([a-z0-9-]+)/rolesanywhere/aws4_request, "
    r"SignedHeaders=([a-z0-9;-]+), Signature=([0-9a-f]+)"
)


class RefusedError(Exception):
    """AWS's answer to a request that it does not grant."""

    def __init__(self, text, code="AccessDeniedException", status=403):
        super().__init__(text)
        self.text, self.code, self.status = text, code, status


@dataclass(frozen=True)
class Received:
    """One granted request as it came."""

    target: str
    headers: dict[str, str]
    body: bytes
    certificate: x509.Certificate
    chain: list[x509.Certificate]

    @property
    def asked(self) -> dict:
        return parameters(self.target, self.body)


class RolesAnywhereDouble:
    """A trust anchor, a profile and a role.

    Args:
        anchor: The trust anchor's certificate.
        tls: Serve HTTPS with this context.
    """

    def __init__(self, anchor, tls=None):
        self.anchor = anchor
        self.trusted = set(TRUSTED)
        """What the role's trust policy lets the service do."""
        self.accepts_session_name = False
        """Whether the profile does."""
        self.ahead = 0.0
        """Seconds its clock is ahead of this host's."""
        self.interfere = lambda _: None
        self.received: list[Received] = []
        self.sessions: list[dict[str, str]] = []
        self._server = make_server("127.0.0.1", 0, self._answer, threaded=True, request_handler=_Quiet, ssl_context=tls)
        self.url = f"{'https' if tls else 'http'}://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, name="roles-anywhere-double", daemon=True)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def reset(self):
        self.__dict__ |= {"trusted": set(TRUSTED), "accepts_session_name": False, "ahead": 0.0}
        self.interfere = lambda _: None
        self.received.clear()
        self.sessions.clear()

    @property
    def now(self):
        return time.time() + self.ahead

    def _answer(self, environ, start_response):
        request = Request(environ)
        request.get_data(cache=True, parse_form_data=False)
        answer = self.interfere(request) or self.really(request)
        answer.headers["Date"] = formatdate(self.now, usegmt=True)
        return answer(environ, start_response)

    def really(self, request):
        """What it answers on a good day."""
        try:
            received = verified(request, self.anchor, self.now)
            session = self._session(received)
        except RefusedError as error:
            return refusal(error.text, error.code, error.status)
        self.received.append(received)
        self.sessions.append(session["credentials"])
        return _json(
            {"credentialSet": [session], "subjectArn": f"arn:aws:rolesanywhere:{REGION}:{ACCOUNT}:subject/1"}, 201
        )

    def _session(self, received):
        asked = received.asked
        if (asked["trustAnchorArn"], asked["profileArn"]) != (TRUST_ANCHOR, PROFILE):
            raise RefusedError("Resource not found", "ResourceNotFoundException", 404)
        duration = asked.get("durationSeconds", 3600)
        if not isinstance(duration, int) or not 900 <= duration <= 43200:
            raise RefusedError("Invalid durationSeconds", "ValidationException", 400)
        if "roleSessionName" in asked and not self.accepts_session_name:
            raise RefusedError("Not authorized to set roleSessionName.")
        if asked["roleArn"] != ROLE or not self.trusted >= TRUSTED:
            raise RefusedError(f"Unable to assume role for {asked['roleArn']}")
        name = asked.get("roleSessionName", f"{received.certificate.serial_number:x}")
        credentials = {
            "accessKeyId": "ASIA" + secrets.token_hex(8).upper(),
            "secretAccessKey": secrets.token_urlsafe(30),
            "sessionToken": secrets.token_urlsafe(120),
            "expiration": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(self.now + duration)),
        }
        return {
            "assumedRoleUser": {"arn": f"arn:aws:sts::{ACCOUNT}:assumed-role/Host/{name}", "assumedRoleId": "AROA1:x"},
            "credentials": credentials,
            "packedPolicySize": 10,
            "roleArn": ROLE,
            "sourceIdentity": "CN=host",
        }


def refusal(text, code, status):
    """An error of AWS's own form."""
    answer = _json({"message": text}, status)
    answer.headers["x-amzn-errortype"] = code
    return answer


def verified(request, anchor, now):
    """The request, if everything about it is as AWS wants it; raises RefusedError."""
    target, body = request.environ["REQUEST_URI"], request.get_data()
    headers = {name.lower(): value for name, value in request.headers.items()}
    if (request.method, target.partition("?")[0]) != ("POST", "/sessions"):
        raise RefusedError("no such operation", "UnknownOperationException", 404)
    found = _AUTHORIZATION.fullmatch(headers.get("authorization", ""))
    if found is None:
        raise RefusedError("Authorization header is malformed", "IncompleteSignatureException")
    algorithm, serial, day, region, names, signature = found.groups()
    names = names.split(";")
    wanted = {"host", "x-amz-date", "x-amz-x509"} | headers.keys() & {"x-amz-x509-chain", "content-type"}
    if names != sorted(names) or not wanted <= set(names) <= headers.keys():
        raise RefusedError("SignedHeaders lacks a header", "IncompleteSignatureException")
    date = headers["x-amz-date"]
    if date[:8] != day or region != REGION:
        raise RefusedError("Credential should be scoped to a valid region and date")
    if abs(time_of(date) - now) > _WINDOW:
        raise RefusedError(f"Signature expired: {date}")
    certificate = _certificate(headers["x-amz-x509"])
    if int(serial) != certificate.serial_number:
        raise RefusedError("Credential is not the certificate's")
    hashed = hashlib.sha256(canonical(target, headers, names, body).encode()).hexdigest()
    text = f"{algorithm}\n{date}\n{day}/{region}/rolesanywhere/aws4_request\n{hashed}"
    _check_signature(certificate, algorithm, bytes.fromhex(signature), text.encode())
    chain = [_certificate(each) for each in headers.get("x-amz-x509-chain", "").split(",") if each]
    _check_end_entity(certificate, now)
    if not _leads_to(certificate, chain, anchor, now):
        raise RefusedError("Untrusted certificate. Insufficient certificate")
    return Received(target, headers, body, certificate, chain)


def canonical(target, headers, names, body):
    """The canonical request of what came in."""
    path, _, query = target.partition("?")
    pairs = [pair.partition("=") for pair in query.split("&") if pair]
    encoded = sorted((_encode(unquote(name)), _encode(unquote(value))) for name, _, value in pairs)
    lines = ["POST", path, "&".join(f"{name}={value}" for name, value in encoded)]
    lines += [f"{name}:{re.sub(' +', ' ', headers[name]).strip()}" for name in names]
    return "\n".join([*lines, "", ";".join(names), hashlib.sha256(body).hexdigest()])


def parameters(target, body):
    """What is asked for, by query or by body."""
    query = target.partition("?")[2]
    pairs = (pair.partition("=") for pair in query.split("&") if pair)
    return {unquote(name): unquote(value) for name, _, value in pairs} | json.loads(body)


def time_of(date):
    return float(calendar.timegm(time.strptime(date, "%Y%m%dT%H%M%SZ")))


def _encode(text):
    return quote(text, safe="-_.~")


def _certificate(text):
    try:
        return x509.load_der_x509_certificate(base64.b64decode(text, validate=True))
    except ValueError:
        raise RefusedError("X.509 certificate could not be read") from None


def _check_signature(certificate, algorithm, signature, text):
    key = certificate.public_key()
    is_ec = isinstance(key, ec.EllipticCurvePublicKey)
    if algorithm != f"AWS4-X509-{'ECDSA' if is_ec else 'RSA'}-SHA256":
        raise RefusedError("the algorithm is not the key's", "IncompleteSignatureException")
    how = (ec.ECDSA(hashes.SHA256()),) if is_ec else (padding.PKCS1v15(), hashes.SHA256())
    try:
        key.verify(signature, text, *how)
    except InvalidSignature:
        raise RefusedError("The request signature we calculated does not match the signature you provided") from None


def _check_end_entity(certificate, now):
    if certificate.version is not x509.Version.v3 or isinstance(certificate.signature_hash_algorithm, hashes.SHA1):
        raise RefusedError("Untrusted certificate")
    extensions = {type(each.value): each.value for each in certificate.extensions}
    usage = extensions.get(x509.KeyUsage)
    if extensions[x509.BasicConstraints].ca or (usage is not None and not usage.digital_signature):
        raise RefusedError("Insufficient certificate")
    if not _is_valid(certificate, now):
        raise RefusedError("Untrusted certificate. Certificate expired or not yet valid")


def _leads_to(certificate, chain, anchor, now, steps=1):
    if steps > _LONGEST_CHAIN:
        return False
    if _issued(anchor, certificate) and _is_valid(anchor, now):
        return True
    above = [each for each in chain if each != certificate and _is_authority(each) and _is_valid(each, now)]
    return any(_issued(each, certificate) and _leads_to(each, chain, anchor, now, steps + 1) for each in above)


def _issued(issuer, certificate):
    try:
        certificate.verify_directly_issued_by(issuer)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True


def _is_authority(certificate):
    return certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca


def _is_valid(certificate, now):
    return certificate.not_valid_before_utc.timestamp() <= now <= certificate.not_valid_after_utc.timestamp()


def _json(document, status):
    return Response(json.dumps(document), status, content_type="application/json")


class _Quiet(WSGIRequestHandler):
    def log(self, *_):
        """What was asked is in `received`."""
