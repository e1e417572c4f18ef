"""When so many log in that something was taken from them, and from how little nothing is told."""

from __future__ import annotations

import pytest

from migrator.core.sign_ins import too_many, usual


@pytest.mark.parametrize(
    ("sign_ins", "minutes", "rate"),
    [(30, 10.0, 3.0), (0, 10.0, 0.0), (30, 9.9, None), (30, None, None), (1440, 1440.0, 1.0)],
)
def test_what_is_usual_is_told_by_ten_minutes_at_the_least(
    sign_ins: int, minutes: float | None, rate: float | None
) -> None:
    assert usual(sign_ins, minutes) == rate


@pytest.mark.parametrize(
    ("sign_ins", "minutes", "baseline", "rate"),
    [
        (5, 1.0, 2.0, 5.0),  # the least of both
        (4, 1.0, 1.0, None),
        (5, 0.99, 1.0, None),
        (10, 2.0, 2.5, None),  # twice as many is not more
        (11, 2.0, 2.5, 5.5),
        (5, 1.0, 0.0, 5.0),
        (500, 1.0, None, None),
    ],
)
def test_too_many_is_more_than_so_many_times_the_usual_and_no_noise(
    sign_ins: int, minutes: float, baseline: float | None, rate: float | None
) -> None:
    assert too_many(sign_ins, minutes, factor=2.0, baseline=baseline) == rate
