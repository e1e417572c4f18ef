"""How fast a backfill goes and when it stops: as it was ordered, and as it is tuned meanwhile."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Final

from migrator.control.backfill import health
from migrator.control.backfill.window import Window

MOST_WORKERS: Final = 16
# An exchange of a token that is being planted waits for the page: keep well below its budget.
PAGE_SECONDS: Final = 0.25
SMALLEST, LARGEST, FIRST = 100, 20_000, 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Knobs:
    """What `backfill tune` turns while a backfill is running.

    Args:
        batch: rows of a page; None lets the page size follow its duration.
        workers: how many pages are planted at once.
        sleep_ms: how long each worker rests between two pages.
    """

    batch: int | None = None
    workers: int = 1
    sleep_ms: int = 0

    def as_json(self) -> dict[str, Any]:
        """For the row."""
        return asdict(self)

    @classmethod
    def of(cls, saved: Mapping[str, Any]) -> Knobs:
        """From the row."""
        known = {key: saved[key] for key in ("batch", "workers", "sleep_ms") if key in saved}
        return cls(**known)


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """When to stop before the end, and what to keep to until then.

    Args:
        rows: of this run.
        seconds: of this run, waiting included; at least one page is done.
        batch, workers, sleep_ms: see `Knobs`.
        health: what the database may be asked to bear.
        window: the hours in which pages may begin; None: all.
    """

    rows: int | None = None
    seconds: float | None = None
    batch: int | None = None
    workers: int = 1
    sleep_ms: int = 0
    health: health.Limits = field(default_factory=health.Limits)
    window: Window | None = None

    @property
    def knobs(self) -> Knobs:
        """What can be tuned of it."""
        return Knobs(batch=self.batch, workers=self.workers, sleep_ms=self.sleep_ms)


def auto_workers() -> int:
    """As many as this machine has processors, at most four: the work is the database's."""
    return min(4, os.cpu_count() or 1)


def next_size(size: int, seconds: float) -> int:
    """How many rows the next page has, so that it takes about PAGE_SECONDS."""
    wanted = size * PAGE_SECONDS / max(seconds, 0.001)
    return int(max(SMALLEST, min(LARGEST, max(size / 2, min(size * 2, wanted)))))
