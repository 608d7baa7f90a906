"""Every server under every shape of load, in turns, so that a noisy machine is noisy for all of them."""

from collections import defaultdict
from statistics import median

from load import Measured, Shape, measure
from servers import Target

SHAPES = (
    Shape("1 connection", 1),
    Shape("32 connections", 32),
    Shape("256 connections", 256),
    Shape("new connections", 32, keep_alive=False),
)

Results = dict[tuple[str, str], Measured]
"""By the names of shape and server: the median of the rounds."""


def compare(targets: list[Target], rounds: int, seconds: int) -> Results:
    """Measure all cells, `rounds` times over."""
    runs: defaultdict[tuple[str, str], list[Measured]] = defaultdict(list)
    for number in range(rounds):
        print(f"throughput, round {number + 1} of {rounds}", flush=True)
        for shape in SHAPES:
            for target in targets:
                runs[shape.name, target.name].append(measure(target, shape, seconds))
    return {cell: _median(measured) for cell, measured in runs.items()}


def _median(runs: list[Measured]) -> Measured:
    return Measured(
        rate=median(run.rate for run in runs),
        cpu=median(run.cpu for run in runs),
        busy=median(run.busy for run in runs),
        p99=median(run.p99 for run in runs),
    )
