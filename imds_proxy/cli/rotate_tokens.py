"""`imds-proxy rotate-tokens`: a new token in the token files that grants name."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from imds_proxy.cli import options as shared
from imds_proxy.config.model import Config
from imds_proxy.errors import ConfigError, ImdsProxyError
from imds_proxy.printable import printable


def register(verbs: Any) -> None:
    """Add the verb."""
    verb = verbs.add_parser(
        "rotate-tokens",
        help="replace the tokens of containers",
        description="Put a new token into the token_file of each grant, or of those that are named. Owner, group and"
        " mode stay, the running daemon takes the new token at once, and the old one holds for another minute. A"
        " container has to have the folder of the file mounted: in a mounted file it goes on seeing the old token.",
    )
    shared.add_config(verb)
    verb.add_argument("wanted", nargs="*", metavar="ROLE_OR_PATH", help="those of a role, or one file (default: all)")
    verb.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Print a line for each file; 1 if any could not be rotated."""
    from imds_proxy.callers.token_rotation import rotate

    chosen = token_files(shared.require_config(options.config), options.wanted)
    failed = 0
    for path, error in rotate([Path(path) for path in chosen]).items():
        if error is None:
            print(f"{printable(path)}: rotated ({', '.join(chosen[str(path)])})")
            continue
        failed = 1
        print(f"imds-proxy: {error.message}\n  → {error.advice}", file=sys.stderr)
    return failed


def token_files(config: Config, wanted: Sequence[str]) -> dict[str, list[str]]:
    """The roles of each token file that is meant by `wanted`, roles and paths; by all of them where it is empty.

    Raises:
        ConfigError: Something in `wanted` means none.
        ImdsProxyError: There are no token files.
    """
    found: dict[str, list[str]] = {}
    for grant in config.grants:
        if grant.token_file is not None:
            found.setdefault(grant.token_file, []).append(grant.role)
    if not found:
        raise ImdsProxyError(
            "no grant has a token_file", "state_dir/tokens is rotated by the daemon, where there are grants"
        )
    for name in wanted:
        if not any(name == path or name in roles for path, roles in found.items()):
            raise ConfigError(f"{name}: no grant gives that role by a token_file, or names that file")
    chosen = {path: roles for path, roles in found.items() if {path, *roles} & set(wanted)}
    return chosen if wanted else found
