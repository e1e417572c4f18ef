"""What a session is, and when it is over. Lifetimes are decided here and nowhere else."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Literal, TypeAlias

from migrator.core.reasons import Reason

if TYPE_CHECKING:
    from collections.abc import Mapping
    from uuid import UUID

Kind: TypeAlias = Literal["session", "api"]
Origin: TypeAlias = Literal["login", "swap", "exchange", "backfill", "regenerate"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """A row: who may come in, until when, and how it began and ended. Never its token."""

    id: UUID
    kind: Kind
    realm: str
    subject: str
    created_at: datetime
    expires_at: datetime | None
    origin: Origin
    client: str | None = None
    scopes: frozenset[str] = frozenset()
    claims: Mapping[str, object] = field(default_factory=dict)
    last_seen_at: datetime | None = None
    user_agent: str | None = None
    ip: str | None = None
    revoked_at: datetime | None = None
    revoked_reason: str | None = None
    revoked_by: str | None = None
    auth_time: datetime | None = None
    amr: tuple[str, ...] = ()
    label: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How long sessions live. `idle` applies to logins and exchanges, see `judge`."""

    idle: timedelta
    absolute: timedelta


# A swapped session has no idle limit: the JWT it came from had none, and nobody may be logged out
# by the move itself. An API token is meant to lie unused.
_IDLE_APPLIES: frozenset[str] = frozenset({"login", "regenerate"})
# As far as refresh tokens rotate. A backfilled session was exchanged before its token was seen.
CARRIED_ON: frozenset[str] = frozenset({"exchange", "backfill"})


def judge(session: Session, *, now: datetime, idle: timedelta, grain: timedelta) -> Reason | None:
    """Why `session` is over at `now`, or None while it lives.

    Args:
        now: the database's clock.
        idle: how long a session may lie unused.
        grain: how late last-seen may have been written; the idle end is never early.
    """
    if session.revoked_at is not None:
        return Reason.SESSION_ENDED
    if session.expires_at is not None and now >= session.expires_at:
        return Reason.SESSION_EXPIRED
    if idle_end(session, idle=idle, grain=grain) <= now:
        return Reason.SESSION_IDLE
    return None


def idle_end(session: Session, *, idle: timedelta, grain: timedelta) -> datetime:
    """When the session ends if nobody uses it again."""
    if session.kind != "session" or session.origin not in _IDLE_APPLIES:
        return FAR
    return _later(session.last_seen_at or session.created_at, idle + grain)


FAR = datetime(9999, 12, 31, tzinfo=UTC)


def login_end(*, now: datetime, limits: Limits) -> datetime:
    """When a session begun by a login ends at the latest."""
    return _later(now, limits.absolute)


def swap_end(*, legacy_end: datetime, now: datetime, limits: Limits) -> datetime:
    """When a swapped session ends: never later than its legacy token would have (promise P3).

    Counted from now and not from iat: a JWT that was issued a year ago must not swap into a
    session that is already over.
    """
    return min(legacy_end, _later(now, limits.absolute))


def exchange_end(
    *,
    legacy_end: datetime,
    now: datetime,
    limits: Limits,
    rolling: timedelta | None,
) -> datetime:
    """When an exchanged session ends: as late as the refresh chain could have been carried on.

    Args:
        rolling: the lifetime of each new refresh token where the issuer rotates them, else None.
    """
    chain_end = legacy_end if rolling is None else max(legacy_end, _later(now, rolling))
    return min(chain_end, _later(now, limits.absolute))


def extended_end(
    session: Session,
    *,
    now: datetime,
    limits: Limits,
    rolling: timedelta,
) -> datetime:
    """When a session shown again at the refresh route ends; never earlier than it did."""
    bound = _later(session.created_at, limits.absolute)
    return max(session.expires_at or FAR, min(_later(now, rolling), bound))


def _later(start: datetime, by: timedelta) -> datetime:
    return FAR if by > FAR - start else start + by
