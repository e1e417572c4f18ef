"""Caches without a server: one that lives in this process, and one that holds nothing.

`MemoryCache` is for tests and shares the contract suite of the Redis ones. `NoCache` is what
stands where a Redis would, when there is none.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Final

from migrator.core.interfaces import TOMBSTONE, Found, Tombstone

_TOMBSTONE_LIFE: Final = timedelta(seconds=120)


def utc_now() -> datetime:
    """This machine's time."""
    return datetime.now(UTC)


class MemoryCache:
    """`interfaces.Cache` in this process. Safe between threads. Arguments as `MemoryStore`."""

    def __init__(
        self,
        clock: Callable[[], datetime] = utc_now,
        *,
        blocks: bool = True,
        entry_seconds: float = 60,
    ) -> None:
        self.blocks = blocks
        self.hints: list[tuple[str, str]] = []
        self._clock = clock
        self._life = timedelta(seconds=entry_seconds)
        self._lock = threading.Lock()
        self._kept: dict[bytes, tuple[Found | Tombstone, datetime]] = {}

    async def get(self, digest: bytes) -> Found | Tombstone | None:
        """See `Cache.get`."""
        with self._lock:
            return self._get(digest)

    async def fill(self, found: Found) -> None:
        """See `Cache.fill`."""
        with self._lock:
            if self._get(found.digest) is None:
                self._kept[found.digest] = (found, found.read_at + self._life)

    async def bury(self, digests: Sequence[bytes]) -> None:
        """See `Cache.bury`."""
        with self._lock:
            over = self._clock() + _TOMBSTONE_LIFE
            self._kept.update((digest, (TOMBSTONE, over)) for digest in digests)

    async def hint(self, kinds: Sequence[tuple[str, str]]) -> None:
        """See `Cache.hint`; what was told is kept in `hints`."""
        self.hints.extend(kinds)

    def _get(self, digest: bytes) -> Found | Tombstone | None:
        kept, over = self._kept.get(digest, (None, self._clock()))
        return kept if self._clock() < over else None


class NoCache:
    """What stands where a Redis would: it holds nothing, in either colour."""

    def __init__(self, *, blocks: bool = True) -> None:
        self.blocks = blocks

    async def get(self, digest: bytes) -> None:
        """Nothing is cached."""

    async def fill(self, found: Found) -> None:
        """Keep nothing."""

    async def bury(self, digests: Sequence[bytes]) -> None:
        """There is nothing to put a tombstone over."""

    async def hint(self, kinds: Sequence[tuple[str, str]]) -> None:
        """Nobody listens."""
