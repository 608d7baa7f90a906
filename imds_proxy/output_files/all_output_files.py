"""Every file that the config wants kept fresh, across reloads."""

import asyncio
import importlib
import logging
from collections import defaultdict
from typing import TYPE_CHECKING

from imds_proxy.config.model import Config
from imds_proxy.config.output_files import OutputFileConfig
from imds_proxy.host.clock import Clock
from imds_proxy.host.threads import in_thread
from imds_proxy.telemetry.stats import FileStats, RenewalStats

if TYPE_CHECKING:
    from imds_proxy.output_files.output_file import IsPending, Live, Output

log = logging.getLogger(__name__)


class Outputs:
    """The files of one daemon.

    Args:
        live: The live credentials of a role.
        is_pending: Whether they may still come soon.
        stats: Where their figures go.
        clock: Wall time.
    """

    def __init__(self, live: "Live", is_pending: "IsPending", stats: RenewalStats, clock: Clock) -> None:
        self._live = live
        self._is_pending = is_pending
        self._stats = stats
        self._clock = clock
        self._outputs: dict[str, Output] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}

    def all(self) -> "list[Output]":
        """In the order of the config file."""
        return list(self._outputs.values())

    async def follow(self, config: Config) -> None:
        """Keep the files of `config`; those that are in it no more are left as they are."""
        wanted = _by_path(config.files)
        if wanted:
            await in_thread(importlib.import_module, "imds_proxy.output_files.output_file")
        dropped = self._outputs.keys() - wanted.keys()
        await asyncio.gather(*map(self._drop, dropped))
        for path in dropped:
            del self._stats.files[path]
            log.info("file not kept any more; its credentials will expire", extra={"path": path})
        self._outputs = {path: self._kept(path, entries) for path, entries in wanted.items()}
        for path, output in self._outputs.items():
            if path not in self._tasks:
                self._tasks[path] = asyncio.create_task(output.run(), name=f"keep {path}")

    def refresh(self) -> None:
        """Called after every renewal of any role."""
        for output in self._outputs.values():
            output.refresh()

    async def tried(self) -> None:
        """Return once every file was written, or could not be, with what its roles brought at first."""
        for output in self.all():
            await output.tried.wait()

    async def close(self) -> None:
        """Stop, after what is being written."""
        await asyncio.gather(*map(self._drop, list(self._outputs)))

    def _kept(self, path: str, entries: tuple[OutputFileConfig, ...]) -> "Output":
        """The same as before where there was one, so that never two write to one path."""
        from imds_proxy.output_files.output_file import Output  # noqa: PLC0415 - imported by `follow`, where there are files

        if (output := self._outputs.get(path)) is None:
            stats = self._stats.files.setdefault(path, FileStats())
            return Output(entries, self._live, self._is_pending, stats, self._clock)
        output.follow(entries)
        return output

    async def _drop(self, path: str) -> None:
        task = self._tasks.pop(path)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await self._outputs.pop(path).close()


def _by_path(files: tuple[OutputFileConfig, ...]) -> dict[str, tuple[OutputFileConfig, ...]]:
    found: defaultdict[str, list[OutputFileConfig]] = defaultdict(list)
    for file in files:
        found[file.path].append(file)
    return {path: tuple(entries) for path, entries in found.items()}
