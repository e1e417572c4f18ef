"""The journal of the rollout: who moved what, when and why; only ever added to.

A move writes its own row. One more, `in effect`, is written when every living node acknowledged
it: then the moment that issuing stopped is on record, and no restart of a node can blur it.
Decisions that move nothing (a hold, an override) are noted under the epoch that stands; their rows
come from no phase, and that is how whoever asks for moves tells them apart.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from sqlalchemy import Text, func, insert, literal, select, text
from sqlalchemy.dialects.postgresql import JSONB

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime, timedelta

    from sqlalchemy import Connection, MetaData

IN_EFFECT = "in effect"
DRILL = "rollback --drill"


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One line of the journal."""

    id: int
    at: datetime
    who: str
    why: str | None
    command: str
    from_phase: str | None
    to_phase: str | None
    from_percent: int | None
    to_percent: int | None
    epoch: int
    detail: Mapping[str, Any] = field(default_factory=dict)


def read(
    connection: Connection,
    tables: MetaData,
    schema: str,
    *,
    limit: int,
    moves_only: bool = False,
    since: datetime | None = None,
) -> tuple[Row, ...]:
    """The last rows, newest first; those from `since` on, where it is given."""
    table = tables.tables[f"{schema}.rollout_log"]
    query = select(table).order_by(table.c.id.desc()).limit(limit)
    if moves_only:
        query = query.where(table.c.command != IN_EFFECT, table.c.from_phase.is_not(None))
    if since is not None:
        query = query.where(table.c.at >= since)
    return tuple(Row(**row) for row in connection.execute(query).mappings())


def drain_of(
    connection: Connection, tables: MetaData, schema: str, since: datetime
) -> tuple[int | None, datetime | None]:
    """The epoch that began the drain of `since`, and when that took effect, if on record."""
    table = tables.tables[f"{schema}.rollout_log"]
    began = connection.scalar(
        select(table.c.epoch)
        .where(table.c.to_phase == "drain", table.c.from_phase == "swap", table.c.at >= since)
        .order_by(table.c.id)
        .limit(1)
    )
    if began is None:
        return None, None
    recorded = connection.scalar(
        select(table.c.detail["in_effect_at"].astext.cast(table.c.at.type))
        .where(table.c.command == IN_EFFECT, table.c.epoch >= began)
        .order_by(table.c.id)
        .limit(1)
    )
    return began, recorded


def drilled_at(connection: Connection, tables: MetaData, schema: str) -> datetime | None:
    """When a drill last came to its end, back and forward again, on every living node."""
    table = tables.tables[f"{schema}.rollout_log"]
    ended = table.c.detail["drill"]["finished"].astext == "true"
    last: datetime | None = connection.scalar(
        select(func.max(table.c.at)).where(table.c.command == DRILL, ended)
    )
    return last


def half_drill(last: Row) -> dict[str, Any] | None:
    """What the last move keeps of a drill that it began and nobody finished; None: it did not."""
    found = last.detail.get("drill", {}) if last.command == DRILL else {}
    return dict(found) if "restores" in found else None


def propagated(
    connection: Connection, tables: MetaData, schema: str, *, epoch: int | None = None
) -> timedelta | None:
    """How long a move took from its commit until every living node had acknowledged it.

    Args:
        epoch: which move's; the last one's unless given.
    """
    table = tables.tables[f"{schema}.rollout_log"]
    moved = table.alias("moved")
    in_effect_at = table.c.detail["in_effect_at"].astext.cast(table.c.at.type)
    query = (
        select(in_effect_at - moved.c.at)
        .join(moved, moved.c.epoch == table.c.epoch)
        .where(table.c.command == IN_EFFECT, moved.c.from_phase.is_not(None))
        .where(moved.c.command != IN_EFFECT)
        .order_by(table.c.id.desc())
        .limit(1)
    )
    if epoch is not None:
        query = query.where(table.c.epoch == epoch)
    took: timedelta | None = connection.scalar(query)
    return took


def is_in_effect(connection: Connection, tables: MetaData, schema: str, epoch: int) -> bool:
    """Whether it is on record that every living node acted under `epoch`."""
    table = tables.tables[f"{schema}.rollout_log"]
    there = select(table.c.id).where(table.c.command == IN_EFFECT, table.c.epoch == epoch)
    return connection.scalar(there) is not None


def began(connection: Connection, tables: MetaData, schema: str, epoch: int) -> datetime | None:
    """When `epoch` was committed, by a move or by a decision that nodes have to know of."""
    table = tables.tables[f"{schema}.rollout_log"]
    query = select(func.min(table.c.at)).where(
        table.c.epoch == epoch, table.c.command != IN_EFFECT
    )
    found: datetime | None = connection.scalar(query)
    return found


def overtook(connection: Connection, tables: MetaData, schema: str, epoch: int) -> Row | None:
    """What ended `epoch`, where that is on record."""
    table = tables.tables[f"{schema}.rollout_log"]
    query = (
        select(table)
        .where(table.c.epoch > epoch, table.c.command != IN_EFFECT)
        .order_by(table.c.id)
        .limit(1)
    )
    found = connection.execute(query).mappings().first()
    return None if found is None else Row(**found)


def note(
    connection: Connection,
    tables: MetaData,
    schema: str,
    *,
    who: str,
    why: str | None,
    command: str,
    detail: Mapping[str, Any] | None = None,
) -> None:
    """Record a decision that moves nothing, in the caller's transaction.

    Args:
        command: what was typed, without `migrator`: "hold add".
        detail: what it was about, for machines; never a secret.
    """
    log, rollout = (tables.tables[f"{schema}.{name}"] for name in ("rollout_log", "rollout"))
    standing = select(
        func.clock_timestamp(),
        literal(who),
        literal(why, Text),
        literal(command),
        rollout.c.phase,
        rollout.c.percent,
        rollout.c.epoch,
        literal(dict(detail or {}), JSONB),
    )
    into = ("at", "who", "why", "command", "to_phase", "to_percent", "epoch", "detail")
    connection.execute(insert(log).from_select(into, standing))


def note_in_effect(
    connection: Connection,
    tables: MetaData,
    schema: str,
    *,
    epoch: int,
    phase: str,
    percent: int,
    at: datetime,
    who: str,
    nodes: int,
) -> None:
    """Record, once, that every living node acts under `epoch`."""
    table = tables.tables[f"{schema}.rollout_log"]
    # Two commands may wait for the same epoch; the row of rollout is the lock between them.
    rollout = tables.tables[f"{schema}.rollout"]
    connection.execute(text("SET LOCAL lock_timeout = '2s'"))
    connection.execute(select(rollout.c.id).with_for_update())
    if is_in_effect(connection, tables, schema, epoch):
        return
    connection.execute(
        insert(table).values(
            who=who,
            command=IN_EFFECT,
            from_phase=phase,
            to_phase=phase,
            from_percent=percent,
            to_percent=percent,
            epoch=epoch,
            detail={"in_effect_at": at.isoformat(), "nodes": nodes},
        )
    )
