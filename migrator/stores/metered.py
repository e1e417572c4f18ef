"""A driver and a cache that measure what goes through them, and change nothing of it."""

from __future__ import annotations

from time import perf_counter
from typing import TYPE_CHECKING

from migrator.core.errors import Unavailable
from migrator.core.interfaces import Found

if TYPE_CHECKING:
    from collections.abc import Sequence

    from migrator.core.interfaces import Cache, Tombstone
    from migrator.core.meters import Lookups, Timing
    from migrator.stores.drivers import Step
    from migrator.stores.postgres import Driver, Rows


class MeteredDriver:
    """Times every script that `driver` runs, waiting for a connection included."""

    def __init__(self, driver: Driver, timing: Timing) -> None:
        self.blocks = driver.blocks
        self._driver = driver
        self._timing = timing

    async def run(self, *steps: Step, by_anyone: bool = False) -> list[Rows]:
        """See `drivers.BlockingDriver.run`."""
        started = perf_counter()
        try:
            return await self._driver.run(*steps, by_anyone=by_anyone)
        except Unavailable:
            self._timing.failures += 1
            raise
        finally:
            self._timing.took(perf_counter() - started)


class MeteredCache:
    """Counts what `cache` knew."""

    def __init__(self, cache: Cache, lookups: Lookups) -> None:
        self.blocks = cache.blocks
        self._cache = cache
        self._lookups = lookups

    async def get(self, digest: bytes) -> Found | Tombstone | None:
        """See `Cache.get`."""
        known = await self._cache.get(digest)
        if known is None:
            self._lookups.absent += 1
        elif isinstance(known, Found):
            self._lookups.found += 1
        else:
            self._lookups.tombstones += 1
        return known

    async def fill(self, found: Found) -> None:
        """See `Cache.fill`."""
        await self._cache.fill(found)

    async def bury(self, digests: Sequence[bytes]) -> None:
        """See `Cache.bury`."""
        await self._cache.bury(digests)

    async def hint(self, kinds: Sequence[tuple[str, str]]) -> None:
        """See `Cache.hint`."""
        await self._cache.hint(kinds)
