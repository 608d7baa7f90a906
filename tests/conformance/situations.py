"""The situations that take two calls: what is set up, what each client does in it, and what counts as passing.

What a client prints decides nothing about a signature: the AWS double's record of its calls does.
"""

import os
import re
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass

from bench import Bench, Done
from clients import CONTAINER, ENV, ENV_SLASH, LINK_LOCAL, Client
from clock import RealClock

AT_ONCE = 3  # clients that start at the same time; more would measure this machine
TIME_LIMIT = 90.0  # of a client that makes two calls, or gives up
OWN_WORDS = re.compile("credential|not authorized|denied|forbidden", re.IGNORECASE)

Verdict = Callable[[Bench, Done], str]
"""Why a client fails, "" where it passes."""


@dataclass(frozen=True, slots=True)
class Cell:
    """How one client fared in one situation.

    Attributes:
        verdict: "pass", "FAIL", "n/a" (the client has no such way), "skipped" (this host has not), "absent".
        words: A figure, or the reason.
    """

    verdict: str
    words: str = ""

    def __str__(self) -> str:
        separator = ", " if self.verdict == "pass" else ": "
        return separator.join(filter(None, (self.verdict, self.words)))


Results = Iterator[tuple[Client, Cell]]


def cell(client: Client, situation: str, failure: str, figure: str) -> Cell:
    """What a client is said not to have was tried all the same: if that passes, what is said is wrong."""
    if lack := client.cannot.get(situation):
        return Cell("n/a", lack) if failure else Cell("FAIL", f"it passes, but is said to have {lack}")
    return Cell("FAIL", failure) if failure else Cell("pass", figure)


def signed(bench: Bench, done: Done) -> str:
    """It ended well, and every call was signed with the key that the daemon serves, and verified."""
    served = bench.daemon.credentials("deploy")["AccessKeyId"]
    if done.ended.status != 0 or done.refused:
        return f"{done.refused} calls refused; {done.words}"
    return "" if done.keys == [served] else f"{len(done.keys)} keys seen that are not the one served"


def gave_up(_: Bench, done: Done) -> str:
    """It ended by itself with an error of its own, and signed nothing."""
    if not 0 < done.ended.status < 128:
        return done.words
    if any(done.keys):
        return "signed a call"
    return "" if OWN_WORDS.search(done.ended.errors) else f"its error does not say what is missing: {done.words}"


def each_once(bench: Bench, clients: Sequence[Client], situation: str, verdict: Verdict, way: str = "") -> Results:
    """Every client makes its two calls, a few clients at a time."""

    def one(client: Client) -> Cell:
        done = bench.run(client, way or bench.way(client), "once", limit=TIME_LIMIT)
        return cell(client, situation, verdict(bench, done), _time(done) if verdict is gave_up else "")

    yield from in_parallel(AT_ONCE, one, clients)


def in_parallel(at_once: int, one: Callable[[Client], Cell], clients: Sequence[Client]) -> Results:
    """The cell of each client, as they end."""
    with ThreadPoolExecutor(at_once) as pool:
        running = {pool.submit(one, client): client for client in clients}
        for done in as_completed(running):
            yield running[done], done.result()


def _time(done: Done) -> str:
    return f"{done.ended.seconds:.1f} s"


@contextmanager
def _ready(bench: Bench):
    with bench:
        bench.daemon.wait_ready()
        yield bench


def by_environment(clients: Sequence[Client], *, namespace: bool) -> Iterator[tuple[str, Results]]:
    """The environment variable, with the final slash and without; and the container protocol, of the same daemon."""
    with _ready(Bench(RealClock())) as bench:
        for way in (ENV_SLASH, ENV, CONTAINER):
            yield way, each_once(bench, _harmless(clients, way, namespace=namespace), way, signed, way)


def _harmless(clients: Sequence[Client], way: str, *, namespace: bool) -> Sequence[Client]:
    """Outside a namespace, a client that does not heed its environment would ask this machine's metadata service."""
    return [client for client in clients if namespace or way not in client.cannot]


def by_link_local(clients: Sequence[Client], *, namespace: bool) -> Iterator[tuple[str, Results]]:
    """The address that SDKs know by themselves."""
    if not namespace:
        skipped = Cell("skipped", "no right to make a network namespace")
        yield LINK_LOCAL, iter([(client, skipped) for client in clients])
        return
    with _ready(Bench(RealClock(), link_local=True)) as bench:
        yield LINK_LOCAL, each_once(bench, clients, LINK_LOCAL, signed, LINK_LOCAL)


def without_credentials(clients: Sequence[Client], *, namespace: bool) -> Iterator[tuple[str, Results]]:
    """AWS has been out of reach since the daemon started."""
    with Bench(RealClock(), reached=False, link_local=namespace) as bench:
        bench.daemon.failure()
        yield "no credentials", each_once(bench, clients, "no credentials", gave_up)


def denied(clients: Sequence[Client], *, namespace: bool) -> Iterator[tuple[str, Results]]:
    """AWS says no to the daemon."""
    with Bench(RealClock(), role="denied", link_local=namespace) as bench:
        assert bench.daemon.failure()["outcome"] == "denied"
        yield "denied", each_once(bench, clients, "denied", gave_up)


def not_granted(clients: Sequence[Client], *, namespace: bool) -> Iterator[tuple[str, Results]]:
    """The role is there, for another user."""
    with _ready(Bench(RealClock(), link_local=namespace, granted_to=os.getuid() + 1)) as bench:
        by_user = [client for client in clients if bench.way(client) != CONTAINER]  # there a token counts
        yield "not granted", each_once(bench, by_user, "not granted", gave_up)


def slow_aws(clients: Sequence[Client], *, namespace: bool) -> Iterator[tuple[str, Results]]:
    """STS no longer answers, and a renewal waits for it: what is held is answered from memory all the same."""
    with _ready(Bench(RealClock(), link_local=namespace, max_age="2s")) as bench:
        bench.aws.hang()
        yield "slow AWS", each_once(bench, clients, "slow AWS", signed)


QUICK = (by_environment, by_link_local, without_credentials, denied, not_granted, slow_aws)
