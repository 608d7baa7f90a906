"""The loop that the daemon runs on; what is about sockets is shown on asyncio's own too."""

import asyncio

import pytest
import uvloop

from support.namespace import LINK_LOCAL, network_namespace

_ON_BOTH_LOOPS = {"test_http.py"}


def pytest_asyncio_loop_factories(config, item):
    """uvloop, and for the tests of the socket side asyncio's loop beside it."""
    loops = {"uvloop": uvloop.new_event_loop}
    if item.path.name in _ON_BOTH_LOOPS:
        loops["asyncio"] = asyncio.new_event_loop
    return loops


@pytest.fixture
def namespace():
    """This test alone has the link-local addresses; skipped without the right to make a network namespace."""
    with network_namespace(*LINK_LOCAL):
        yield


class WallTime:
    """A wall clock that a test turns."""

    def __init__(self, now: float = 1_800_000_000.0):
        self.now = now

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def wall():
    return WallTime()
