"""A soak: what it compares, when that proves anything, and that its column is read as written."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone

import pytest

from migrator.core.phases import Exemption, Phase, Rollout
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


@pytest.fixture
def far_east(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A host whose own clock is nine hours off."""
    monkeypatch.setenv("TZ", "JST-9")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.mark.usefixtures("far_east")
def test_the_column_names_all_that_would_stand_again_and_its_times_in_utc() -> None:
    """Read by nodes of this release and the next, whoever wrote it."""
    east = timezone(timedelta(hours=2))
    stood = Rollout(
        phase=Phase.SWAP,
        epoch=6,
        percent=40,
        since=AT,
        exceptions=(Exemption("cohort", "5", Phase.DRAIN),),
        drain_since=(AT - timedelta(days=3)).astimezone(east),
        sunset_at=AT + timedelta(days=9),
    )
    written = replace(soak(), back=Back.to(stood)).as_json()
    assert written == {
        "since": "2026-11-23T14:00:00+00:00",
        "until": "2026-11-23T14:15:00+00:00",
        "sign_ins": 2.0,
        "baseline_per_min": 3.0,
        "epoch": 7,
        "back": {
            "phase": "swap",
            "percent": 40,
            "exceptions": [{"by": "cohort", "value": "5", "phase": "drain"}],
            "drain_since": "2026-11-20T14:00:00+00:00",
            "sunset_at": "2026-12-02T14:00:00+00:00",
        },
    }
    assert Soak.of(json.loads(json.dumps(written))).back == Back.to(stood)
    written["back"]["exceptions"][0]["value"] = 5  # as an operator may have written it
    assert Soak.of(written).back == Back.to(stood)
    assert Soak.of(soak().as_json()).back.sunset_at is None


def test_a_soak_says_nothing_of_who_was_excepted() -> None:
    assert "bot" not in repr(soak())


def test_a_soak_lasts_from_its_first_moment_and_not_before() -> None:
    assert not soak().lasts(AT - timedelta(microseconds=1), epoch=7)
    assert soak().lasts(AT + timedelta(minutes=15) - timedelta(microseconds=1), epoch=7)


def test_the_journal_is_told_the_rates() -> None:
    found = soak().breach(Measure(at=AT + timedelta(minutes=5), sign_ins=31))
    assert found == "6.2 sign-ins a minute, 3.0 before: more than 2 times as many"
