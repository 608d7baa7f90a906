"""What a credential service answers in place of credentials, as our four outcomes with what to do about each.

A body may hold anything: of it a message repeats an error code, if it has the form of one, and what Vault says in its
`errors`, without what may be a secret; nothing else.
"""

import json
import re
from http import HTTPStatus
from typing import Any, Final

from imds_proxy.aws.other_documents import markup_of, safe_code, vault_errors
from imds_proxy.config.http_role import HttpConfig
from imds_proxy.errors import Denied, Invalid, SourceError, Throttled, Unreachable
from imds_proxy.host.http_client import Answer
from imds_proxy.host.retry_after import retry_after

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
    said = answer.shown(vault_errors(_document(answer))) if shape == "vault" else ""
    message = f'role "{role}": {answer.place} answered {status}{f" ({code})" if code else ""}{said}'
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
    is_html = "html" in answer.headers.get("content-type", "").lower()
    if markup := markup_of(answer.body) or ("HTML" if is_html else None):
        what = f'role "{role}": {answer.place}: this is {markup}, not the {shape} document'
        return Invalid(what, f"correct url: {_OTHER_SERVER if markup == 'HTML' else _XML_SERVER}")
    return None


_OTHER_SERVER: Final = "a login page or some other web server answers there"
_XML_SERVER: Final = (
    "AWS STS, S3 and IAM answer in XML, and so does a SAML login; for a role of AWS STS the source is assume-role or"
    " web-identity"
)


def _proof(settings: HttpConfig) -> str:
    """What to look at first: that with which this daemon says who it is."""
    if settings.token_file:
        return f"is the token in {settings.token_file} the right one, and still valid"
    if settings.client_certificate:
        return f"is {settings.client_certificate} the right certificate, and known there"
    return "it may want a token (token_file) or a certificate (client_certificate)"


def _document(answer: Answer) -> Any:
    """The body, if it is JSON; else None."""
    try:
        return json.loads(answer.body)
    except (ValueError, RecursionError):
        return None


def _code(answer: Answer) -> str | None:
    """The error code of AWS's services, those that answer in XML among them, and of the container protocol."""
    if header := safe_code(answer.headers.get("x-amzn-errortype", "").partition(":")[0]):
        return header
    if markup_of(answer.body) and (found := _XML_CODE.search(answer.body)):
        return safe_code(found[1].decode("ascii"))
    document = _document(answer)
    return safe_code(document.get("Code") or document.get("code")) if isinstance(document, dict) else None


_XML_CODE: Final = re.compile(rb"<Code>([A-Za-z]{1,64})</Code>")
