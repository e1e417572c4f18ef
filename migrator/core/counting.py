"""Counts by names that clients have a hand in: bounded, and taken by the pulse.

A key that came up stays known for a while, so that within an hour no process makes more than
`room` different rows, whatever is invented; what is more is counted under its folded form.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Generic, Protocol, Self, TypeVar

if TYPE_CHECKING:
    from collections.abc import Mapping

MOST_KEYS = 2_000
TAKES = 3_600  # a second apart


class _Folds(Protocol):
    def folded(self) -> Self:
        """The key that stands for those there is no room for."""
        ...


_K = TypeVar("_K", bound=_Folds)


class Counts(Generic[_K]):
    """How often each key came up since the last take."""

    __slots__ = ("_counts", "_known", "_room", "_takes")

    def __init__(self, room: int = MOST_KEYS) -> None:
        self._room = room
        self._known: set[_K] = set()
        self._takes = 0
        self._counts: dict[_K, int] = {}

    def add(self, key: _K, count: int = 1) -> None:
        """Count `key`."""
        if key not in self._known:
            if len(self._known) >= self._room:
                key = key.folded()
            else:
                self._known.add(key)
        if key not in self._counts and len(self._counts) >= 2 * self._room:
            return  # what folding leaves is its issuer's and its keys': a signer that goes mad
        self._counts[key] = self._counts.get(key, 0) + count

    def take(self) -> dict[_K, int]:
        """What came up since the last take."""
        self._takes += 1
        if self._takes >= TAKES:
            self._takes, self._known = 0, set()
        taken, self._counts = self._counts, {}
        return taken

    def give_back(self, taken: Mapping[_K, int]) -> None:
        """Undo a take whose flush failed."""
        for key, count in taken.items():
            self._counts[key] = self._counts.get(key, 0) + count

    def forget(self) -> None:
        """Start anew, in a child process."""
        self._known.clear()
        self._counts.clear()
        self._takes = 0
