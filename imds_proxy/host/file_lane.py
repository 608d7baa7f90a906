"""A thread that finds out when files change, for all that are on the same mounts.

There is one for the files that the kernel tells of, and one for each other mount: what hangs on such a mount holds up
what is on it, and nothing else. A path that leads over several has a thread of those.
"""

import contextlib
import heapq
import itertools
import logging
import os
import select
import stat
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Final

from imds_proxy.host.file_way import Signature, Way, find_way, signature
from imds_proxy.host.inotify_watches import InotifyWatches, advice, is_shortage, reason
from imds_proxy.host.mounts import MOUNTINFO, Mount, Mounts

if TYPE_CHECKING:
    from imds_proxy.host.file_watcher import FileWatcher

log = logging.getLogger(__name__)

SETTLED: Final = 0.25  # seconds between two looks that find the same
_POLL: Final = 0.25  # seconds between looks at what nothing tells of, and longer where there is much of it
_POLL_EACH: Final = 0.0005  # seconds more for each: a thousand cost two percent of a core
_GATHER: Final = 0.02  # seconds for which events gather; a busy folder has many
_SWEEP: Final = 300.0  # seconds between looks at everything: nothing tells of what is written to a file in memory
_MOUNTS_APART: Final = 1.0  # seconds between two readings of the mounts, where they change all the time
_LINGER: Final = 5.0  # seconds until it ends once there is nothing to look at
_TOLD_AT_ONCE: Final = 10
_TOLD_PAUSE: Final = 0.005  # seconds: a thousand changes at once would hold up the event loop
_MOST_TRIES: Final = 5

Signatures = list[Signature | None]


class Wait:
    """Somebody who waits until some files change.

    Args:
        paths: Absolute.
        is_news: Whether files like that are others than those read. Called in the thread.
        tell: Called once they have changed, or with what prevents that from being found out. Called in the thread.
    """

    def __init__(
        self,
        paths: Sequence[str],
        is_news: Callable[[Signatures], bool],
        tell: Callable[[BaseException | None], None],
    ) -> None:
        self.paths, self.is_news, self.tell = paths, is_news, tell
        self.has_ended = False
        """Set by whoever waits."""
        self.lane: FileLane | None = None
        self.before: Signatures | None = None
        """What was found at the last look."""
        self.when: float | None = None
        """When the next look is to be; None: once something happens."""
        self.steps: set[str] = set()
        self.is_told_of = False
        """Whether the kernel tells of changes."""


class FileLane:
    """One such thread.

    Args:
        watcher: Has the others.
        silent: The mounts that do not tell of changes, on which the files are; none: all of them tell.
    """

    def __init__(self, watcher: "FileWatcher", silent: frozenset[Mount]) -> None:
        self.inbox: dict[Wait, None] = {}
        """What it is to take; guarded by the watcher's lock."""
        self._watcher, self._silent = watcher, silent
        self._waits: set[Wait] = set()
        self._line: list[tuple[float, int, Wait]] = []
        """The looks to come, the first one first; one that is not at its wait's `when` does not count."""
        self._number = itertools.count()
        self._concerned: dict[str, set[Wait]] = {}
        """By the path of each step of their ways."""
        self._told = 0
        self._is_told_of = 0
        self._wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._mountinfo: int | None = None
        self._mounts = Mounts(())
        self._mounts_read = self._swept = self._last_used = 0.0
        self._watches: InotifyWatches | None = None

    def start(self) -> None:
        """Raises RuntimeError where no thread can be started."""
        try:
            threading.Thread(target=self._run, name="look at files", daemon=True).start()
        except RuntimeError:
            os.close(self._wake)
            raise

    def wake(self) -> None:
        """Have it look into its inbox, and for those that have ended."""
        with contextlib.suppress(OSError):  # it has ended
            os.eventfd_write(self._wake, 1)

    def _run(self) -> None:
        try:
            self._open()
            while self._goes_on():
                self._turn()
        except BaseException as error:  # noqa: BLE001 - raised where it is waited for
            self._watcher.end(self, error, self._waits)
        finally:
            self._close()

    def _open(self) -> None:
        self._poller = select.poll()
        self._poller.register(self._wake, select.POLLIN)
        self._swept = self._last_used = time.monotonic()
        if not self._silent:
            with contextlib.suppress(OSError):
                self._mountinfo = os.open(MOUNTINFO, os.O_RDONLY | os.O_CLOEXEC)
                self._poller.register(self._mountinfo, select.POLLPRI)
            self._ask_for_inotify()
        self._read_mounts()

    def _close(self) -> None:
        with self._watcher.lock:  # nobody wakes it any more
            os.close(self._wake)
            self._wake = -1
        if self._mountinfo is not None:
            os.close(self._mountinfo)
        if self._watches is not None:
            self._watches.close()

    def _goes_on(self) -> bool:
        """Whether there is anything to look at, or was a moment ago."""
        now = time.monotonic()
        if self._waits:
            self._last_used = now
        return now < self._last_used + _LINGER or not self._watcher.end_unused(self)

    # One turn

    def _turn(self) -> None:
        """Wait for something to happen, and look at what it concerns."""
        happened = {descriptor for descriptor, _ in self._poller.poll(self._patience() * 1000)}
        if happened:
            time.sleep(_GATHER)
        if self._wake in happened:
            os.eventfd_read(self._wake)
        for wait in [wait for wait in self._waits if wait.has_ended] if self._wake in happened else ():
            self._drop(wait)
        self._look_at(self._taken())
        self._look_at(self._of_mounts() if self._mountinfo in happened else ())
        self._look_at(self._of_events())
        self._look_at(self._of_time())
        if time.monotonic() >= self._swept + _SWEEP:
            self._sweep()

    def _patience(self) -> float:
        """Seconds until something is to be done in any case."""
        now = time.monotonic()
        while self._line and self._line[0][2].when != self._line[0][0]:
            heapq.heappop(self._line)
        next_look = self._line[0][0] if self._line else now + _SWEEP
        next_end = now + _SWEEP if self._waits else self._last_used + _LINGER
        return max(min(next_look, next_end, self._swept + _SWEEP) - now, 0.001)

    def _taken(self) -> list[Wait]:
        with self._watcher.lock:
            taken = [wait for wait in self.inbox if not wait.has_ended]
            self.inbox.clear()
        self._waits.update(taken)
        return taken

    def _of_mounts(self) -> set[Wait]:
        """Those on whose way something was mounted or unmounted."""
        time.sleep(max(self._mounts_read + _MOUNTS_APART - time.monotonic(), 0))
        before = self._mounts
        self._read_mounts()
        if self._watches is not None:
            self._watches.forget_fresh()
        return self._on_ways(self._mounts.changed_points(before))

    def _of_events(self) -> set[Wait]:
        if self._watches is None:
            return set()
        paths, lost = self._watches.happened()
        found = set(self._waits) if lost else self._on_ways(paths)
        return {wait for wait in found if wait.when is None}  # else there will be a look anyway

    def _of_time(self) -> list[Wait]:
        now, due = time.monotonic(), []
        while self._line and self._line[0][0] <= now:
            when, _, wait = heapq.heappop(self._line)
            if wait.when == when:
                wait.when = None
                due.append(wait)
        return due

    def _sweep(self) -> None:
        """Look at everything, and watch nothing that is on nobody's way any more."""
        self._swept = time.monotonic()
        self._read_mounts()
        if not self._silent and self._watches is None:
            self._ask_for_inotify()
        if self._watches is not None:
            self._watches.forget_fresh()
            self._look_at(list(self._waits))
            self._watches.sweep()

    def _on_ways(self, paths: Iterable[str]) -> set[Wait]:
        return set().union(*(self._concerned.get(path, ()) for path in paths))

    # One look

    def _look_at(self, waits: Iterable[Wait]) -> None:
        for wait in waits:
            if wait in self._waits and not wait.has_ended:
                self._look(wait)

    def _look(self, wait: Wait) -> None:
        found = self._found_by_polling(wait) if self._silent else self._found(wait)
        if found is None:  # it is another one's
            return
        is_news, is_settled = wait.is_news(found), found == wait.before
        wait.before = found
        if is_news and is_settled:
            self._tell(wait)
        elif is_news:
            self._look_again(wait, SETTLED)
        elif not wait.is_told_of:
            self._look_again(wait, _POLL + _POLL_EACH * (len(self._waits) - self._is_told_of))

    def _found(self, wait: Wait) -> Signatures | None:
        """What the files are like, of which the kernel tells; else they are given to whom they belong to."""
        found: Signatures = []
        for _ in range(_MOST_TRIES):
            ways = [find_way(path, self._mounts) for path in wait.paths]
            if silent := frozenset().union(*(way.silent for way in ways)):
                self._give_on(wait, silent)
                return None
            self._note_steps(wait, ways)
            found, is_new = self._watched(wait, ways)
            if not is_new:  # what happens from here on is told
                break
        return found

    def _watched(self, wait: Wait, ways: Sequence[Way]) -> tuple[Signatures, bool]:
        """What the files are like once they are watched, and whether anything was not watched before."""
        is_told_of = is_new = False
        found: Signatures = []
        try:
            if self._watches is not None:
                is_new = any([self._watches.add(way) for way in ways])  # noqa: C419 - each of them
                is_told_of = True
            for way in ways:
                each, has_other_names = _look_at_file(way.target)
                found.append(each)
                if self._watches is not None and (has_other_names or self._mounts.is_point(way.target)):
                    is_new |= self._watches.add_file(way.target)
        except OSError as error:
            is_told_of = is_new = False
            found = [signature(way.target) for way in ways]
            if is_shortage(error):
                self._watcher.say_shortage(reason(error), advice(error))
        self._is_told_of += is_told_of - wait.is_told_of
        wait.is_told_of = is_told_of
        return found, is_new

    def _found_by_polling(self, wait: Wait) -> Signatures | None:
        """What the files are like; where they have changed, links may lead elsewhere by now."""
        found = [signature(path) for path in wait.paths] if wait.before is not None else None
        if found is not None and found == wait.before:
            return found
        if time.monotonic() > self._mounts_read + _MOUNTS_APART:
            self._read_mounts()
        ways = [find_way(path, self._mounts, self._silent) for path in wait.paths]
        silent = self._silent.union(*(way.silent for way in ways))
        if silent != self._silent:
            self._give_on(wait, silent)
            return None
        return [signature(path) for path in wait.paths]

    def _look_again(self, wait: Wait, seconds: float) -> None:
        wait.when = time.monotonic() + seconds
        heapq.heappush(self._line, (wait.when, next(self._number), wait))

    def _tell(self, wait: Wait) -> None:
        self._drop(wait)
        wait.tell(None)
        self._told += 1
        if self._told % _TOLD_AT_ONCE == 0:
            time.sleep(_TOLD_PAUSE)

    def _give_on(self, wait: Wait, silent: frozenset[Mount]) -> None:
        self._drop(wait)
        wait.before = None
        try:
            self._watcher.give(wait, silent)
        except (RuntimeError, OSError) as error:  # no thread can be started
            wait.tell(error)

    def _drop(self, wait: Wait) -> None:
        self._note_steps(wait, ())
        self._waits.discard(wait)
        self._is_told_of -= wait.is_told_of
        wait.when, wait.is_told_of = None, False

    def _note_steps(self, wait: Wait, ways: Iterable[Way]) -> None:
        steps = {f"{folder.rstrip('/')}/{name}" for way in ways for folder, name in way.steps}
        for step in wait.steps - steps:
            concerned = self._concerned[step]
            concerned.discard(wait)
            if not concerned:
                del self._concerned[step]
        for step in steps - wait.steps:
            self._concerned.setdefault(step, set()).add(wait)
        wait.steps = steps

    def _read_mounts(self) -> None:
        self._mounts, self._mounts_read = self._watcher.read_mounts(), time.monotonic()

    def _ask_for_inotify(self) -> None:
        try:
            self._watches = InotifyWatches()
        except OSError as error:
            self._watcher.say_shortage(reason(error), advice(error))
        else:
            self._poller.register(self._watches.fileno(), select.POLLIN)


def _look_at_file(path: str) -> tuple[Signature | None, bool]:
    """What a file is like, and whether it has other names, by which it can be changed too."""
    try:
        status = os.stat(path)  # noqa: PTH116 - a string, thousands of times
    except (OSError, ValueError):
        return None, False
    found = status.st_ino, status.st_mtime_ns, status.st_ctime_ns, status.st_size
    return found, status.st_nlink > 1 and stat.S_ISREG(status.st_mode)
