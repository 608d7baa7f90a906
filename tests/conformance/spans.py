"""The situations that span several sessions: rotation, a restart of the daemon, and a long job.

All clients that can be put on the fast clock run there at once; the others in real time, on shorter sessions.
"""

import signal
from collections.abc import Sequence
from dataclasses import dataclass
from threading import Timer

from bench import Bench, Done
from clients import Client
from clock import FastClock, RealClock
from situations import Cell, Results, cell, in_parallel

SLOWDOWN = 3  # a loop takes no longer than this many times what it would take if calls took no time

UPLOADS, UPLOAD_TIME = 300, 5.0  # ten at a time: 150 real seconds, or two and a half hours of the fast clock
LONG_JOB_LIMIT = 600.0


@dataclass(frozen=True, slots=True)
class Plan:
    """Times of a clock, in real seconds.

    Attributes:
        turn: Between two signed calls of a client.
        turn_of_processes: The same where every call is a process of its own.
        rotation, restart: How long the clients go on calling.
        killed_after: When the daemon is killed.
        life: Of a session; None: what AWS gives, an hour of the clock.
    """

    turn: float
    turn_of_processes: float
    rotation: float
    restart: float
    killed_after: float
    life: float | None = None


FAST = Plan(turn=20 / 60, turn_of_processes=2, rotation=180, restart=80, killed_after=20)
"""A call every 20 s for three hours, sessions of an hour; the AWS CLI every 2 minutes, as a process takes a second."""

REAL = Plan(turn=1, turn_of_processes=5, rotation=280, restart=150, killed_after=30, life=120)
"""The SDK for Go asks for other credentials when its own have ended: of sessions of 2 minutes, every second one."""


def rotation(clients: Sequence[Client], clock: FastClock | RealClock, plan: Plan, *, link_local: bool) -> Results:
    """A superseded key works until its own end and no longer; nobody notices."""
    with Bench(clock, link_local=link_local, life=plan.life) as bench:
        bench.daemon.wait_ready()
        yield from _loops(bench, clients, "rotation", plan, plan.rotation, keys=3)


def restart(clients: Sequence[Client], clock: FastClock | RealClock, plan: Plan, *, link_local: bool) -> Results:
    """The daemon is killed and started again between a client's first fetch and its second."""
    with Bench(clock, link_local=link_local, life=plan.life) as bench:
        bench.daemon.wait_ready()
        killer = Timer(plan.killed_after, _kill, [bench])
        killer.start()
        yield from _loops(bench, clients, "restart", plan, plan.restart, keys=2, gap=1)
        killer.join()


def _kill(bench: Bench) -> None:
    bench.daemon.stop(signal.SIGKILL)
    bench.daemon.start()


def _loops(
    bench: Bench, clients: Sequence[Client], situation: str, plan: Plan, seconds: float, *, keys: int, gap: int = 0
) -> Results:
    """Every client calls for so many seconds; of one that fetches at each call `gap` calls may find no daemon."""

    def one(client: Client) -> Cell:
        turn = plan.turn if client.long_lived else plan.turn_of_processes
        count = round(seconds / turn)
        done = bench.run(client, bench.way(client), "loop", str(turn), str(count), limit=seconds * SLOWDOWN)
        failure = _rotated(bench, done, count, keys, 0 if client.long_lived else gap)
        return cell(client, situation, failure, f"{len(done.keys)} keys, {bench.clock.name}")

    yield from in_parallel(len(clients), one, clients)


def _rotated(bench: Bench, done: Done, calls: int, keys: int, gap: int) -> str:
    """Why not: every call but `gap` was made and verified, with at least so many keys, all of the daemon's."""
    verified = len(done.calls) - done.refused
    whole = verified >= calls and done.ended.status == 0
    if done.refused or not (whole or calls > verified >= calls - gap):
        return f"of {calls} calls {verified} verified, {done.refused} refused; {done.words}"
    if strange := set(done.keys) - set(bench.aws.ask("issued")):
        return f"{len(strange)} keys that the daemon never had"
    return "" if len(done.keys) >= keys else f"{len(done.keys)} keys seen, not {keys}"


def long_job(clients: Sequence[Client], clock: FastClock, *, link_local: bool) -> Results:
    """`aws s3 sync` of some hundred files, so slow that it spans several sessions."""
    clients = [client for client in clients if not client.long_lived]
    if not clients:
        return
    with Bench(clock, link_local=link_local, upload=UPLOAD_TIME) as bench:
        bench.daemon.wait_ready()
        folder = bench.folder / "files"
        folder.mkdir()
        for number in range(UPLOADS):
            (folder / f"{number}").write_text(f"{number}\n")

        def one(client: Client) -> Cell:
            done = bench.run(client, bench.way(client), "sync", str(folder), client.name, limit=LONG_JOB_LIMIT)
            uploaded = len({action for _, action, status in done.calls if action.startswith("PUT") and status == 200})
            failure = "" if uploaded == UPLOADS else f"{uploaded} of {UPLOADS} files"
            figure = f"{len(done.keys)} keys, {clock.name}"
            return cell(client, "long job", failure or _rotated(bench, done, UPLOADS, 3, gap=0), figure)

        yield from in_parallel(len(clients), one, clients)
