"""`make conformance`: every client through every situation, and a table. Everything stays on this host.

Exit codes: 0 every cell that applies passes, 1 one fails, or with --require-all one is absent or was skipped.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import paths  # noqa: F401 - before those that need it
import pytest
from clients import CLIENTS, Client
from clock import FastClock, RealClock, libfaketime
from situations import QUICK, Cell, Results
from spans import FAST, REAL, long_job, restart, rotation
from table import COLUMNS, markdown, put

from support.namespace import LINK_LOCAL, network_namespace

SPANS = ("rotation", "restart", "long job")


def main() -> int:
    arguments = _arguments()
    clients = [client for client in CLIENTS if not arguments.clients or client.name in arguments.clients.split(",")]
    present = [client for client in clients if not client.absent]
    begin = time.monotonic()
    with ExitStack() as stack:
        run = Run(present, namespace=_enter_namespace(stack), quick=arguments.quick)
        run.everything()
    absent = [client for client in clients if client.absent]
    cells = run.cells | {(client.name, column): Cell("absent") for client in absent for column in COLUMNS}
    for client in absent:
        print(f"{client.title}: absent: {client.absent}")
    table = markdown(clients, cells)
    print(f"\n{table}\n{time.monotonic() - begin:.0f} s")
    if arguments.markdown:
        put(table, arguments.markdown)
    return run.verdict(require_all=arguments.require_all, absent=len(absent))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--clients", help="names, with commas between; left out: all")
    parser.add_argument("--quick", action="store_true", help="leave out what spans several sessions")
    parser.add_argument("--require-all", action="store_true", help="fail where something is absent or was skipped")
    parser.add_argument("--markdown", type=Path, help="write the table to this file, or between its marks for it")
    return parser.parse_args()


def _enter_namespace(stack: ExitStack) -> bool:
    """Whether this process is now in a network of its own, with the link-local addresses and no way out."""
    try:
        stack.enter_context(network_namespace(*LINK_LOCAL))
    except pytest.skip.Exception as reason:
        print(reason)
        return False
    return True


class Run:
    """The cells of one run, by client and situation."""

    def __init__(self, clients: Sequence[Client], *, namespace: bool, quick: bool) -> None:
        self.cells: dict[tuple[str, str], Cell] = {}
        self._clients, self._namespace, self._quick = clients, namespace, quick

    def everything(self) -> None:
        """Real time passes while all else is done."""
        with ThreadPoolExecutor() as pool:
            slow = [] if self._quick else [pool.submit(self._record, *part) for part in self._real_time()]
            for situation in QUICK:
                for name, results in situation(self._clients, namespace=self._namespace):
                    self._record(name, results)
            if not self._quick:
                self._fast_time()
            for done in slow:
                done.result()

    def verdict(self, *, require_all: bool, absent: int) -> int:
        verdicts = [cell.verdict for cell in self.cells.values()]
        return 1 if "FAIL" in verdicts or (require_all and (absent or "skipped" in verdicts)) else 0

    def _real_time(self) -> Iterator[tuple[str, Results]]:
        clients = [client for client in self._clients if not client.fast]
        if clients:
            yield "rotation", rotation(clients, RealClock(), REAL, link_local=False)
            yield "restart", restart(clients, RealClock(), REAL, link_local=False)

    def _fast_time(self) -> None:
        clients = [client for client in self._clients if client.fast]
        library = libfaketime()
        if library is None:
            skipped = Cell("skipped", "no libfaketime")
            self.cells |= {(client.name, name): skipped for client in clients for name in SPANS}
        elif clients:
            with tempfile.TemporaryDirectory() as folder, FastClock(Path(folder), library) as clock:
                self._record("rotation", rotation(clients, clock, FAST, link_local=self._namespace))
                self._record("restart", restart(clients, clock, FAST, link_local=self._namespace))
                self._record("long job", long_job(clients, clock, link_local=self._namespace))

    def _record(self, situation: str, results: Results) -> None:
        for client, cell in results:
            self.cells[client.name, situation] = cell
            print(f"{client.title}, {situation}: {cell}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
