"""Which unit of systemd's system manager a cgroup is of, by the id that the kernel tells of a client's socket.

What is found holds for as long as the cgroup is there: it cannot get another name, and its id is not used again.
"""

import asyncio
import logging
import math
from typing import Final

from imds_proxy.callers.cgroups import read_units
from imds_proxy.host.threads import in_thread
from imds_proxy.telemetry.log import told

log = logging.getLogger(__name__)

_NEVER: Final = -math.inf
_PATIENCE: Final = 0.4
"""Seconds that a connection waits for its unit, as it does for its user."""
_FRESH: Final = 60.0
"""Seconds for which what was found holds, and a cgroup that is of no unit is not looked for again."""
_APART: Final = 0.1
"""Seconds between two looks at least: whoever may make cgroups may connect from a new one each time."""
_SHARE: Final = 4
"""A look that takes long is followed by a pause of so many times as long."""
_MOST_OTHERS: Final = 4096


class Units:
    """The units of cgroups, read beside the event loop that calls all of this; nothing is while no grant names one."""

    def __init__(self) -> None:
        self._named: frozenset[str] = frozenset()
        self._units: dict[int, str] = {}
        self._others: dict[int, float] = {}
        """Cgroups of no unit, and when that was known."""
        self._read, self._due = _NEVER, _NEVER
        """When the look began by which `_units` is known, and when there may be another one."""
        self._reading: asyncio.Task[None] | None = None
        self._complained = False

    def follow(self, named: frozenset[str]) -> None:
        """Look for units from here on if any is named: as a grant does, `nginx.service` or `worker@*.service`."""
        if named != self._named:
            self._named, self._units, self._others, self._read = named, {}, {}, _NEVER

    def is_known(self, cgroup: int) -> bool:
        """Whether `unit` tells what there is to tell."""
        if not self._named or not cgroup:
            return True
        known = self._read if cgroup in self._units else self._others.get(cgroup, _NEVER)
        return asyncio.get_running_loop().time() < known + _FRESH

    def unit(self, cgroup: int) -> str | None:
        """The unit that a cgroup is of; None for one of no unit, and for one that is not known."""
        return self._units.get(cgroup)

    async def of(self, cgroup: int) -> str | None:
        """The unit that a cgroup is of; None for one of no unit, and after 0.4 s without an answer. Never raises."""
        if self.is_known(cgroup):
            return self.unit(cgroup)
        loop, named = asyncio.get_running_loop(), self._named
        asked = loop.time()
        while self._read < asked and (left := asked + _PATIENCE - loop.time()) > 0:
            if self._reading is None:
                self._reading = loop.create_task(self._look(), name="look for units")
            await asyncio.wait({self._reading}, timeout=left)
        if self._read >= asked and self._named == named and cgroup not in self._units:
            self._others.pop(cgroup, None)
            self._others[cgroup] = asked
            if len(self._others) > _MOST_OTHERS:
                del self._others[next(iter(self._others))]
        elif self._read < asked:
            self._complain("the cgroups of this host cannot be read in time")
        return self.unit(cgroup)

    def close(self) -> None:
        """Wait for no answer."""
        if self._reading is not None:
            self._reading.cancel()

    async def _look(self) -> None:
        """One look at all units, which sees every cgroup that was there when it began."""
        loop = asyncio.get_running_loop()
        try:
            await asyncio.sleep(max(0.0, self._due - loop.time()))
            began, named = loop.time(), self._named
            try:
                units = await in_thread(read_units, named)
            except Exception as error:  # noqa: BLE001 - whoever waits has no unit then, and the next one tries again
                self._complain("the cgroups of this host cannot be read", error=told(error))
            else:
                self._units, self._complained = units, False
                if named == self._named:
                    self._read = began
            self._due = loop.time() + max(_APART, _SHARE * (loop.time() - began))
        finally:
            self._reading = None

    def _complain(self, event: str, **details: str) -> None:
        """Once until it goes again: what clients lose meanwhile are the roles of unit grants."""
        if not self._complained:
            log.warning(event, extra={"advice": "see how long this takes: systemd-cgls --all", **details})
        self._complained = True
