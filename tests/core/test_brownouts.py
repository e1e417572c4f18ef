"""Whom a brownout covers, what it turns into what, and what is too much."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from migrator.core.brownouts import (
    Brownout,
    Limits,
    Measure,
    breach,
    length,
    overlap,
)
from migrator.core.phases import Exemption, Phase, Rollout
from migrator.core.sign_ins import LEAST_SIGN_INS

AT = datetime(2026, 11, 23, 9, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
WINDOW = Brownout(id=1, starts_at=AT, ends_at=AT + 15 * MINUTE)
DRAIN = Rollout(phase=Phase.DRAIN, epoch=4, percent=100, since=AT, brownouts=(WINDOW,))
ANYBODY: dict[str, Any] = {"issuer": "a1", "client": "ios/7", "bucket": 7}


@pytest.mark.parametrize(
    ("after", "phase"),
    [
        (-1 * MINUTE, Phase.DRAIN),
        (timedelta(), Phase.CUTOVER),
        (14 * MINUTE, Phase.CUTOVER),
        (15 * MINUTE, Phase.DRAIN),
    ],
    ids=["before", "begun", "under-way", "over"],
)
def test_it_turns_drain_into_cutover_while_it_is_open(after: timedelta, phase: Phase) -> None:
    assert DRAIN.at(AT + after).phase_for(**ANYBODY) is phase


@pytest.mark.parametrize("phase", [one for one in Phase if one is not Phase.DRAIN])
def test_it_changes_nothing_in_any_other_phase(phase: Phase) -> None:
    """So a rollback to swap ends it at once, and nothing it does outlives the cutover."""
    rollout = replace(DRAIN, phase=phase).at(AT)
    assert rollout.open == (WINDOW,)
    assert rollout.phase_for(**ANYBODY) is phase
    assert rollout.brownout_of(**ANYBODY) is None


def test_it_changes_nothing_for_who_stands_elsewhere_by_an_exception() -> None:
    exempt = Exemption("client", "ios", Phase.SWAP)
    rollout = replace(DRAIN, exceptions=(exempt,)).at(AT)
    assert rollout.phase_for(**ANYBODY) is Phase.SWAP
    assert rollout.phase_for(issuer="a1", client="web", bucket=7) is Phase.CUTOVER
    left = replace(
        DRAIN, phase=Phase.CUTOVER, exceptions=(Exemption("issuer", "a1", Phase.DRAIN),)
    )
    assert left.at(AT).phase_for(**ANYBODY) is Phase.CUTOVER
    assert left.at(AT - MINUTE).phase_for(**ANYBODY) is Phase.DRAIN


def test_it_takes_no_old_cookie_away() -> None:
    """The end of a window gives nothing back that a browser was told to forget."""
    assert not DRAIN.at(AT).is_over_for(client="ios/7", bucket=7)


@given(st.integers(1, 10_000), st.integers(1, 100))
def test_its_share_is_of_the_size_asked_for_and_the_same_all_the_while(
    number: int, percent: int
) -> None:
    window = replace(WINDOW, id=number, percent=percent)
    hit = [bucket for bucket in range(100) if window.includes(bucket)]
    assert len(hit) == percent
    assert hit == [bucket for bucket in range(100) if window.includes(bucket)]


def test_brownouts_one_after_another_meet_different_people() -> None:
    met = [
        {bucket for bucket in range(100) if replace(WINDOW, id=n, percent=10).includes(bucket)}
        for n in range(1, 9)
    ]
    assert not met[0] & met[1]
    assert len(set().union(*met)) >= 70


def test_what_could_not_be_verified_is_in_no_share_but_the_whole() -> None:
    nobody: dict[str, Any] = {"issuer": "a1", "client": None, "bucket": 100}
    assert replace(DRAIN).at(AT).phase_for(**nobody) is Phase.CUTOVER
    for number in range(1, 101):
        part = replace(WINDOW, id=number, percent=99)
        assert not part.covers(**nobody)


@pytest.mark.parametrize(
    ("by", "value", "hit"),
    [
        ("issuer", "a1", True),
        ("issuer", "a2", False),
        ("client", "ios", True),
        ("client", "ios/7", True),
        ("client", "io", False),
        ("cohort", "8", True),
        ("cohort", "7", False),
    ],
)
def test_a_segment_is_as_in_exceptions(by: str, value: str, hit: bool) -> None:
    window = replace(WINDOW, by=by, value=value)  # type: ignore[arg-type]
    assert window.covers(**ANYBODY) is hit


@pytest.mark.parametrize(("minutes", "edge"), [(-1, 0), (0, 15), (14, 15), (15, None)], ids=str)
def test_the_next_edge_is_the_next_change(minutes: int, edge: int | None) -> None:
    found = DRAIN.edge_after(AT + minutes * MINUTE)
    assert found == (None if edge is None else AT + edge * MINUTE)


def test_windows_meet_only_on_the_same_segment() -> None:
    after = replace(WINDOW, id=2, starts_at=WINDOW.ends_at, ends_at=WINDOW.ends_at + MINUTE)
    assert not overlap(WINDOW, after)
    assert overlap(WINDOW, replace(after, starts_at=AT + MINUTE))
    assert not overlap(WINDOW, replace(WINDOW, by="issuer", value="a1"))


MANY = Measure(minutes=2, sign_ins=50, baseline=10, subjects=7)


@pytest.mark.parametrize(
    ("limits", "measure", "is_too_much"),
    [
        (Limits(sign_ins=2), MANY, True),
        (Limits(sign_ins=3), MANY, False),
        (Limits(), MANY, False),
        (Limits(subjects=6), MANY, True),
        (Limits(subjects=7), MANY, False),
        (Limits(sign_ins=2), replace(MANY, minutes=0.9), False),
        (Limits(sign_ins=2), replace(MANY, baseline=None), False),
        (Limits(sign_ins=2), replace(MANY, baseline=0, sign_ins=LEAST_SIGN_INS - 1), False),
        (Limits(sign_ins=2), replace(MANY, baseline=0, sign_ins=LEAST_SIGN_INS), True),
        (Limits(subjects=6), replace(MANY, minutes=0), True),
    ],
    ids=[
        *("rate", "under", "unwatched", "subjects", "at-limit"),
        *("too-young", "unknown-before", "noise", "from-nothing", "subjects-at-once"),
    ],
)
def test_it_ends_itself_beyond_its_limits_and_not_for_noise(
    limits: Limits, measure: Measure, is_too_much: bool
) -> None:
    assert (breach(limits, measure) is not None) == is_too_much
    assert Limits.of(limits.as_json()) == limits


BY = [("client", "ios"), ("client", "ios/7"), ("issuer", "a1"), ("cohort", "8"), (None, "")]


@pytest.mark.parametrize(("by", "value"), BY)
def test_an_open_window_is_told_as_the_reason_of_whom_it_covers(by: Any, value: str) -> None:
    window = replace(WINDOW, by=by, value=value)
    rollout = replace(DRAIN, brownouts=(window,)).at(AT)
    assert rollout.phase_for(**ANYBODY) is Phase.CUTOVER
    assert rollout.brownout_of(**ANYBODY) is window
    stranger: dict[str, Any] = {"issuer": "a2", "client": "web/1", "bucket": 8}
    covers_all = by is None
    assert rollout.phase_for(**stranger) is (Phase.CUTOVER if covers_all else Phase.DRAIN)
    assert (rollout.brownout_of(**stranger) is window) is covers_all


@pytest.mark.parametrize("by", ["client", "issuer", "cohort"])
def test_whoever_stands_elsewhere_by_any_exception_is_met_by_no_window(by: Any) -> None:
    value = {"client": "ios", "issuer": "a1", "cohort": "8"}[by]
    rollout = replace(DRAIN, exceptions=(Exemption(by, value, Phase.SWAP),)).at(AT)
    assert rollout.brownout_of(**ANYBODY) is None
    assert rollout.phase_for(**ANYBODY) is Phase.SWAP


def test_nothing_is_made_anew_where_no_window_opened_or_closed() -> None:
    """It is asked on every request."""
    open_now = DRAIN.at(AT)
    assert open_now.at(AT + MINUTE) is open_now
    assert DRAIN.at(AT - MINUTE) is DRAIN
    assert open_now.at(AT + 15 * MINUTE).open == ()


def test_a_client_is_named_up_to_the_first_slash() -> None:
    window = replace(WINDOW, by="client", value="ios")
    assert window.covers(issuer=None, client="ios/7/beta", bucket=7)
    assert not window.covers(issuer=None, client=None, bucket=7)
    assert not replace(window, value="ios/7").covers(issuer=None, client="ios/7/beta", bucket=7)


def test_a_share_below_all_is_of_the_segment() -> None:
    window = replace(WINDOW, by="client", value="ios", percent=50)
    inside = [n for n in range(100) if window.covers(issuer=None, client="ios/7", bucket=n)]
    assert inside == [*range(13), *range(63, 100)]
    assert not any(window.covers(issuer=None, client="web", bucket=n) for n in inside)
    assert not window.includes(-1)


def test_windows_that_touch_do_not_meet() -> None:
    after = replace(WINDOW, id=2, starts_at=WINDOW.ends_at, ends_at=WINDOW.ends_at + MINUTE)
    assert not overlap(after, WINDOW)
    assert overlap(replace(after, starts_at=AT + MINUTE), WINDOW)
    assert not overlap(replace(WINDOW, by="client", value="a"), replace(WINDOW, by="client"))
    assert length(WINDOW) == 15 * MINUTE


def test_a_row_that_says_no_limit_in_our_words_watches_nothing() -> None:
    assert Limits.of({}) == Limits(sign_ins=None, subjects=None)
    assert Limits.of({"sign_ins": "2", "subjects": "7"}) == Limits()
    assert Limits.of({"sign_ins": 2, "subjects": 7}) == Limits(sign_ins=2.0, subjects=7)
    assert Limits(sign_ins=2.0, subjects=7).as_json() == {"sign_ins": 2.0, "subjects": 7}


def test_the_journal_is_told_by_which_numbers_it_ended() -> None:
    found = breach(Limits(sign_ins=2), MANY)
    assert found == "25.0 sign-ins a minute, over 2 times the 10.0 of the day before"
    assert breach(Limits(subjects=6), MANY) == "it refused 7 subjects, and 6 was the limit"
