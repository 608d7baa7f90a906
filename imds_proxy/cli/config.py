"""`imds-proxy config schema`: the config file's JSON Schema, for editors."""

import argparse
import json
from typing import Any

from imds_proxy.config.model import Config


def register(verbs: Any) -> None:
    """Add the verb."""
    verb = verbs.add_parser("config", help="about the config file", description="About the config file.")
    what = verb.add_verbs(title="what", metavar="WHAT")
    schema = what.add_parser("schema", help="print its JSON Schema", description="Print the config file's JSON Schema.")
    schema.set_defaults(run=run)


def run(_: argparse.Namespace) -> int:
    """Print the schema."""
    print(json.dumps(Config.model_json_schema(), indent=2))
    return 0
