"""`imds-proxy completion`: a completion script for the user's shell."""

import argparse
from typing import Any


def register(verbs: Any) -> None:
    """Add the verb."""
    verb = verbs.add_parser(
        "completion",
        help="print a shell completion script",
        description='Print a shell completion script. In ~/.bashrc: eval "$(imds-proxy completion bash)"',
    )
    verb.add_argument("shell", choices=("bash", "zsh", "tcsh"))
    verb.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Print the script."""
    import shtab

    from imds_proxy.cli import terminal
    from imds_proxy.cli.main import parser

    terminal.write_exactly(shtab.complete(parser(), shell=options.shell) + "\n")
    return 0
