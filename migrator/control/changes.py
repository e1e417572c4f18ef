"""What an operator changes in one living session: its token, or its end."""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from sqlalchemy import func, insert, select, text, update

from migrator.control import roster
from migrator.core import tokens
from migrator.core.errors import Exit, Problem, Stopped
from migrator.core.flow import run
from migrator.stores import queries, tables

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime
    from uuid import UUID

    from sqlalchemy import Connection, Row

    from migrator.core.interfaces import Cache


@dataclass(frozen=True, slots=True, kw_only=True)
class Regenerated:
    """A session under a new token, which is shown once and known to nobody else."""

    session_id: UUID
    expires_at: datetime | None
    token: str | None = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Expired:
    """A session's end before and after."""

    session_id: UUID
    was: datetime | None
    now: datetime | None
    changed: bool


def regenerate(
    connection: Connection,
    cache: Cache,
    schema: str,
    session_id: UUID,
    *,
    prefixes: Mapping[str, str],
    dry_run: bool,
) -> Regenerated:
    """Give a living session a new, random token; the old one is dead everywhere at once.

    A JWT that led to the session leads to it no more. Its idle time begins anew: a session unused
    for long would come back dead.

    Args:
        connection: of the operator.
        cache: where the old token may lie.
        schema: where the tables are.
        session_id: which.
        prefixes: of each kind's tokens.
        dry_run: change nothing.

    Raises:
        Stopped: USAGE, no such session; GATE_FAILED, it is over.
    """
    row = _living(connection, schema, session_id)
    if dry_run:
        connection.rollback()
        return Regenerated(session_id=session_id, expires_at=row.expires_at, token=None)
    old: bytes | None = row.digest
    buried = [old] if old else []
    token = tokens.mint(prefixes[row.kind], secrets.token_bytes(tokens.SECRET_BYTES))
    run(cache.bury(buried))
    connection.execute(text(queries.SYNCHRONOUS))
    home = tables.in_schema(schema).tables
    sessions = home[f"{schema}.sessions"]
    connection.execute(
        update(sessions)
        .where(sessions.c.id == session_id)
        .values(
            digest=tokens.digest(token),
            origin="regenerate",
            last_seen_at=func.clock_timestamp(),
        )
    )
    events = [("session", old.hex())] if old else []
    if roster.has_legacy(connection, schema):
        legacy = home[f"{schema}.legacy_tokens"]
        led = connection.execute(
            update(legacy).where(legacy.c.session_id == session_id).values(swap_key_id=None)
        )
        events += [("legacy", "")] if led.rowcount else []
    _commit(connection, cache, schema, events, buried)
    return Regenerated(
        session_id=session_id, expires_at=row.expires_at, token=token.decode("ascii")
    )


def expire(
    connection: Connection,
    cache: Cache,
    schema: str,
    session_id: UUID,
    *,
    at: datetime | None,
    dry_run: bool,
) -> Expired:
    """Let a living session end at `at` (None: now), never later than it would have.

    Raises:
        Stopped: USAGE, no such session; GATE_FAILED, it is over.
    """
    row = _living(connection, schema, session_id)
    now: datetime = connection.execute(select(func.clock_timestamp())).scalar_one()
    ends = max(at, row.created_at) if at is not None else now
    if row.expires_at is not None and ends >= row.expires_at:
        connection.rollback()
        return Expired(
            session_id=session_id, was=row.expires_at, now=row.expires_at, changed=False
        )
    if dry_run:
        connection.rollback()
        return Expired(session_id=session_id, was=row.expires_at, now=ends, changed=False)
    buried = [row.digest] if row.digest else []
    run(cache.bury(buried))
    connection.execute(text(queries.SYNCHRONOUS))
    sessions = tables.in_schema(schema).tables[f"{schema}.sessions"]
    connection.execute(update(sessions).where(sessions.c.id == session_id).values(expires_at=ends))
    events = [("session", digest.hex()) for digest in buried] + [("legacy", "")]
    _commit(connection, cache, schema, events, buried)
    return Expired(session_id=session_id, was=row.expires_at, now=ends, changed=True)


def _living(connection: Connection, schema: str, session_id: UUID) -> Row[tuple[object, ...]]:
    """The row of a session that is not over, locked until the transaction ends."""
    sessions = tables.in_schema(schema).tables[f"{schema}.sessions"]
    living = sessions.c.revoked_at.is_(None) & (
        sessions.c.expires_at.is_(None) | (sessions.c.expires_at > func.clock_timestamp())
    )
    row = connection.execute(
        select(sessions, living.label("lives"))
        .where(sessions.c.id == session_id)
        .with_for_update()
    ).first()
    if row is None:
        raise roster.unknown(session_id)
    if not row.lives:
        problem = Problem(
            id="session.over",
            what=f"session {session_id} is over",
            why=f"it was ended ({row.revoked_reason} by {row.revoked_by})"
            if row.revoked_at
            else "it has expired",
            do="what is over stays over: let the user log in again",
        )
        raise Stopped(problem, Exit.GATE_FAILED)
    return row


def _commit(
    connection: Connection,
    cache: Cache,
    schema: str,
    events: list[tuple[str, str]],
    buried: list[bytes],
) -> None:
    """Commit with its rows of the feed; bury again what a racing fill may have put back; hint."""
    feed = tables.in_schema(schema).tables[f"{schema}.feed"]
    if events:
        connection.execute(insert(feed), [{"kind": kind, "key": key} for kind, key in events])
    connection.commit()
    run(cache.bury(buried))
    run(cache.hint(events))
