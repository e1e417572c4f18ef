"""How long stores take and how often caches help: sums in memory, read when metrics are asked for.

Off the hit path: only what misses memory is measured. An increment takes no lock, so a few may be
lost under threads.
"""

from __future__ import annotations

from bisect import bisect_left

# Seconds. A round trip in one data centre takes one or two milliseconds; a budget is a second.
BOUNDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)


class Timing:
    """How long something took, in buckets: `counts[i]` took at most `BOUNDS[i]` seconds."""

    __slots__ = ("counts", "failures", "seconds")

    def __init__(self) -> None:
        self.counts = [0] * (len(BOUNDS) + 1)
        self.seconds = 0.0
        self.failures = 0

    def took(self, seconds: float) -> None:
        """Add one."""
        self.counts[bisect_left(BOUNDS, seconds)] += 1
        self.seconds += seconds


class Lookups:
    """What the cache answered; `absent` also when it could not be asked."""

    __slots__ = ("absent", "found", "tombstones")

    def __init__(self) -> None:
        self.absent = self.found = self.tombstones = 0


class Meters:
    """The measurements of one process."""

    __slots__ = ("cache", "store")

    def __init__(self) -> None:
        self.store = Timing()
        self.cache = Lookups()
