"""What a credential service answers in place of credentials, as our four outcomes with what to do about each.

A body may hold anything: of it a message repeats an error code, if it has the form of one, and nothing else.
"""

import json
from http import HTTPStatus

from imds_proxy.config_http import HttpConfig
from imds_proxy.errors import Denied, Invalid, SourceError, Throttled, Unreachable
from imds_proxy.sources.documents import safe_code
from imds_proxy.sources.retry_after import retry_after
from imds_proxy.sources.web import Answer

_DENIED = {
    "container": "may its owner have this role's credentials?",
    "imds": "is instance metadata on there, and is this host granted a role?",
    "process": "may its owner have this role's credentials?",
    "iot": "is the certificate active, does its policy allow iot:AssumeRoleWithCertificate on the role alias, and is"
    " the thing that x-amzn-iot-thingname (headers) names attached to it?",
    "vault": "does its policy allow to read this path, in this X-Vault-Namespace (headers)?",
}
_WHERE = {
    "imds": "url is the service's base, as in http://127.0.0.1:1338/, or ends with"
    " /latest/meta-data/iam/security-credentials/ROLE",
    "iot": "url is https://ENDPOINT/role-aliases/ALIAS/credentials; `aws iot describe-endpoint --endpoint-type"
    " iot:CredentialProvider` tells ENDPOINT",
    "vault": "url is https://VAULT/v1/aws/creds/ROLE or https://VAULT/v1/aws/sts/ROLE, with the engine's mount for aws",
}
_THERE_NOT = {HTTPStatus.NOT_FOUND, HTTPStatus.METHOD_NOT_ALLOWED, HTTPStatus.GONE}


def refusal(role: str, settings: HttpConfig, answer: Answer) -> SourceError | None:
    """The error of ours for an answer; None for one that may hold what was asked for."""
    status, shape = answer.status, settings.shape
    code = answer.shown(_code(answer) or "")
    message = f'role "{role}": {answer.place} answered {status}{f" ({code})" if code else ""}'
    if status in {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN}:
        return Denied(message, f"{_proof(settings)}; {_DENIED[shape]}")
    if status == HTTPStatus.TOO_MANY_REQUESTS:
        advice = "nothing: it is retried; if it lasts, let the service allow this host more"
        return Throttled(message, advice, retry_after(answer.headers))
    if status == HTTPStatus.PROXY_AUTHENTICATION_REQUIRED:
        return Unreachable(message, "give HTTPS_PROXY or HTTP_PROXY a login, or name the host in NO_PROXY")
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        return Unreachable(message, "see that service's own log; it is retried")
    if status in _THERE_NOT:
        return Invalid(message, f"correct url{f': {_WHERE[shape]}' if shape in _WHERE else ''}")
    if status != HTTPStatus.OK:
        return Invalid(message, f'see that service\'s own log, and check url and shape = "{shape}"')
    if "html" in answer.headers.get("content-type", "").lower() or answer.body.lstrip()[:1] == b"<":
        return Invalid(
            f'role "{role}": {answer.place}: this is HTML, not the {shape} document',
            "correct url: a login page or some other web server answers there",
        )
    return None


def _proof(settings: HttpConfig) -> str:
    """What to look at first: that with which this daemon says who it is."""
    if settings.token_file:
        return f"is the token in {settings.token_file} the right one, and still valid"
    if settings.client_certificate:
        return f"is {settings.client_certificate} the right certificate, and known there"
    return "it may want a token (token_file) or a certificate (client_certificate)"


def _code(answer: Answer) -> str | None:
    """The error code of AWS's services and of the container protocol."""
    if header := safe_code(answer.headers.get("x-amzn-errortype", "").partition(":")[0]):
        return header
    try:
        document = json.loads(answer.body)
    except (ValueError, RecursionError):
        return None
    return safe_code(document.get("Code") or document.get("code")) if isinstance(document, dict) else None
