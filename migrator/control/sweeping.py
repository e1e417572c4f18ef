"""The sweep: deletes what is over and decides nothing any more, in batches, until done or told.

Each batch is a transaction, so that an interrupted sweep keeps what it did and the next one goes
on. Which rows may go is `stores/sweeping.py`'s table.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from migrator.control import roster
from migrator.stores import sweeping as q
from migrator.stores.queries import in_schema

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from datetime import timedelta

    from sqlalchemy import Connection

_ROOM: Final = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Swept:
    """How many rows of each pile are gone; `finished` False: a limit came first."""

    counts: Mapping[str, int]
    finished: bool


def sweep(
    connection: Connection,
    schema: str,
    *,
    keep_ended: timedelta,
    limit_seconds: float | None = None,
    clock: Callable[[], float] = time.monotonic,
    room: int = _ROOM,
) -> Swept:
    """Delete what may go.

    Args:
        connection: of the operator.
        schema: where the tables are.
        keep_ended: how long a session that is over is kept for support's questions.
        limit_seconds: begin no batch after so long.
        clock: seconds, monotonic.
        room: rows in a batch.
    """
    until = None if limit_seconds is None else clock() + limit_seconds
    counts = dict.fromkeys(_names(connection, schema), 0)
    for name in counts:
        if name == q.LEGACY_TOKENS:
            batches = _walk(connection, schema, room)
        else:
            batches = _batches(connection, schema, name, keep_ended, room)
        for gone in batches:
            counts[name] += gone
            if until is not None and clock() >= until:
                return Swept(counts=counts, finished=False)
    return Swept(counts=counts, finished=True)


def rehearse(connection: Connection, schema: str, *, keep_ended: timedelta) -> Swept:
    """How many rows `sweep` would delete now."""
    counts = {}
    connection.exec_driver_sql("SET TRANSACTION READ ONLY")
    for name in _names(connection, schema):
        pile = _PILES.get(name)
        statement = q.COUNT_LEGACY_TOKENS if pile is None else pile.count
        rows = connection.exec_driver_sql(in_schema(statement, schema), {"keep": keep_ended})
        counts[name] = int(rows.scalar_one())
    connection.rollback()
    return Swept(counts=counts, finished=True)


_PILES: Final = {pile.name: pile for pile in q.PILES}


def _names(connection: Connection, schema: str) -> list[str]:
    legacy = roster.has_legacy(connection, schema)
    connection.rollback()
    names = [pile.name for pile in q.PILES if legacy or not pile.legacy]
    # After the sessions: rows of sessions that just went need not be looked at twice.
    return [*names[:2], q.LEGACY_TOKENS, *names[2:]] if legacy else names


def _batches(
    connection: Connection, schema: str, name: str, keep_ended: timedelta, room: int
) -> Iterator[int]:
    statement = in_schema(_PILES[name].batch, schema)
    while True:
        found = connection.exec_driver_sql(statement, {"keep": keep_ended, "room": room})
        connection.commit()
        yield found.rowcount
        if found.rowcount < room:
            return


def _walk(connection: Connection, schema: str, room: int) -> Iterator[int]:
    walk = in_schema(q.WALK_LEGACY_TOKENS, schema)
    delete = in_schema(q.DELETE_LEGACY_TOKENS, schema)
    after_at, after = None, None
    while True:
        facts = {"after_at": after_at, "after": after, "room": room}
        seen = connection.exec_driver_sql(walk, facts).all()
        dead = [bytes(row[1]) for row in seen if not row[2]]
        if dead:
            connection.exec_driver_sql(delete, {"prints": dead})
        connection.commit()
        yield len(dead)
        if len(seen) < room:
            return
        after_at, after = seen[-1][0], bytes(seen[-1][1])
