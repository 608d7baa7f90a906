"""`imds-proxy credential-process`: the version-1 document, from the running daemon."""

import argparse
import json
from typing import Any

from imds_proxy.cli import daemon_client, env
from imds_proxy.cli import options as shared
from imds_proxy.documents import process_document


def register(verbs: Any) -> None:
    """Add the verb."""
    verb = verbs.add_parser(
        "credential-process",
        help="print a role's credentials for an AWS profile",
        description="Print a role's credentials as credential_process wants them. In ~/.aws/config:"
        " credential_process = imds-proxy credential-process --role NAME",
    )
    env.add_role(verb)
    shared.add_endpoint(verb)
    verb.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Print the document."""
    print(json.dumps(process_document(daemon_client.credentials(shared.target(options), options.role))))
    return 0
