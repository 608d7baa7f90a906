"""The daemon's side: rotation goes on beside everything else, and follows the config. Heavy imports wait for it."""

import asyncio
import importlib

from imds_proxy.config.model import BaseKeyConfig, Config
from imds_proxy.host.clock import Clock
from imds_proxy.host.state_dir import StateDir
from imds_proxy.host.threads import cancel_and_wait
from imds_proxy.telemetry.stats import BaseKeyStats, RenewalStats


class BaseKeyTask:
    """Rotation as the config wants it, or none.

    Args:
        clock: Wall time.
        stats: Where its figures go.
    """

    def __init__(self, clock: Clock, stats: RenewalStats) -> None:
        self._clock = clock
        self._stats = stats
        self._settings: BaseKeyConfig | None = None
        self._task: asyncio.Task[None] | None = None

    async def follow(self, config: Config, state: StateDir | None, region: str | None) -> None:
        """Start, stop or leave it, as the config says."""
        settings = config.base_key if config.base_key and config.base_key.rotate_every else None
        if settings == self._settings:
            return
        await self.close()
        self._settings = settings
        if settings is None:
            self._stats.base_key = None
            return
        self._stats.base_key = stats = self._stats.base_key or BaseKeyStats()
        rotator = await asyncio.to_thread(importlib.import_module, "imds_proxy.base_key.schedule")
        self._task = asyncio.create_task(rotator.make(config, state, region, self._clock, stats).run())

    async def close(self) -> None:
        """End it where it is: the next start goes on from there."""
        task, self._task = self._task, None
        if task is not None:
            await cancel_and_wait(task)
