"""What is measured of stores and caches, and what is told of the last minute of it."""

from __future__ import annotations

import pytest

from migrator.core.meters import BOUNDS, Meters
from migrator.core.vitals import Vitals, quantile_ms
from tests.bench import parts

SECOND = 1_000_000_000


def test_a_process_begins_with_nothing_measured() -> None:
    meters = Meters()
    assert meters.store.counts == [0] * 12
    assert (meters.store.seconds, meters.store.failures) == (0.0, 0)
    assert (meters.cache.absent, meters.cache.found, meters.cache.tombstones) == (0, 0, 0)


@pytest.mark.parametrize(("seconds", "bucket"), [(0.0, 0), (0.001, 0), (0.0011, 1), (2.5, 10)])
def test_a_time_counts_under_the_first_bound_that_it_keeps(seconds: float, bucket: int) -> None:
    timing = Meters().store
    timing.took(seconds)
    assert timing.counts.index(1) == bucket


def test_times_add_up_and_what_is_beyond_all_bounds_is_counted_too() -> None:
    timing = Meters().store
    for seconds in (3.0, 3.0, 0.5):
        timing.took(seconds)
    assert timing.seconds == 6.5
    assert (timing.counts[-1], sum(timing.counts)) == (2, 3)


@pytest.mark.parametrize(
    ("counts", "share", "told"),
    [
        ([50, 0, 50], 0.5, 1.0),  # half of them took a millisecond at most
        ([50, 50], 0.75, 1.75),
        ([3], 1 / 3, 0.333),
        ([0, 4], 0.25, 1.375),
        ([1], 1.0, 1.0),
    ],
)
def test_a_latency_grows_evenly_between_two_bounds(
    counts: list[int], share: float, told: float
) -> None:
    assert quantile_ms(counts + [0] * (len(BOUNDS) + 1 - len(counts)), share) == told


def test_what_is_told_is_of_a_minute_by_the_look_before_it() -> None:
    now = 0
    node, meters = parts.node(remembers=True), Meters()
    meters.store.failures = 3  # before anybody looked
    vitals = Vitals(node, meters, lambda: now)
    node.recent.trusted_until = 62 * SECOND
    now = 61 * SECOND
    meters.store.took(0.001)
    assert vitals.read() == {
        "window_s": 61,
        "asked": 1,
        "p50_ms": 0.5,
        "p99_ms": 0.99,
        "errors": 0,
        "trusted": True,
    }
    now = 62 * SECOND
    assert vitals.read()["trusted"] is False
    now = 121 * SECOND
    meters.store.failures += 2
    assert vitals.read() == {
        "window_s": 60,
        "asked": 0,
        "p50_ms": None,
        "p99_ms": None,
        "errors": 2,
        "trusted": False,
    }
    now += 20 * SECOND
    assert vitals.read()["window_s"] == 79
    now += 41 * SECOND + SECOND // 2
    assert vitals.read()["window_s"] == 62


def test_two_looks_are_enough_to_forget_the_first() -> None:
    now = 0
    vitals = Vitals(parts.node(remembers=True), Meters(), lambda: now)
    now = 61 * SECOND
    vitals.read()
    now = 130 * SECOND
    assert vitals.read()["window_s"] == 69
