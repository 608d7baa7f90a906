"""The AWS double as a process of its own, so that it can live on another clock; commands come in by standard input.

It prints one JSON value a line: where it is and whose key may assume the roles, and then an answer for each command.
"""

import argparse
import json
import sys
import threading

import paths  # noqa: F401 - before those that need it
from moto.s3.models import s3_backends
from werkzeug.wrappers import Request, Response

from imds_proxy.demo.aws_double import ACCOUNT, PARTITION, AwsDouble
from support.aws import is_assume_role, parameter, short_session

BUCKET = "bucket"


class Account:
    """An account with a role for every situation, and the commands as methods.

    Args:
        life: Sessions end after so many seconds; None: as they ask.
        upload: Every upload takes so many seconds of this process's own clock.
    """

    def __init__(self, double: AwsDouble, life: float | None, upload: float) -> None:
        self._double, self._life, self._upload = double, life, upload
        self._hangs = False
        self._hanging = 0
        key_id, secret = double.add_user("host")
        user = double.user_arn("host")
        s3_backends[ACCOUNT][PARTITION].create_bucket(BUCKET, "eu-west-1")
        double.interfere = self._interfere
        self.introduction = {
            "url": double.url,
            "key": {"AWS_ACCESS_KEY_ID": key_id, "AWS_SECRET_ACCESS_KEY": secret},
            "roles": {
                "granted": double.add_role("Deploy", user),
                "denied": double.add_role("Denied", f"arn:aws:iam::{ACCOUNT}:user/somebody-else"),
            },
        }

    def address(self) -> str:
        """Another address, for one more client."""
        return self._double.another_address()

    def calls(self, address: str) -> list[list]:
        """Key id, action and status of what was called at an address."""
        return [[call.key_id, call.action, call.status] for call in self._double.calls if call.at == address]

    def issued(self) -> list[str]:
        return self._double.issued()

    def hang(self) -> None:
        """From now on STS takes requests and does not answer."""
        self._hangs = True

    def hanging(self) -> int:
        """How many requests wait."""
        return self._hanging

    def _interfere(self, request: Request) -> Response | None:
        if request.method == "PUT" and self._upload:
            threading.Event().wait(self._upload)
        if is_assume_role(request):
            if self._hangs:
                self._hanging += 1
                threading.Event().wait()
            if self._life is not None and parameter(request, "RoleArn").endswith("/Deploy"):
                return short_session(self._double, request, self._life)
        return None


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--life", type=float)
    parser.add_argument("--upload", type=float, default=0)
    arguments = parser.parse_args()
    with AwsDouble() as double:
        account = Account(double, arguments.life, arguments.upload)
        print(json.dumps(account.introduction), flush=True)
        for line in sys.stdin:
            command, *values = json.loads(line)
            print(json.dumps(getattr(account, command)(*values)), flush=True)


main()
