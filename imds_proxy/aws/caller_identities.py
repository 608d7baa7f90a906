"""Whose the credentials are that AWS refuses, for the words of a message alone: no decision is made of it.

GetCallerIdentity is a call to STS of its own, which a denial that comes back every five minutes, for each of a hundred
roles, must not double: it is asked once for all roles of one key, and what it said is kept for a while.
"""

import asyncio
import math
from collections.abc import Awaitable, Callable
from typing import Final

KEPT: Final = 300.0
"""Seconds until AWS is asked again, also where it did not say: an ARN is no secret, and rarely another."""
_MOST: Final = 64
"""Keys and endpoints. A session of a parent that is denied is another key at each of its renewals."""


class CallerIdentities:
    """The ARNs of base credentials, by key id and endpoint."""

    def __init__(self) -> None:
        self._answers: dict[tuple[str, str], tuple[float, asyncio.Future[str | None]]] = {}
        self._asking: set[asyncio.Task[None]] = set()

    async def arn(self, key_id: str, endpoint: str, ask: Callable[[], Awaitable[str | None]]) -> str | None:
        """The ARN that a key belongs to; None where AWS did not say.

        Args:
            key_id: Of the credentials.
            endpoint: Of STS.
            ask: Asks AWS, and raises nothing.
        """
        loop = asyncio.get_running_loop()
        since, answer = self._answers.pop((key_id, endpoint), (-math.inf, None))
        if answer is None or loop.time() - since >= KEPT:
            since, answer = loop.time(), loop.create_future()
            asking = asyncio.create_task(_settle(answer, ask), name="ask AWS whose a key is")
            self._asking.add(asking)  # not kept longer: a task's context has the credentials that it signs with
            asking.add_done_callback(self._asking.discard)
        self._answers[key_id, endpoint] = since, answer
        while len(self._answers) > _MOST:
            del self._answers[next(iter(self._answers))]
        return await asyncio.shield(answer)


async def _settle(answer: asyncio.Future[str | None], ask: Callable[[], Awaitable[str | None]]) -> None:
    arn = None
    try:
        arn = await ask()
    finally:
        answer.set_result(arn)
