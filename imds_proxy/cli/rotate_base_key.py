"""`imds-proxy rotate-base-key`: replace the IAM user's key in the shared credentials file now."""

import argparse
import asyncio
import sys
from pathlib import Path
from typing import Any

from imds_proxy.cli import options as shared
from imds_proxy.config.model import Config


def register(verbs: Any) -> None:
    """Add the verb."""
    verb = verbs.add_parser(
        "rotate-base-key",
        help="replace the IAM user's key that this host starts from",
        description="Make a new key for the IAM user that this host starts from, prove it, write it into the shared"
        " credentials file, and deactivate the old one; or finish what an interrupted run began. Run it as the user"
        " the daemon runs as. The old key is deleted by a later run of the daemon or of this, after delete_after.",
    )
    shared.add_config(verb)
    verb.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Rotate once; each step is a line."""
    from imds_proxy.host.process_hardening import harden
    from imds_proxy.telemetry import log

    log.configure("INFO", "text", sys.stdout)
    harden()
    config = shared.require_config(options.config)
    return asyncio.run(_rotate(config))


async def _rotate(config: Config) -> int:
    from imds_proxy.base_key import rotation
    from imds_proxy.credentials import timestamp
    from imds_proxy.host.clock import Clock
    from imds_proxy.host.state_dir import default_state_dir, open_state_dir
    from imds_proxy.sources.factory import SourceFactory

    clock = Clock()
    sources = SourceFactory(clock)
    sources.prepare(config)
    path = Path(config.state_dir) if config.state_dir else default_state_dir()
    state = None if config.state_dir == "" else open_state_dir(path)
    look = await rotation.make(config, state, sources.region, clock).run(at_once=True)
    left = f"; next: {timestamp(look.next)}" if look.next else ""
    print(f"the key in use is …{look.key}, made {timestamp(look.created)}{left}")
    return 0
