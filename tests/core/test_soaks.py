"""A soak: what it compares, when that proves anything, and that its column is read as written."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import pytest

from migrator.core.phases import Exemption, Phase
from migrator.core.soaks import Back, Measure, Soak

AT = datetime(2026, 11, 23, 14, tzinfo=UTC)
BACK = Back(
    phase=Phase.DRAIN,
    percent=100,
    exceptions=(Exemption(by="client", value="bot", phase=Phase.DRAIN),),
    drain_since=AT - timedelta(days=3),
)


def soak(baseline: float | None = 3.0) -> Soak:
    return Soak(
        since=AT,
        until=AT + timedelta(minutes=15),
        sign_ins=2.0,
        baseline_per_min=baseline,
        epoch=7,
        back=BACK,
    )


@pytest.mark.parametrize(
    ("seconds", "sign_ins", "breaks"),
    [
        (300, 31, True),
        (300, 30, False),  # exactly twice as many is not more
        (59, 500, False),  # too early to tell
        (61, 4, False),  # too few to tell
        (61, 7, True),
        (900, 10_000, False),  # over
    ],
)
def test_a_soak_breaks_by_a_rate_and_never_by_noise(
    seconds: int, sign_ins: int, breaks: bool
) -> None:
    found = soak().breach(Measure(at=AT + timedelta(seconds=seconds), sign_ins=sign_ins))
    assert (found is not None) == breaks
    if found is not None:
        assert "3.0 before: more than 2 times" in found


def test_without_a_baseline_nothing_is_compared() -> None:
    late = Measure(at=AT + timedelta(minutes=5), sign_ins=10_000)
    assert soak(baseline=None).breach(late) is None


def test_a_soak_is_read_as_it_was_written() -> None:
    assert Soak.of(json.loads(json.dumps(soak().as_json()))) == soak()


def test_a_soak_watches_its_own_epoch_until_its_end() -> None:
    assert soak().lasts(AT, epoch=7)
    assert not soak().lasts(AT, epoch=8)
    assert not soak().lasts(AT + timedelta(minutes=15), epoch=7)
