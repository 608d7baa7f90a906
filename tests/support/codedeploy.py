"""CodeDeploy on loopback: its API of on-premises instances, and the command service that agents poll.

The API is written from the "CodeDeploy API Reference", and every request and answer is held against botocore's own
model of it. Both verify signatures by themselves ("Create a signed AWS API request" of the IAM user guide).
"""

import hashlib
import hmac
import http.server
import json
import re
import ssl
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Self
from urllib.parse import quote, urlsplit

import botocore.session
from botocore.validate import ParamValidator

DAY = 86400.0
OPERATOR = ("AKIAOPERATOR00000001", "operator-secret-key-of-the-double-0000000")
_AUTHORIZATION = re.compile(
    r"AWS4-HMAC-SHA256 Credential=(?P<key>[^/]+)/(?P<date>\d{8})/(?P<region>[^/]+)/(?P<service>[^/]+)/aws4_request, ?"
    r"SignedHeaders=(?P<signed>[^,]+), ?Signature=(?P<signature>[0-9a-f]{64})"
)
_NAME = re.compile(r"[A-Za-z0-9._+=,@-]{1,100}")
_SESSION_ARN = re.compile(r"arn:aws:sts::\d{12}:assumed-role/[^/]+/[^/]+")


@dataclass
class Request:
    """One request as it came."""

    target: str
    headers: dict[str, str]
    body: bytes
    key_id: str | None = None

    @property
    def parameters(self) -> dict:
        return json.loads(self.body)


class RefusedError(Exception):
    """An exception of the service, as its JSON protocol has them."""

    def __init__(self, code: str, message: str = "", status: int = 400):
        self.code, self.message, self.status = code, message, status


class Service:
    """An AWS service with the JSON 1.1 protocol.

    `secret` is asked for the secret key of a key id; None is a key that nobody has.
    """

    def __init__(self, secret: Callable[[str], str | None], tls: ssl.SSLContext | None = None, name: str = "127.0.0.1"):
        self.requests: list[Request] = []
        self._secret = secret
        service = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                self.send_response(404)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def do_POST(self):
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                headers = {key.lower(): value for key, value in self.headers.items()}
                status, answer = service.answer(Request(headers.get("x-amz-target", ""), headers, body), self.path)
                content = b"" if answer is None else json.dumps(answer).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/x-amz-json-1.1")
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *_):
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        if tls:
            self._server.socket = tls.wrap_socket(self._server.socket, server_side=True)
        self.url = f"{'https' if tls else 'http'}://{name}:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def answer(self, request: Request, path: str) -> tuple[int, dict | None]:
        self.requests.append(request)
        try:
            request.key_id = verified(request, path, self._secret)
            return 200, self.handle(request)
        except RefusedError as error:
            return error.status, {"__type": error.code, "message": error.message}

    def handle(self, request: Request) -> dict | None:
        raise NotImplementedError


def verified(request: Request, path: str, secret_of: Callable[[str], str | None]) -> str:
    """The id of the key that signed, by Signature Version 4; raises what AWS would."""
    found = _AUTHORIZATION.fullmatch(request.headers.get("authorization", ""))
    if not found:
        raise RefusedError("MissingAuthenticationTokenException", "Missing Authentication Token", 403)
    secret = secret_of(found["key"])
    if secret is None:
        raise RefusedError("UnrecognizedClientException", "The security token included in the request is invalid.")
    names = found["signed"].split(";")
    assert {"host", "x-amz-date"} <= set(names), "what has to be signed"
    lines = [f"{name}:{' '.join(request.headers[name].split())}" for name in names]
    parts = urlsplit(path)
    canonical = "\n".join(
        ["POST", quote(parts.path), parts.query, *lines, "", found["signed"], hashlib.sha256(request.body).hexdigest()]
    )
    scope = "/".join([found["date"], found["region"], found["service"], "aws4_request"])
    to_sign = ["AWS4-HMAC-SHA256", request.headers["x-amz-date"], scope, hashlib.sha256(canonical.encode()).hexdigest()]
    key = f"AWS4{secret}".encode()
    for part in scope.split("/"):
        key = hmac.digest(key, part.encode(), "sha256")
    if not hmac.compare_digest(hmac.new(key, "\n".join(to_sign).encode(), "sha256").hexdigest(), found["signature"]):
        raise RefusedError("InvalidSignatureException", "The request signature we calculated does not match", 403)
    return found["key"]


@dataclass
class Registered:
    """One instance; times in seconds since the epoch."""

    name: str
    iamSessionArn: str | None = None  # noqa: N815 - AWS's name
    iamUserArn: str | None = None  # noqa: N815
    register: float = field(default_factory=time.time)
    deregister: float | None = None
    tags: dict[str, str] = field(default_factory=dict)

    def is_gone(self) -> bool:
        return self.deregister is not None and time.time() - self.deregister > DAY


class CodeDeployDouble(Service):
    """The API of on-premises instances. `denied` are operations that the operator may not call.

    `arn_first`: the API reference does not say which of two conflicts is told of; with this it is the ARN's.
    """

    def __init__(self, **options):
        super().__init__(dict([OPERATOR]).get, **options)
        self.instances: dict[str, Registered] = {}
        self.denied: set[str] = set()
        self.arn_first = False
        self._model = botocore.session.get_session().get_service_model("codedeploy")

    def operations(self) -> list[str]:
        return [request.target.rpartition(".")[2] for request in self.requests]

    def handle(self, request: Request) -> dict | None:
        prefix, _, operation = request.target.rpartition(".")
        assert prefix == "CodeDeploy_20141006"
        model = self._model.operation_model(operation)
        parameters = request.parameters
        self._fits(parameters, model.input_shape)
        if operation in self.denied:
            who = "arn:aws:iam::123456789012:user/operator"
            words = f"User: {who} is not authorized to perform: codedeploy:{operation} on resource: *"
            raise RefusedError("AccessDeniedException", words)
        answer = getattr(self, f"_{operation}")(**parameters)
        if model.output_shape is not None:
            self._fits(answer, model.output_shape)
        return answer

    def _fits(self, value: dict, shape) -> None:
        report = ParamValidator().validate(value, shape)
        assert not report.has_errors(), report.generate_report()
        assert set(value) <= set(shape.members), "members that the model does not know"

    def _RegisterOnPremisesInstance(self, instanceName="", iamSessionArn=None, iamUserArn=None):  # noqa: N802, N803
        _check_name(instanceName)
        if iamSessionArn and iamUserArn:
            raise RefusedError("MultipleIamArnsProvidedException")
        if not iamSessionArn and not iamUserArn:
            raise RefusedError("IamArnRequiredException")
        if iamSessionArn and not _SESSION_ARN.fullmatch(iamSessionArn):
            raise RefusedError("InvalidIamSessionArnException")
        living = [each for each in self.instances.values() if not each.is_gone()]
        name_taken = any(each.name == instanceName for each in living)
        arn_taken = iamSessionArn and any(
            each.iamSessionArn == iamSessionArn and each.deregister is None for each in living
        )
        if arn_taken and (self.arn_first or not name_taken):
            raise RefusedError("IamSessionArnAlreadyRegisteredException", "the session ARN is registered")
        if name_taken:
            raise RefusedError("InstanceNameAlreadyRegisteredException", "the name is registered")
        self.instances[instanceName] = Registered(instanceName, iamSessionArn, iamUserArn)

    def _AddTagsToOnPremisesInstances(self, instanceNames, tags):  # noqa: N802, N803
        for each in self._registered(instanceNames, tags):
            joined = each.tags | {tag["Key"]: tag["Value"] for tag in tags}
            if len(joined) > 10:
                raise RefusedError("TagLimitExceededException", "at most 10 tags")
            each.tags = joined

    def _RemoveTagsFromOnPremisesInstances(self, instanceNames, tags):  # noqa: N802, N803
        for each in self._registered(instanceNames, tags):
            each.tags = {key: value for key, value in each.tags.items() if {"Key": key, "Value": value} not in tags}

    def _DeregisterOnPremisesInstance(self, instanceName=""):  # noqa: N802, N803
        _check_name(instanceName)
        if instanceName in self.instances:
            self.instances[instanceName].deregister, self.instances[instanceName].tags = time.time(), {}

    def _GetOnPremisesInstance(self, instanceName=""):  # noqa: N802, N803
        _check_name(instanceName)
        each = self.instances.get(instanceName)
        if each is None or each.is_gone():
            raise RefusedError("InstanceNotRegisteredException", "the instance is not registered")
        arns = {"iamSessionArn": each.iamSessionArn, "iamUserArn": each.iamUserArn, "deregisterTime": each.deregister}
        info = {
            "instanceName": each.name,
            "instanceArn": f"arn:aws:codedeploy:eu-west-1:123456789012:instance/{each.name}_0123456789",
            "registerTime": each.register,
            "tags": [{"Key": key, "Value": value} for key, value in each.tags.items()],
        }
        return {"instanceInfo": info | {key: value for key, value in arns.items() if value is not None}}

    def _registered(self, names: list[str], tags: list[dict]) -> list[Registered]:
        if not tags:
            raise RefusedError("TagRequiredException")
        for tag in tags:
            key, value = tag.get("Key", ""), tag.get("Value", "")
            if not 1 <= len(key) <= 128 or not 1 <= len(value) <= 256:
                raise RefusedError("InvalidTagException")
        for name in names:
            _check_name(name)
            if name not in self.instances or self.instances[name].deregister is not None:
                raise RefusedError("InstanceNotRegisteredException", "the instance is not registered")
        return [self.instances[name] for name in names]


def _check_name(name: str) -> None:
    if not name:
        raise RefusedError("InstanceNameRequiredException")
    if not _NAME.fullmatch(name):
        raise RefusedError("InvalidInstanceNameException")


class CommandService(Service):
    """What agents poll. It never has a command; `superseded` are key ids that it takes for expired."""

    def __init__(self, secret: Callable[[str], str | None], **options):
        super().__init__(secret, **options)
        self.superseded: set[str] = set()
        self.polls: list[tuple[str, str]] = []
        """The key and the host identifier of every poll that was answered."""
        self.refused: list[str] = []
        """The key of every poll whose signature was good, and too late."""

    def handle(self, request: Request) -> dict | None:
        assert request.key_id is not None
        if request.key_id in self.superseded:
            self.refused.append(request.key_id)
            raise RefusedError("ExpiredTokenException", "The security token included in the request is expired")
        if request.target.endswith(".PollHostCommand"):
            self.polls.append((request.key_id, request.parameters["HostIdentifier"]))
        return {}
