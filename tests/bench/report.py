"""The figures as Markdown, and whether they meet the aims."""

import os
import platform
from collections.abc import Iterator
from statistics import median

from footprint import Footprint
from servers import AIOHTTP, DAEMON, NGINX_FILE, NGINX_MEMORY
from startup import Start
from throughput import SHAPES, Results

OF_NGINX = 0.5
OF_AIOHTTP = 3.0
MEMORY_MB = 60.0
LISTENING_MS = 300.0

_HEAD = """
| load | server | requests/s | CPU µs/request | server busy | p99 ms | of nginx | of aiohttp |
|---|---|---:|---:|---:|---:|---:|---:|"""


def report(results: Results, footprint: Footprint, starts: list[Start]) -> str:
    """Everything that the run found."""
    lines = [
        f"\n{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}",
        _HEAD,
        *_rows(results),
        "\nRatios are of requests/s, to nginx answering from memory; medians of all rounds.\n",
        *_figures(footprint, starts),
        "",
        *_verdicts(results, footprint, starts),
    ]
    return "\n".join(lines)


def _rows(results: Results) -> Iterator[str]:
    for shape in SHAPES:
        for server in (DAEMON, NGINX_MEMORY, NGINX_FILE, AIOHTTP):
            cell = results[shape.name, server]
            ratios = " | ".join(
                f"{cell.rate / results[shape.name, other].rate:.2f}" for other in (NGINX_MEMORY, AIOHTTP)
            )
            yield (
                f"| {shape.name} | {server} | {cell.rate:,.0f} | {cell.cpu:.1f} | {cell.busy:.0%} | {cell.p99:.2f} "
                f"| {ratios} |"
            )


def _figures(footprint: Footprint, starts: list[Start]) -> Iterator[str]:
    yield (
        f"Memory in MB through {footprint.seconds:.0f} s of mixed load with {footprint.renewals} renewals: "
        f"start {footprint.start:.1f}, third quarter {footprint.third:.1f}, fourth {footprint.fourth:.1f}, "
        f"max (VmHWM) {footprint.peak:.1f}, end {footprint.end:.1f}"
    )
    for name, times in (
        ("first answer", [start.listening for start in starts]),
        ("first credentials", [start.credentials for start in starts]),
    ):
        yield f"From exec to {name}, {len(times)} starts: median {_ms(median(times))}, max {_ms(max(times))}"


def _verdicts(results: Results, footprint: Footprint, starts: list[Start]) -> Iterator[str]:
    for other, aim in ((NGINX_MEMORY, OF_NGINX), (AIOHTTP, OF_AIOHTTP)):
        for figure, ratios in (
            ("requests/s", [_rate_ratio(results, shape.name, other) for shape in SHAPES]),
            ("CPU/request", [_cpu_ratio(results, shape.name, other) for shape in SHAPES]),
        ):
            found = f"{min(ratios):.2f} to {max(ratios):.2f}"
            yield _verdict(min(ratios) >= aim, f"{figure} at least {aim:g} of {other}'s worth: {found}")
    yield _verdict(footprint.peak < MEMORY_MB, f"memory under {MEMORY_MB:g} MB: {footprint.peak:.1f} MB")
    listening = max(start.listening for start in starts) * 1000
    yield _verdict(listening < LISTENING_MS, f"listening within {LISTENING_MS:g} ms, every time: {listening:.0f} ms")


def _rate_ratio(results: Results, shape: str, other: str) -> float:
    return results[shape, DAEMON].rate / results[shape, other].rate


def _cpu_ratio(results: Results, shape: str, other: str) -> float:
    return results[shape, other].cpu / results[shape, DAEMON].cpu


def _verdict(met: bool, words: str) -> str:  # noqa: FBT001 - the verdict
    return f"{'met   ' if met else 'MISSED'}  {words}"


def _ms(seconds: float) -> str:
    return f"{seconds * 1000:.0f} ms"
