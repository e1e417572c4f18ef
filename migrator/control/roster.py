"""Which sessions a subject has or had, and how each one began and ended: support's question.

Reads only. A session is over by the same rule that the gate judges by; a token is never shown,
because none is known.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias

from sqlalchemy import func, or_, select

from migrator.core.errors import Exit, Problem, Stopped
from migrator.core.flow import SEEN_GRAIN
from migrator.core.sessions import Session, judge
from migrator.core.verdicts import Reason
from migrator.stores import tables
from migrator.stores.postgres import session_of
from migrator.stores.queries import SESSION_COLUMNS

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime, timedelta
    from uuid import UUID

    from sqlalchemy import Connection, Table

State: TypeAlias = Literal["living", "waiting", "ended", "expired", "idle"]

_OVER: dict[Reason, State] = {
    Reason.SESSION_ENDED: "ended",
    Reason.SESSION_EXPIRED: "expired",
    Reason.SESSION_IDLE: "idle",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A session and how it stands.

    Args:
        state: `waiting` is alive and has no token yet: backfilled, its JWT was never seen.
    """

    session: Session
    state: State


@dataclass(frozen=True, slots=True, kw_only=True)
class Root:
    """A legacy token that a session came from; only the beginning of its fingerprint is shown."""

    fingerprint: str
    issuer: str
    purpose: str
    kid: str | None
    family: str | None
    iat: datetime | None
    exp: datetime
    first_seen_at: datetime | None
    last_seen_at: datetime | None
    adopted_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Whole:
    """One session with where it came from."""

    entry: Entry
    roots: tuple[Root, ...]
    family: tuple[UUID, ...]


def listed(
    connection: Connection,
    schema: str,
    subject: str,
    *,
    realm: str | None,
    ended: bool,
    idle: timedelta,
) -> list[Entry]:
    """The subject's sessions, newest first.

    Args:
        connection: of the operator.
        schema: where the tables are.
        subject: whose.
        realm: in which realm; None: in every one, each told by its sessions.
        ended: those that are over as well.
        idle: how long a session may lie unused.
    """
    sessions = _table(schema, "sessions")
    query = (
        select(func.clock_timestamp(), sessions.c.digest.is_not(None), *_columns(sessions))
        .where(sessions.c.subject == subject)
        .order_by(sessions.c.created_at.desc(), sessions.c.id.desc())
    )
    if realm is not None:
        query = query.where(sessions.c.realm == realm)
    entries = [_entry(tuple(row), idle) for row in connection.execute(query)]
    return [one for one in entries if ended or one.state in {"living", "waiting"}]


def other_realms(connection: Connection, schema: str, subject: str, *, realm: str) -> list[str]:
    """The realms besides `realm` that have a living session of a subject of the same name."""
    sessions = _table(schema, "sessions")
    query = (
        select(sessions.c.realm)
        .where(
            sessions.c.subject == subject,
            sessions.c.realm != realm,
            sessions.c.revoked_at.is_(None),
            or_(
                sessions.c.expires_at.is_(None),
                sessions.c.expires_at > func.clock_timestamp(),
            ),
        )
        .distinct()
        .order_by(sessions.c.realm)
    )
    return list(connection.scalars(query))


def shown(connection: Connection, schema: str, session_id: UUID, *, idle: timedelta) -> Whole:
    """One session, the legacy tokens it came from, and who belongs to its family.

    Raises:
        Stopped: USAGE, there is no such session.
    """
    sessions = _table(schema, "sessions")
    row = connection.execute(
        select(func.clock_timestamp(), sessions.c.digest.is_not(None), *_columns(sessions)).where(
            sessions.c.id == session_id
        )
    ).first()
    if row is None:
        raise unknown(session_id)
    entry = _entry(tuple(row), idle)
    if not has_legacy(connection, schema):
        return Whole(entry=entry, roots=(), family=())
    tokens = _table(schema, "legacy_tokens")
    roots = tuple(
        Root(
            fingerprint=each.fingerprint.hex()[:12],
            issuer=each.issuer,
            purpose=each.purpose,
            kid=each.kid,
            family=each.family,
            iat=each.iat,
            exp=each.exp,
            first_seen_at=each.first_seen_at,
            last_seen_at=each.last_seen_at,
            adopted_at=each.adopted_at,
        )
        for each in connection.execute(select(tokens).where(tokens.c.session_id == session_id))
    )
    mine, theirs = tokens.alias(), tokens.alias()
    family = connection.scalars(
        select(theirs.c.session_id)
        .join(mine, (mine.c.issuer == theirs.c.issuer) & (mine.c.family == theirs.c.family))
        .where(mine.c.session_id == session_id, theirs.c.session_id != session_id)
        .distinct()
        .order_by(theirs.c.session_id)
    )
    return Whole(entry=entry, roots=roots, family=tuple(family))


def has_legacy(connection: Connection, schema: str) -> bool:
    """Whether the legacy tables are in use; `retire` marks the rollout before it takes them."""
    rollout = _table(schema, "rollout")
    found = connection.execute(select(rollout.c.legacy_removed_at)).first()
    return found is not None and found[0] is None


def unknown(session_id: UUID) -> Stopped:
    """What is raised where an id names nothing."""
    problem = Problem(
        id="session.unknown",
        what=f"there is no session {session_id}",
        why="the id is mistyped, or the session was over for so long that it was swept",
        do="migrator sessions list SUBJECT --ended",
    )
    return Stopped(problem, Exit.USAGE)


def _entry(row: Sequence[object], idle: timedelta) -> Entry:
    now, has_token, *columns = row
    session = session_of(tuple(columns))
    over = judge(session, now=now, idle=idle, grain=SEEN_GRAIN)  # type: ignore[arg-type]  # row: untyped
    if over is not None:
        return Entry(session=session, state=_OVER[over])
    return Entry(session=session, state="living" if has_token else "waiting")


def _columns(sessions: Table) -> list[object]:
    return [sessions.c[name] for name in SESSION_COLUMNS.split(", ")]


def _table(schema: str, name: str) -> Table:
    return tables.in_schema(schema).tables[f"{schema}.{name}"]
