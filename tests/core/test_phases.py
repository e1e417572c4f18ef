"""The table of phases, and which moves it allows."""

from __future__ import annotations

from datetime import UTC, datetime
from itertools import pairwise, product
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from migrator.core.phases import (
    ORDER,
    RULES,
    Exemption,
    Phase,
    Rollout,
    Share,
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


def test_p9_every_phase_but_the_first_and_the_last_has_a_way_back() -> None:
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


@pytest.mark.parametrize(
    ("phase", "is_over"),
    [
        (Phase.OBSERVE, False),
        (Phase.SWAP, False),
        (Phase.DRAIN, False),
        (Phase.CUTOVER, True),
        (Phase.RETIRED, True),
    ],
)
def test_legacy_tokens_are_over_for_good_from_cutover_on(phase: Phase, is_over: bool) -> None:
    assert _rollout(phase, 100).is_over_for(client="ios/7", bucket=7) is is_over


IOS_STAYS = Exemption("client", "ios", Phase.DRAIN)
IOS_WENT = Exemption("client", "ios", Phase.CUTOVER)


@pytest.mark.parametrize(
    ("rollout", "is_over"),
    [
        ((Phase.CUTOVER, IOS_STAYS), False),
        ((Phase.CUTOVER, Exemption("client", "web", Phase.DRAIN)), True),
        ((Phase.DRAIN, IOS_WENT), True),
        ((Phase.DRAIN, Exemption("client", "ios", Phase.RETIRED)), True),
        ((Phase.DRAIN, Exemption("client", "web", Phase.CUTOVER)), False),
        ((Phase.DRAIN, Exemption("cohort", "8", Phase.CUTOVER)), True),
        ((Phase.DRAIN, Exemption("cohort", "7", Phase.CUTOVER)), False),
        ((Phase.CUTOVER, Exemption("issuer", "a1", Phase.DRAIN)), False),
        ((Phase.DRAIN, Exemption("issuer", "a1", Phase.CUTOVER)), False),
        ((Phase.DRAIN, Exemption("issuer", "a1", Phase.CUTOVER), IOS_WENT), True),
        ((Phase.CUTOVER, Exemption("issuer", "a1", Phase.CUTOVER), IOS_STAYS), False),
        ((Phase.CUTOVER, Exemption("issuer", "a1", Phase.DRAIN), IOS_WENT), False),
        ((Phase.RETIRED, IOS_STAYS), True),
    ],
)
def test_an_old_cookie_is_taken_away_only_where_no_issuers_tokens_are_taken(
    rollout: tuple[Any, ...], is_over: bool
) -> None:
    """An issuer that is left behind keeps everybody's, since a cookie does not say whose it is."""
    phase, *exceptions = rollout
    found = _rollout(phase, 100, *exceptions).is_over_for(client="ios/7", bucket=7)
    assert found is is_over


@pytest.mark.parametrize(
    ("share", "bucket", "inside"),
    [
        ("none", 0, False),
        ("cohort", 9, True),
        ("cohort", 10, False),
        ("all", 99, True),
        ("all", 100, True),
    ],
)
def test_a_share_is_nobody_a_cohort_or_everybody(share: Share, bucket: int, inside: bool) -> None:
    assert _rollout(Phase.SWAP, 10).includes(share, bucket) is inside


def test_a_bucket_is_by_realm_and_subject_and_never_moves() -> None:
    """A subject that moved to another hundredth would swap on one node and not on the next."""
    assert bucket_of("user-1", "users") == 21
    assert bucket_of("user-1", "staff") == 8
    assert bucket_of("\udc80", "users") == 64
