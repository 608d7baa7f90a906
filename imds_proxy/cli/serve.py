"""`imds-proxy serve`: the daemon."""

import argparse
import asyncio
from collections.abc import Callable
from functools import partial
from typing import Any

from imds_proxy.cli import options as shared
from imds_proxy.config.model import Config
from imds_proxy.config.positions import Options
from imds_proxy.config.reader import load, parse
from imds_proxy.errors import ConfigError


def register(verbs: Any) -> None:
    """Add the verb."""
    verb = verbs.add_parser(
        "serve", help="keep credentials fresh and serve them", description="Keep credentials fresh and serve them."
    )
    shared.add_config(verb)
    alone = verb.add_argument_group("without a config file")
    alone.add_argument("--role-arn", metavar="ARN", help="the role to assume; SDKs see it by its own name")
    alone.add_argument("--region", help="region of STS, and what clients are told")
    alone.add_argument("--profile", help="AWS profile to call STS with")
    alone.add_argument("--listen", action="append", metavar="ADDRESS:PORT", help="where SDKs connect; may be repeated")
    shared.add_logging(verb)
    verb.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Serve until TERM."""
    from imds_proxy.host.process_hardening import harden
    from imds_proxy.telemetry import log

    log.configure(options.log_level, options.log_format)
    harden()  # before the config, the environment or a file brings a secret in
    import uvloop

    from imds_proxy.daemon import Daemon
    from imds_proxy.host.open_files import raise_limit
    from imds_proxy.host.systemd import Notifier, passed_sockets

    config, read_again = _config(options)
    raise_limit()
    daemon = Daemon(config, read_config=read_again, passed=passed_sockets(), notifier=Notifier())
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(daemon.run())
    return 0


def _config(options: argparse.Namespace) -> tuple[Config, Callable[[], Config] | None]:
    """The config, and how to read it again."""
    if options.role_arn is None:
        if options.region or options.profile or options.listen:
            raise ConfigError("--region, --profile and --listen go with --role-arn; with a file they are keys of it")
        config = shared.require_config(options.config)
        return config, partial(load, shared.config_path(options.config))
    if options.config is not None:
        raise ConfigError("--role-arn is for running without a file: give it or --config, not both")
    name = options.role_arn.rpartition("/")[2] or "role"
    role = {"role_arn": options.role_arn, "profile": options.profile}
    data = {"region": options.region, "roles": {name: role}}
    if options.listen:
        data["metadata"] = {"listen": options.listen}
    given = {
        "region": "--region",
        "roles": "--role-arn",
        f"roles.{name}.profile": "--profile",
        "metadata.listen": "--listen",
    }
    return parse(data, "command line", Options(given)), None
