"""`make bench`: speed beside nginx and aiohttp, memory, time to start, attacks. Everything stays on 127.0.0.1."""

import argparse
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import paths  # noqa: F401 - before those that need it
from attacks import measure_attacks
from footprint import watch
from many_roles import SOURCES, measure, table
from report import report
from servers import Account, compared
from startup import measure_starts
from throughput import compare
from tools import BenchError, require

from imds_proxy.demo.aws_double import AwsDouble


@dataclass(frozen=True, slots=True)
class Plan:
    """How long each part takes: runs of `seconds`, `rounds` of them; `memory` seconds in phases of `phase`."""

    rounds: int
    seconds: int
    memory: int
    phase: int
    starts: int = 10


_ATTACK_SECONDS = 10.0
_IDLE_SECONDS = 30.0
QUICK = Plan(rounds=2, seconds=1, memory=20, phase=1)


def full(minutes: int) -> Plan:
    """The plan whose figures are published."""
    return Plan(rounds=3, seconds=5, memory=60 * minutes, phase=3)


def main() -> int:
    """Measure everything and print it; 1 when something could not be measured."""
    options = _options()
    try:
        require()
        if options.roles:
            print(_many_roles(options.roles, options.source or list(SOURCES)))
        else:
            print(_attacks() if options.attacks else _measure(QUICK if options.quick else full(options.minutes)))
    except (BenchError, AssertionError, OSError, subprocess.SubprocessError) as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    return 0


def _measure(plan: Plan) -> str:
    with tempfile.TemporaryDirectory(prefix="imds-proxy-bench-") as name, AwsDouble() as double:
        folder = Path(name)
        folder.chmod(0o755)  # nginx's worker reads its file as another user
        account = Account(double)
        print("starts", flush=True)
        starts = measure_starts(account, folder / "starts", plan.starts)
        with compared(account, folder) as targets:
            results = compare(targets, plan.rounds, plan.seconds)
        return report(results, watch(account, folder / "memory", plan.memory, plan.phase), starts)


def _attacks() -> str:
    with tempfile.TemporaryDirectory(prefix="imds-proxy-bench-") as name, AwsDouble() as double:
        folder = Path(name)
        folder.chmod(0o755)
        return measure_attacks(Account(double), folder, _ATTACK_SECONDS)


def _many_roles(many: int, sources: list[str]) -> str:
    with tempfile.TemporaryDirectory(prefix="imds-proxy-bench-") as name:
        figures = []
        for source in sources:
            print(f"{many} roles: {source}", flush=True)
            figures.append(measure(source, Path(name) / source, many, _IDLE_SECONDS))
        return table(many, figures)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--attacks", action="store_true", help="only: what another user's attack costs (as root)")
    parser.add_argument("--roles", type=int, metavar="N", help="only: a daemon with N roles of each source")
    parser.add_argument("--source", action="append", choices=SOURCES, help="only that one of them")
    parser.add_argument("--quick", action="store_true", help="about 90 seconds in all; rougher figures")
    parser.add_argument("--minutes", type=int, default=10, help="of load while memory is watched (default: 10)")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
