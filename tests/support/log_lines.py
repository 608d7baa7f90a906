"""What is logged, line by line, with all that varies: `caplog` keeps the messages, which are constant here."""

import io
import json
import logging
from contextlib import contextmanager

from imds_proxy.telemetry.log import JsonFormatter


@contextmanager
def logged():
    """`lines(event="")`: the lines so far whose event has that in it, each parsed."""
    stream, logger = io.StringIO(), logging.getLogger("imds_proxy")
    handler = logging.StreamHandler(stream)
    handler.setFormatter(JsonFormatter())
    logger.addHandler(handler)
    try:
        yield lambda event="": [
            line for line in map(json.loads, stream.getvalue().splitlines()) if event in line["event"]
        ]
    finally:
        logger.removeHandler(handler)
