"""What every client program here takes: `once`, or `loop INTERVAL COUNT`; the programs hold the calls alone."""

import os
import select
import sys
from collections.abc import Callable

ENDPOINT = os.environ["CONFORMANCE_ENDPOINT"]
"""Where S3 and STS of the AWS double are."""


def run(*calls: Callable[[], object]) -> None:
    """`once`: every call, an error being the SDK's own; `loop`: the last one again and again, a line for each."""
    if sys.argv[1] == "once":
        for call in calls:
            call()
    else:
        sys.exit(_loop(calls[-1], float(sys.argv[2]), int(sys.argv[3])))


def _loop(call: Callable[[], object], interval: float, count: int) -> int:
    failures = 0
    for _ in range(count):
        try:
            call()
        except Exception as error:  # noqa: BLE001 - whatever an SDK raises is what the line says
            failures += 1
            print("error", " ".join(str(error).split()), flush=True)
        else:
            print("ok", flush=True)
        select.select([], [], [], interval)  # the one way to sleep that libfaketime 0.9.10 leaves alone on either clock
    return 1 if failures else 0
