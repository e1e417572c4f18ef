"""How the session store answers one process: latencies and failures of the last minute.

Made of the sums in meters.py, looked at with every heartbeat. A latency is read out of a
histogram, so it is an estimate: between two bounds it is taken to grow evenly.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

from migrator.core.clock import elapsed_ns
from migrator.core.meters import BOUNDS

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from migrator.core.flow import Node
    from migrator.core.meters import Meters

WINDOW_NS = 60_000_000_000


@dataclass(frozen=True, slots=True)
class _Look:
    at: int
    counts: tuple[int, ...]
    failures: int


class Vitals:
    """Of one process, looked at by one thread.

    Args:
        ticks: local nanoseconds.
    """

    def __init__(self, node: Node, meters: Meters, ticks: Callable[[], int] = elapsed_ns) -> None:
        self._node = node
        self._timing = meters.store
        self._ticks = ticks
        self._looks: deque[_Look] = deque([_Look(ticks(), self._counts(), meters.store.failures)])

    def read(self) -> dict[str, object]:
        """The last minute, ready for JSON: null where nothing was asked."""
        now = self._ticks()
        # One look from before the window stays: what was counted since is what it holds.
        while len(self._looks) > 1 and self._looks[1].at <= now - WINDOW_NS:
            self._looks.popleft()
        first, look = self._looks[0], _Look(now, self._counts(), self._timing.failures)
        self._looks.append(look)
        counts = [new - old for new, old in zip(look.counts, first.counts, strict=True)]
        return {
            "window_s": round((now - first.at) / 1e9),
            "asked": sum(counts),
            "p50_ms": quantile_ms(counts, 0.5),
            "p99_ms": quantile_ms(counts, 0.99),
            "errors": look.failures - first.failures,
            "trusted": now < self._node.recent.trusted_until,
        }

    def _counts(self) -> tuple[int, ...]:
        return tuple(self._timing.counts)


def quantile_ms(counts: Sequence[int], share: float) -> float | None:
    """The time that `share` of them took at most; what took longer than all bounds took the last.

    Args:
        counts: by `meters.BOUNDS`, and one more for what is beyond.
    """
    total = sum(counts)
    if total <= 0:
        return None
    wanted, below, lower = share * total, 0, 0.0
    for bound, count in zip(BOUNDS, counts, strict=False):
        if count and below + count >= wanted:
            return round(1000 * (lower + (bound - lower) * (wanted - below) / count), 3)
        below, lower = below + count, bound
    return 1000 * BOUNDS[-1]
