"""The table of phases, and which moves it allows."""

from __future__ import annotations

from datetime import UTC, datetime
from itertools import pairwise, product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from migrator.core.phases import (
    ORDER,
    RULES,
    Exemption,
    Phase,
    Rollout,
    back_of,
    bucket_of,
    is_legal,
    next_of,
)

AT = datetime(2026, 11, 23, tzinfo=UTC)


def test_every_phase_has_a_rule() -> None:
    assert set(RULES) == set(Phase) == set(ORDER)


@pytest.mark.parametrize(("source", "target"), list(product(Phase, Phase)))
def test_moves_go_to_the_neighbour_and_never_away_from_retired(
    source: Phase, target: Phase
) -> None:
    apart = ORDER.index(target) - ORDER.index(source)
    assert is_legal(source, target) == (abs(apart) == 1 and source is not Phase.RETIRED)


def test_every_phase_but_the_first_and_the_last_has_a_way_back() -> None:
    """P9: one irreversible command."""
    assert [phase for phase in Phase if back_of(phase) is None] == [Phase.OBSERVE, Phase.RETIRED]
    assert next_of(Phase.RETIRED) is None
    for earlier, later in pairwise(ORDER[:-1]):
        assert back_of(later) is earlier


def test_no_phase_hands_out_before_the_one_before_it_admits() -> None:
    """Accept before emit: sessions are admitted everywhere, so each emitter has a forerunner."""
    assert RULES[Phase.OBSERVE].issue == "none"
    assert RULES[Phase.OBSERVE].swap == "none"


def test_nothing_stops_accepting_before_the_phase_before_it_stops_issuing() -> None:
    for earlier, later in pairwise(ORDER):
        if RULES[later].legacy not in {"shadow", "verify"}:
            assert RULES[earlier].issue == "all"


@given(st.text(), st.text())
def test_a_subjects_share_is_sticky(subject: str, realm: str) -> None:
    bucket = bucket_of(subject, realm)
    assert 0 <= bucket < 100
    assert bucket == bucket_of(subject, realm)


@given(st.integers(0, 99), st.integers(0, 100), st.integers(0, 100))
def test_a_cohort_only_grows(bucket: int, percent: int, more: int) -> None:
    small, large = sorted((percent, more))
    if _rollout(Phase.SWAP, small).includes("cohort", bucket):
        assert _rollout(Phase.SWAP, large).includes("cohort", bucket)


def test_the_cohort_is_near_its_percentage() -> None:
    inside = sum(bucket_of(f"user-{n}", "users") < 10 for n in range(20_000))
    assert 0.09 < inside / 20_000 < 0.11


def test_the_first_exception_that_covers_decides() -> None:
    rollout = _rollout(
        Phase.DRAIN,
        100,
        Exemption("client", "report-bot", Phase.SWAP),
        Exemption("issuer", "a1", Phase.CUTOVER),
    )
    asked = {
        ("a1", "report-bot/1.0"): Phase.SWAP,
        ("a1", "report-bot"): Phase.SWAP,
        ("a1", "report-botnet/1.0"): Phase.CUTOVER,
        ("a1", None): Phase.CUTOVER,
        ("a2", "ios/7"): Phase.DRAIN,
    }
    for (issuer, client), phase in asked.items():
        assert rollout.phase_for(issuer=issuer, client=client, bucket=0) is phase


def test_a_cohort_exception_covers_the_subjects_below_it() -> None:
    rollout = _rollout(Phase.DRAIN, 100, Exemption("cohort", "10", Phase.CUTOVER))
    assert rollout.phase_for(issuer=None, client=None, bucket=9) is Phase.CUTOVER
    assert rollout.phase_for(issuer=None, client=None, bucket=10) is Phase.DRAIN


def test_no_exception_outlives_retirement() -> None:
    rollout = _rollout(Phase.RETIRED, 100, Exemption("issuer", "a1", Phase.DRAIN))
    assert rollout.phase_for(issuer="a1", client=None, bucket=0) is Phase.RETIRED


def _rollout(phase: Phase, percent: int, *exceptions: Exemption) -> Rollout:
    return Rollout(phase=phase, epoch=1, percent=percent, since=AT, exceptions=exceptions)
