"""Roles that are obtained with each other (`from`): what is wanted of one is wanted of its parent, and the other way.

A child whose parent has nothing fails at once, and then waits in a backoff of its own. So a request for it has its
parent tried, and the parent's new session has the child tried.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final

from imds_proxy.renewal.keeper import Keeper

WAKE_EVERY: Final = 0.05
"""Seconds between two children that are tried again, on average: a parent may have hundreds."""


class Chains:
    """The chains of a config.

    Args:
        keepers: Those of a role: one, or one for each service account.
    """

    def __init__(self, keepers: Callable[[str], Sequence[Keeper]]) -> None:
        self._keepers = keepers
        self._parents: Mapping[str, str | None] = {}
        self._children: dict[str, list[str]] = {}

    def follow(self, parents: Mapping[str, str | None]) -> None:
        """Take another config: the parent of each role."""
        self._parents, self._children = parents, {}
        for name, parent in parents.items():
            if parent is not None:
                self._children.setdefault(parent, []).append(name)

    def wanted(self, name: str) -> None:
        """A request found nothing alive of a role: if its parent has nothing either, that is what it waits for."""
        if (parent := self._parents.get(name)) is not None:
            for keeper in self._keepers(parent):
                if keeper.live() is None:
                    keeper.want()

    def renewed(self, name: str) -> None:
        """A role has another session: wake its children."""
        keepers = [keeper for child in self._children.get(name, ()) for keeper in self._keepers(child)]
        for keeper in keepers:
            keeper.parent_renewed(spread=WAKE_EVERY * (len(keepers) - 1))

    def parents_first(self, names: Iterable[str]) -> list[list[str]]:
        """The names in groups, each of which holds nothing that is obtained with one of the same or a later group."""
        groups: dict[int, list[str]] = {}
        for name in names:
            groups.setdefault(self._depth(name), []).append(name)
        return [groups[depth] for depth in sorted(groups)]

    def _depth(self, name: str) -> int:
        parent = self._parents.get(name)
        return 0 if parent is None else 1 + self._depth(parent)
