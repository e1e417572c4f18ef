"""The database's clock, as this process knows it. It decides every expiry.

The local clock only measures how much time went by: CLOCK_BOOTTIME where there is one, since a
process that was suspended must not wake up believing that no time has passed.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

_BOOTTIME = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


def elapsed_ns() -> int:
    """Nanoseconds since some fixed moment, counting suspended time where the system can."""
    return time.clock_gettime_ns(_BOOTTIME)


class DatabaseClock:
    """Tells the database's time without asking it, once it was asked."""

    __slots__ = ("_epoch_ns", "_ticks")

    def __init__(self, ticks: Callable[[], int] = elapsed_ns) -> None:
        self._ticks = ticks
        self._epoch_ns: int | None = None

    @property
    def is_set(self) -> bool:
        """Whether the database was asked yet."""
        return self._epoch_ns is not None

    def ticks(self) -> int:
        """Local nanoseconds; what memory is judged by."""
        return self._ticks()

    def learn(self, read_at: datetime) -> None:
        """Take in that the database's clock showed `read_at` just now.

        It did so a little earlier, by half a round trip, so our idea of now never runs ahead.
        """
        self._epoch_ns = _to_ns(read_at) - self._ticks()

    def now(self) -> datetime:
        """The database's time. Only valid once `is_set`."""
        return _from_ns((self._epoch_ns or 0) + self._ticks())

    def ticks_at(self, moment: datetime) -> int:
        """The local tick at which the database's clock will show `moment`."""
        return _to_ns(moment) - (self._epoch_ns or 0)


_START = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


def _to_ns(moment: datetime) -> int:
    return (moment - _START) // _MICROSECOND * 1000


def _from_ns(ns: int) -> datetime:
    return _START + timedelta(microseconds=ns // 1000)
