"""The trend of legacy traffic: an estimate that says how sure it is, or why there is none."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from migrator.control.trend import NoTrend, Point, Trend, fit

NOW = datetime(2026, 11, 23, 14, 31, 7, tzinfo=UTC)
HOUR = NOW.replace(minute=0, second=0)


def falling(days: float, *, share: float, daily: float, whole: int = 100_000) -> list[Point]:
    """Hours up to now; the odds are those of `share` now, and that times `daily` a day later."""
    hours = int(days * 24)
    points = []
    for back in range(hours, 0, -1):
        start = HOUR - timedelta(hours=back)
        ago = (start + timedelta(minutes=30) - NOW) / timedelta(days=1)
        odds = share / (1 - share) * daily**ago
        then = odds / (1 + odds)
        points.append(Point(start, round(whole * (1 - then)), round(whole * then)))
    return points


counts = st.integers(0, 10**9)
hours = st.lists(st.tuples(st.integers(1, 168), counts, counts), max_size=168).map(
    lambda rows: [
        Point(HOUR - timedelta(hours=back), session, legacy)
        for back, session, legacy in sorted(
            {row[0]: row for row in rows}.values(), key=lambda row: -row[0]
        )
    ]
)


@given(hours)
def test_it_is_never_in_the_past_never_sure_and_never_beyond_a_year(points: list[Point]) -> None:
    found = fit(points, NOW)
    if isinstance(found, NoTrend):
        assert found.why
    else:
        assert NOW <= found.at <= NOW + timedelta(days=366)
        assert timedelta(minutes=30) <= found.plus_minus <= timedelta(days=366)
        assert 0 < found.days <= 7.1


@given(st.integers(1, 99), st.integers(10, 10**7))
def test_what_stays_as_it_is_or_rises_has_none(percent: int, whole: int) -> None:
    same = [
        Point(HOUR - timedelta(hours=back), whole * (100 - percent), whole * percent)
        for back in range(168, 0, -1)
    ]
    assert isinstance(fit(same, NOW), NoTrend)
    rising = [
        Point(one.start, one.session, one.legacy + number * whole)
        for number, one in enumerate(same)
    ]
    assert fit(rising, NOW) == NoTrend("not falling")


@given(st.floats(0.002, 0.5), st.floats(0.3, 0.9))
def test_a_steady_fall_is_carried_on_to_its_end(share: float, daily: float) -> None:
    found = fit(falling(7, share=share, daily=daily, whole=10_000_000), NOW)
    days = math.log(0.001 / 0.999 * (1 - share) / share) / math.log(daily)
    assert isinstance(found, Trend)
    assert abs(found.at - (NOW + timedelta(days=days))) <= found.plus_minus + timedelta(days=0.5)
    assert found.days == pytest.approx(7, abs=0.1)


def test_a_young_rollout_is_judged_by_hours() -> None:
    found = fit(falling(0.5, share=0.05, daily=0.2), NOW)
    assert isinstance(found, Trend)
    assert found.plus_minus < timedelta(days=1)
    assert found.days == pytest.approx(0.5, abs=0.1)


@pytest.mark.parametrize(
    ("points", "why"),
    [
        ([], "counted for 0 of at least 4 full hours"),
        (falling(0.125, share=0.2, daily=0.5), "counted for 3 of at least 4 full hours"),
        (falling(7, share=0.0005, daily=0.5), "below 0.10 % already"),
        (falling(7, share=0.9, daily=0.98), "falls too slowly: beyond 366 days"),
    ],
    ids=["nothing", "three-hours", "below", "slow"],
)
def test_where_there_is_none_it_says_why(points: list[Point], why: str) -> None:
    assert fit(points, NOW) == NoTrend(why)


def test_noise_widens_the_error() -> None:
    calm = falling(7, share=0.05, daily=0.7)
    wild = [
        Point(one.start, one.session, round(one.legacy * (3 if one.start.day % 2 else 0.3)))
        for one in calm
    ]
    steady, shaken = fit(calm, NOW), fit(wild, NOW)
    assert isinstance(steady, Trend)
    assert isinstance(shaken, Trend)
    assert shaken.plus_minus > 2 * steady.plus_minus
