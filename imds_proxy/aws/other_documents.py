"""What a document is that is not the one that was expected, and which source or setting takes it.

In: what a command printed, a file holds or a service answered. Out: words for a message; of the document itself they
repeat nothing but an error code, and Vault's own errors without what may be a secret.
"""

import base64
import json
import re
from typing import Any, Final, NamedTuple

from imds_proxy.errors import Invalid
from imds_proxy.host.redaction import hidden


class Other(NamedTuple):
    """What it is, and what to do."""

    what: str
    advice: str


_PROCESS_DOCUMENT: Final = (
    '{"Version": 1, "AccessKeyId": …, "SecretAccessKey": …, "SessionToken": …, "Expiration": "2027-01-31T12:00:00Z"}'
)
_NAMES: Final = {
    "process": "the process document, of credential_process",
    "imds": "the imds document, of instance metadata",
    "container": "the container document, of ECS and EKS Pod Identity",
    "iot": "the iot document, of AWS IoT's credentials provider",
    "vault": "the vault document, of HashiCorp Vault's AWS secrets engine",
    "sts": "the answer of aws sts",
    "sso": "the answer of aws sso get-role-credentials",
    "login": "the cache of aws login",
    "iam": "the answer of aws iam create-access-key: a long-lived key",
}
_SOURCES: Final = {
    "process": 'source = "process" takes it from a command, and source = "file" with format = "json" from a file',
    "imds": 'source = "http" with shape = "imds" asks for it, and source = "file" with format = "imds" takes it from a'
    " file; jq '{Version: 1, AccessKeyId, SecretAccessKey, SessionToken: .Token, Expiration}' makes the process"
    " document of it",
    "container": 'source = "http" with shape = "container" asks for it',
    "iot": 'source = "http" with shape = "iot" and client_certificate asks for it',
    "vault": 'source = "http" with shape = "vault", url = "https://VAULT/v1/aws/sts/ROLE" and token_file asks for it,'
    " and knows by that when the lease began",
    "sts": 'source = "assume-role" asks for it, and renews it with profile as the base; jq \'.Credentials + {Version:'
    " 1}' makes the process document of it",
    "sso": 'source = "ambient" with the profile that has sso_session asks for it',
    "login": 'source = "ambient" with the profile that has login_session takes it, and renews it',
    "iam": 'give it to this daemon alone (AWS profile or environment), and use source = "assume-role"',
}
_OF_FILES: Final = {"process": 'set format = "json"', "imds": 'set format = "imds"'}
_SHAPES: Final = frozenset({"process", "imds", "container", "iot", "vault"})

# An error code: shorter than a secret key, and not all capitals as a key id is.
_CODE: Final = re.compile(r"[A-Z](?=[A-Z]*[a-z])[A-Za-z]{2,38}")
_LARGEST: Final = 1 << 16  # bytes: no credentials are so much, and it is looked at on the event loop
_SHELL: Final = re.compile(rb"(?m)^[ \t]*(?:export |set (?:-gx )?|\$env:)?[\"']?AWS_ACCESS_KEY_ID[\"']? ?[= ]")
_INI: Final = re.compile(rb"(?mi)^[ \t]*aws_access_key_id[ \t]*=")
_YAML: Final = re.compile(rb"(?m)^[ \t]*(?:- )?AccessKeyId:")
_JWT: Final = re.compile(rb"eyJ[\w-]+\.[\w-]+\.[\w-]*")
_BASE64: Final = re.compile(rb"[A-Za-z0-9+/_-]{16,}={0,2}")
_HTML: Final = re.compile(
    rb"(?i)<(?:\?xml[^>]*>\s*<)?(?:!--|(?:!doctype\s+html|html|head|body|title|meta|script|div|p|h1)\b)"
)
_ROOT: Final = re.compile(rb"<(?:\?xml[^>]*>\s*<)?([A-Za-z][\w:-]{0,40})")


def safe_code(said: object) -> str | None:
    """An error code, if it is none but that; None for anything that could be a secret."""
    return said if isinstance(said, str) and _CODE.fullmatch(said) else None


def wanted(shape: str) -> str:
    """The document that was expected, as a command has to print it or a service to answer it."""
    return f"the {shape} document" if shape != "process" else f"the process document, {_PROCESS_DOCUMENT}"


def other_document(document: Any, shape: str, source: str) -> Other | None:
    """What a document is in place of that of `shape`; None where nothing is known of it.

    Args:
        document: What JSON gave.
        shape: The document that was expected.
        source: `source` of the role: "process", "file" or "http".
    """
    if not isinstance(document, dict):
        return None
    if isinstance(document.get("errors"), list):
        return Other(f"Vault answered with errors{vault_errors(document)}", "see in Vault what it lacks")
    if isinstance(document.get("wrap_info"), dict):
        return Other("this is Vault's wrapped answer, which holds no credentials", "ask Vault without X-Vault-Wrap-TTL")
    kind, said = _kind(document), document.get("Code") or document.get("code")
    if kind is None and said is not None and shape != "imds":
        code = safe_code(said)
        return Other(
            f"this is an error in place of credentials{f' ({code})' if code else ''}", "see there what it lacks"
        )
    if kind is None or kind == shape or (kind, shape) == ("imds", "container"):
        return None
    return Other(f"this is {_NAMES[kind]}, not the {shape} document", _advice(kind, shape, source))


def check_kind(output: bytes, place: str) -> None:
    """Raise Invalid where a credential_process printed another document; what else is wrong with it botocore says."""
    try:
        document = json.loads(output)
    except (ValueError, RecursionError):
        other = other_text(output, "process", "process")
    else:
        other = other_document(document, "process", "process")
    if other is not None:
        raise Invalid(f"{place}: {other.what}", other.advice)


def _advice(kind: str, shape: str, source: str) -> str:
    if source == "http" and kind in _SHAPES:
        return f'set shape = "{kind}", or have the service answer {wanted(shape)}'
    if source == "file" and kind in _OF_FILES:
        return f"{_OF_FILES[kind]}, or have {wanted(shape)} written"
    if kind == "iam":
        return _SOURCES[kind]
    verb = {"process": "print", "file": "write"}.get(source, "answer")
    return f"{_SOURCES[kind]}; or have it {verb} {wanted(shape)}"


def _kind(document: dict[str, Any]) -> str | None:
    """Whose a document is, by its keys."""
    for table, key, kind in _TABLES:
        fields = document.get(table)
        if isinstance(fields, dict) and key in fields:
            return kind
    if "AccessKeyId" not in document:
        return None
    kinds = {"Version": "process", "Code": "imds", "SessionToken": "process", "Token": "container"}
    return next((kind for key, kind in kinds.items() if key in document), None)


_TABLES: Final = (
    ("data", "access_key", "vault"),
    ("credentials", "accessKeyId", "iot"),
    ("Credentials", "AccessKeyId", "sts"),
    ("roleCredentials", "accessKeyId", "sso"),
    ("accessToken", "accessKeyId", "login"),
    ("AccessKey", "AccessKeyId", "iam"),
)


def other_text(body: bytes, shape: str, source: str) -> Other | None:
    """What a text is that is not JSON; None where nothing is known of it."""
    verb = {"process": "print", "file": "write"}.get(source, "answer")
    instead = f"have it {verb} {wanted(shape)}"
    if markup := markup_of(body):
        return Other(markup, f"have the program ask for JSON (--output json); {instead}")
    return _plain_text(body, instead, source) if len(body) <= _LARGEST else None


def _plain_text(body: bytes, instead: str, source: str) -> Other | None:
    """The same of a text without markup; `instead` says what to have in its place."""
    if _SHELL.search(body):
        command = "aws configure export-credentials --format process"
        return Other("lines for a shell", f"{command} prints {wanted('process')}")
    if _INI.search(body):
        takes = 'set format = "ini"' if source == "file" else 'source = "file" with format = "ini" takes it from a file'
        return Other("a profile of an INI file", f"{takes}; or {instead}")
    if _YAML.search(body):
        return Other("YAML", f"--output json; {instead}")
    if _JWT.fullmatch(body.strip()):
        keys = {"process": "token_command", "file": "token_file"}.get(source, "token_file or token_command")
        return Other("a JSON Web Token", f'source = "web-identity" takes it, with {keys}')
    if is_base64_of(body, _is_readable):
        return Other("credentials in base64", "have it decoded, as with base64 --decode")
    if _has_words_before(body):
        return Other("words before the document", "have those go to standard error" if source == "process" else instead)
    return None


def markup_of(body: bytes) -> str | None:
    """What markup a text is: "HTML", "XML (ErrorResponse)" with the name of its first element; None for neither."""
    text = body.lstrip(b"\xef\xbb\xbf \t\r\n")
    if not text.startswith(b"<"):
        return None
    if _HTML.match(text):
        return "HTML"
    root = _ROOT.match(text)
    return f"XML ({hidden(root[1].decode('ascii'))})" if root else "XML"


def is_base64_of(body: bytes, test: Any) -> bool:
    """Whether a text is base64 of something that `test(content)` is true of."""
    text = b"".join(body.split())
    if not _BASE64.fullmatch(text):
        return False
    try:
        return bool(test(base64.b64decode(text.translate(bytes.maketrans(b"-_", b"+/")))))
    except ValueError:
        return False


def vault_errors(document: Any) -> str:
    """What Vault says in `errors`, else in `warnings`, as the end of a message; "" where it says nothing."""
    said = document.get("errors") or document.get("warnings") if isinstance(document, dict) else None
    texts = [" ".join(text.split()) for text in said if isinstance(text, str)] if isinstance(said, list) else []
    return f": {hidden('; '.join(texts))}" if texts else ""


def _is_readable(content: bytes) -> bool:
    return content.lstrip()[:1] == b"{" or any(form.search(content) for form in (_SHELL, _INI, _YAML))


def _has_words_before(body: bytes) -> bool:
    try:
        return isinstance(json.loads(body[body.index(b"{") :]), dict)
    except (ValueError, RecursionError):
        return False
