"""Ways for the AWS double to have a bad day: each is an `AwsDouble.interfere`. And what else of AWS moto has not."""

import re
import urllib.parse
from datetime import UTC, datetime

from moto.iam.models import iam_backends
from moto.sts.models import sts_backends
from werkzeug.wrappers import Request, Response

from imds_proxy.credentials import timestamp
from imds_proxy.demo.aws_double import ACCOUNT, PARTITION, AwsDouble

_CREDENTIALS = re.compile(rb"<Credentials>.*</Credentials>", re.DOTALL)
_EXPIRATION = re.compile(rb"<Expiration>[^<]*</Expiration>")
_KEY_ID = re.compile(rb"<AccessKeyId>([^<]*)</AccessKeyId>")


def parameter(request: Request, name: str) -> str:
    """A parameter of a query-protocol request, "" when it has none of that name."""
    return urllib.parse.parse_qs(request.get_data(as_text=True)).get(name, [""])[0]


def is_assume_role(request: Request) -> bool:
    return parameter(request, "Action") == "AssumeRole"


def really(double: AwsDouble, request: Request) -> Response:
    """What the double would have answered."""
    return Response.from_app(double._moto, request.environ)


def sts_error(code: str, message: str = "", status: int = 400) -> Response:
    body = (
        '<ErrorResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><Error><Type>Sender</Type>'
        f"<Code>{code}</Code><Message>{message}</Message></Error><RequestId>1</RequestId></ErrorResponse>"
    )
    return Response(body, status, content_type="text/xml")


def access_denied(request: Request, caller: str) -> Response:
    """Word for word what AWS says where a role is unknown, does not trust, or an external id is not the right one."""
    words = f"User: {caller} is not authorized to perform: sts:AssumeRole on resource: {parameter(request, 'RoleArn')}"
    return sts_error("AccessDenied", words, 403)


def short_session(double: AwsDouble, request: Request, life: float) -> Response:
    """A real session that ends sooner than AWS would let one end, for the double and for whoever reads the answer."""
    answer = really(double, request)
    if answer.status_code == 200:
        found = _KEY_ID.search(answer.data)
        double.shorten(found[1].decode(), life)
        end = timestamp(datetime.now(UTC).timestamp() + life)
        answer.data = _EXPIRATION.sub(f"<Expiration>{end}</Expiration>".encode(), answer.data)
    return answer


def without_credentials(double: AwsDouble, request: Request) -> Response:
    """A 200 of STS's own form, with nothing in it."""
    answer = really(double, request)
    answer.data = _CREDENTIALS.sub(b"", answer.data)
    return answer


def truncated(double: AwsDouble, request: Request) -> Response:
    """A 200 that ends in the middle of the session token: what is there of it is a secret."""
    answer = really(double, request)
    answer.data = answer.data[: answer.data.index(b"</SessionToken>") - 4]
    return answer


def user_keys() -> list[tuple[str, str, str]]:
    """User, key id and secret key of every user of the account."""
    users = iam_backends[ACCOUNT][PARTITION].users.values()
    return [(user.name, key.access_key_id, key.secret_access_key) for user in users for key in user.access_keys]


def sessions() -> list:
    """Every session handed out, with `access_key_id`, `secret_access_key` and `session_token`."""
    return sts_backends[ACCOUNT][PARTITION].assumed_roles


def new_session(role_arn: str, name: str = "web1", life: float = 3600):
    """A session as somebody else's tool may have left it here, with `access_key_id` and so on."""
    return sts_backends[ACCOUNT][PARTITION].assume_role("us-east-1", name, role_arn, None, life, None)
