"""`imds-proxy demo`: the daemon at work on an AWS double, with unmodified clients."""

import argparse
from pathlib import Path
from typing import Any

from imds_proxy.errors import ImdsProxyError
from imds_proxy.host.extras import how_to_install


def register(verbs: Any) -> None:
    """Add the verb."""
    verb = verbs.add_parser(
        "demo",
        help="show rotation live on an AWS double",
        description="Start an AWS double and the daemon, and show unmodified boto3 and AWS CLI processes take the role"
        " up, and its successor after each rotation. Needs the extra `demo`.",
    )
    verb.add_argument("--once", action="store_true", help="show two rotations, then exit 0, or 1 if anything was wrong")
    verb.add_argument("--clients", type=Path, metavar="DIR", help="holds the virtual environments boto3 and awscli")
    verb.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Run the demonstration."""
    try:
        from imds_proxy.demo.show import show
    except ModuleNotFoundError as error:
        advice = f"make demo sets it up; elsewhere: {how_to_install('demo', str(error.name))}"
        raise ImdsProxyError(f"the demonstration needs the extra `demo`: {error.name} is missing", advice) from None
    return show(once=options.once, clients=options.clients)
