"""When the share of legacy tokens will be next to nothing, if it goes on falling as it did.

Where each day the same part of those left moves over, what is left beside what has moved is a
straight line in logarithms, from nearly all to nearly none: it is laid through the last week, by
days, or by hours while there are few, each weighing what was counted in it. It is an estimate and
says so, with its error; it names no moment that is over, and none at all where the fall cannot be
told from chance. The drain horizon is what is exact; this is not it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

from sqlalchemy import text

from migrator.control.outcomes import ADMITTED
from migrator.stores.queries import in_schema

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from sqlalchemy import Connection

QUIET_PERCENT = 0.1
_QUIET = math.log(QUIET_PERCENT / (100 - QUIET_PERCENT))
_BACK = timedelta(days=7)
_HOUR = timedelta(hours=1)
_DAY = timedelta(days=1)
_FEWEST = 4
# Of the standard error: about nineteen times in twenty the truth lies within.
_SURE = 2.0
_FARTHEST = timedelta(days=366)

_HOURS = """
SELECT hour,
  coalesce(sum(count) FILTER (WHERE outcome = 'session'), 0)::bigint AS session,
  coalesce(sum(count) FILTER (WHERE outcome = ANY(:legacy)), 0)::bigint AS legacy
FROM {s}.legacy_usage WHERE hour >= :since AND hour < :until GROUP BY hour ORDER BY hour
"""


@dataclass(frozen=True, slots=True)
class Point:
    """What was counted from `start` on, for an hour or for a day."""

    start: datetime
    session: int
    legacy: int


@dataclass(frozen=True, slots=True)
class Trend:
    """When the share falls below QUIET_PERCENT, give or take; `at` is never before now.

    `days` is how much of the past it rests on.
    """

    at: datetime
    plus_minus: timedelta
    days: float


@dataclass(frozen=True, slots=True)
class NoTrend:
    """Why there is none."""

    why: str


def read(connection: Connection, schema: str, *, now: datetime) -> tuple[Point, ...]:
    """The full hours of the last week in which anything was counted."""
    until = now.replace(minute=0, second=0, microsecond=0)
    found = connection.execute(
        text(in_schema(_HOURS, schema)),
        {"since": until - _BACK, "until": until, "legacy": sorted(ADMITTED)},
    )
    return tuple(Point(row.hour, row.session, row.legacy) for row in found)


def fit(hours: Sequence[Point], now: datetime) -> Trend | NoTrend:
    """Where the line through these hours crosses QUIET_PERCENT."""
    days = _by_days(hours, now)
    points, width = (days, _DAY) if len(days) >= _FEWEST else (list(hours), _HOUR)
    points = [point for point in points if point.session + point.legacy > 0]
    if len(points) < _FEWEST:
        return NoTrend(f"counted for {len(points)} of at least {_FEWEST} full hours")
    last = points[-1]
    if 100 * last.legacy < QUIET_PERCENT * (last.session + last.legacy):
        return NoTrend(f"below {QUIET_PERCENT:.2f} % already")
    return _cross(points, width, now)


def _by_days(hours: Sequence[Point], now: datetime) -> list[Point]:
    """The hours by days of twenty-four that end with the last full hour; full days alone."""
    until = now.replace(minute=0, second=0, microsecond=0)
    first = hours[0].start if hours else until
    days: list[Point] = []
    for back in range(int(_BACK / _DAY), 0, -1):
        start = until - back * _DAY
        inside = [one for one in hours if start <= one.start < start + _DAY]
        if start >= first and inside:
            session, legacy = sum(one.session for one in inside), sum(o.legacy for o in inside)
            days.append(Point(start, session, legacy))
    return days


def _cross(points: Sequence[Point], width: timedelta, now: datetime) -> Trend | NoTrend:
    # Time in widths before now, the middle of each; half a request keeps ln away from nothing.
    times = [(point.start + width / 2 - now) / width for point in points]
    logs = [math.log((point.legacy + 0.5) / (point.session + 0.5)) for point in points]
    # A share of few requests says little; but no one busy day may decide alone.
    weights = [math.sqrt(p.session + p.legacy) for p in points]
    whole = sum(weights)
    mean_t = sum(w * t for w, t in zip(weights, times, strict=True)) / whole
    mean_l = sum(w * y for w, y in zip(weights, logs, strict=True)) / whole
    spread = sum(w * (t - mean_t) ** 2 for w, t in zip(weights, times, strict=True))
    both = zip(weights, times, logs, strict=True)
    slope = sum(w * (t - mean_t) * (y - mean_l) for w, t, y in both) / spread
    rests = [
        w * (y - mean_l - slope * (t - mean_t)) ** 2
        for w, t, y in zip(weights, times, logs, strict=True)
    ]
    noise = sum(rests) / (len(points) - 2)
    slope_error = math.sqrt(noise / spread)
    if slope >= 0 or -slope <= _SURE * slope_error:
        return NoTrend("not falling" if slope >= 0 else "not falling beyond chance")
    ahead = (_QUIET - mean_l) / slope + mean_t
    error = math.sqrt(noise / whole + ((ahead - mean_t) * slope_error) ** 2) / -slope
    if ahead > _FARTHEST / width:
        return NoTrend(f"falls too slowly: beyond {_FARTHEST.days} days")
    # No finer than the points are: a line through four of them is not good to the second.
    give = max(min(_SURE * error, _FARTHEST / width), 0.5)
    since = points[0].start
    return Trend(
        at=now + max(ahead, 0.0) * width,
        plus_minus=give * width,
        days=round((now - since) / _DAY, 1),
    )
