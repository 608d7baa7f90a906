"""`imds-proxy VERB …`. Exit codes: 0, 1 failure, 2 usage or config."""

import sys
from collections.abc import Sequence
from importlib import import_module

from imds_proxy import __version__
from imds_proxy.cli import terminal
from imds_proxy.cli.command_line import USAGE, Parser
from imds_proxy.cli.terminal import FAILURE
from imds_proxy.errors import CannotRunError, ConfigError, ImdsProxyError, OutputError

_INTERRUPTED = 130
_VERBS = (
    "serve",
    "check",
    "status",
    "exec",
    "env",
    "credential-process",
    "renew",
    "rotate-base-key",
    "rotate-tokens",
    "add-addresses",
    "codedeploy",
    "webhook",
    "config",
    "completion",
    "demo",
)


def parser(verb: str | None = None) -> Parser:
    """The whole command line; of a known `verb` alone where one is given, because importing all takes time."""
    top = Parser(
        prog="imds-proxy",
        description="An EC2 instance profile for any machine: fresh AWS credentials where every SDK looks for them.",
        epilog="Start with: imds-proxy serve --role-arn arn:aws:iam::123456789012:role/NAME",
    )
    top.add_argument("--version", action="version", version=f"imds-proxy {__version__}")
    verbs = top.add_verbs(title="verbs", metavar="VERB")
    for name in (verb,) if verb in _VERBS else _VERBS:
        import_module(f"imds_proxy.cli.{name.replace('-', '_')}").register(verbs)
    return top


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a verb; every error of ours is one message on standard error, never a traceback."""
    terminal.prepare()
    return terminal.finish(_run(sys.argv[1:] if arguments is None else arguments))


def _run(arguments: Sequence[str]) -> int:
    try:
        options = parser(next(iter(arguments), None)).parse_args(arguments)
        return int(options.run(options))
    except SystemExit as end:  # of argparse: after --help, or an error that it has printed
        return end.code if isinstance(end.code, int) else FAILURE
    except ConfigError as error:
        return _fail(error, USAGE)
    except CannotRunError as error:
        return _fail(error, error.code)
    except OutputError:  # said at the end
        return FAILURE
    except ImdsProxyError as error:
        return _fail(error, FAILURE)
    except KeyboardInterrupt:
        return _INTERRUPTED
    except Exception as error:  # noqa: BLE001 - its text may hold what a service or a file said
        from imds_proxy.telemetry.log import told

        advice = "this is a defect of imds-proxy: please report this line"
        return _fail(ImdsProxyError(f"unexpected {told(error)}", advice), FAILURE)


def _fail(error: ImdsProxyError, code: int) -> int:
    print(f"imds-proxy: {error.message}", file=sys.stderr)
    if error.advice:
        print(f"  → {error.advice}", file=sys.stderr)
    return code
