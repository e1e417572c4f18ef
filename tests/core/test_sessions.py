"""When a session is over, and when it will be."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from migrator.core.ids import uuid7
from migrator.core.sessions import (
    FAR,
    Limits,
    Origin,
    Session,
    exchange_end,
    extended_end,
    judge,
    login_end,
    swap_end,
)
from migrator.core.verdicts import Reason

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
HOUR, DAY = timedelta(hours=1), timedelta(days=1)
LIMITS = Limits(idle=14 * DAY, absolute=90 * DAY)
GRAIN = timedelta(seconds=90)
SPANS = st.timedeltas(min_value=timedelta(), max_value=400 * DAY)


def session(origin: Origin = "login", **more: object) -> Session:
    facts = {
        "id": uuid7(),
        "kind": "session",
        "realm": "users",
        "subject": "ann",
        "created_at": NOW,
        "expires_at": NOW + 90 * DAY,
        "origin": origin,
        "last_seen_at": NOW,
        **more,
    }
    return Session(**facts)  # type: ignore[arg-type] # a row's worth of facts


def reason(of: Session, now: datetime) -> Reason | None:
    return judge(of, now=now, idle=LIMITS.idle, grain=GRAIN)


def test_a_session_lives_until_its_end_and_not_at_it() -> None:
    of = session(expires_at=NOW + HOUR)
    assert reason(of, NOW + HOUR - timedelta(microseconds=1)) is None
    assert reason(of, NOW + HOUR) is Reason.SESSION_EXPIRED


def test_an_ended_session_is_ended_whatever_its_times_say() -> None:
    assert reason(session(revoked_at=NOW), NOW) is Reason.SESSION_ENDED


def test_idleness_ends_a_login_never_early() -> None:
    of = session()
    assert reason(of, NOW + LIMITS.idle) is None
    assert reason(of, NOW + LIMITS.idle + GRAIN) is Reason.SESSION_IDLE


@pytest.mark.parametrize("origin", ["swap", "exchange", "backfill"])
def test_idleness_never_ends_what_came_of_a_legacy_token(origin: Origin) -> None:
    """Its JWT would have lived."""
    assert reason(session(origin), NOW + 89 * DAY) is None


def test_an_api_token_may_lie_unused_and_have_no_end() -> None:
    assert reason(session(kind="api", expires_at=None), NOW + 4000 * DAY) is None


@given(SPANS)
def test_p3_a_swap_never_outlives_its_legacy_token(left: timedelta) -> None:
    """P3."""
    end = swap_end(legacy_end=NOW + left, now=NOW, limits=LIMITS)
    assert end <= NOW + left
    assert end == min(NOW + left, NOW + LIMITS.absolute)


@given(SPANS, st.none() | SPANS)
def test_p3_an_exchange_ends_no_later_than_the_refresh_chain_could(
    left: timedelta, rolling: timedelta | None
) -> None:
    """P3."""
    end = exchange_end(legacy_end=NOW + left, now=NOW, limits=LIMITS, rolling=rolling)
    assert end <= max(NOW + left, NOW + (rolling or timedelta()))
    assert end <= NOW + LIMITS.absolute


@given(SPANS, SPANS)
def test_an_extension_never_shortens_and_stops_at_the_absolute_end(
    later: timedelta, rolling: timedelta
) -> None:
    of = session("exchange", expires_at=NOW + DAY)
    end = extended_end(of, now=NOW + later, limits=LIMITS, rolling=rolling)
    assert NOW + DAY <= end <= NOW + LIMITS.absolute


def test_no_end_overflows_the_calendar() -> None:
    limits = Limits(idle=DAY, absolute=timedelta.max)
    assert login_end(now=NOW, limits=limits) == FAR
