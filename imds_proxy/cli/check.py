"""`imds-proxy check`: is the config right, and does every role work, without serving."""

import argparse
import asyncio
import time
from collections.abc import Iterator
from functools import partial
from typing import Any

from imds_proxy.cli import options as shared
from imds_proxy.config import DEFAULT_PATH, Config


def register(verbs: Any) -> None:
    """Add the verb."""
    text = "Validate the config file, then try every role once and say what AWS answers."
    verb = verbs.add_parser("check", help="validate the config and try every role once", description=text)
    shared.add_config(verb)
    verb.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Print a line per role; 1 if any does not work."""
    from imds_proxy.telemetry import log

    config = shared.require_config(options.config)
    log.configure("WARNING", "text")
    print(f"{options.config or DEFAULT_PATH}: valid")
    return asyncio.run(_try_roles(config))


async def _try_roles(config: Config) -> int:
    from imds_proxy.clock import Clock
    from imds_proxy.credentials import Credentials, timestamp
    from imds_proxy.errors import SourceError
    from imds_proxy.sources import obtain
    from imds_proxy.sources.factory import SourceFactory

    clock = Clock()
    sources = SourceFactory(clock)
    sources.prepare(config)
    width = max(map(len, config.roles))
    failed = 0
    obtained: dict[str | None, Credentials] = {}
    for name in parents_first(config):
        settings = config.roles[name]
        try:
            source = sources.make(name, settings, partial(obtained.get, settings.parent))
            credentials = obtained[name] = await obtain(name, source, clock)
        except SourceError as error:
            failed = 1
            print(f"{name:<{width}}  {error.outcome}: {error.message}")
            if error.advice:
                print(f"{'':<{width}}  → {error.advice}")
        else:
            minutes = round((credentials.expiration - time.time()) / 60)
            until = f"until {timestamp(credentials.expiration)} ({minutes} min)"
            print(f"{name:<{width}}  ok: {credentials.session_arn}, {until}")
    return failed


def parents_first(config: Config) -> Iterator[str]:
    """The roles in an order in which each comes after the one it is obtained with."""
    done: set[str | None] = {None}
    while len(done) <= len(config.roles):
        for name, settings in config.roles.items():
            if name not in done and settings.parent in done:
                done.add(name)
                yield name
