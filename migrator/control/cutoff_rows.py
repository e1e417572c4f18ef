"""The rows of cutoffs: read, written once with their word in the feed, and taken away.

What such a row ends is cutoffs.py's. A cutoff of an issuer or a key concerns everybody, so it
stands in the rollout's journal too; a subject's has who and why in its own row.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import delete, insert, select

from migrator.control import journal, roster
from migrator.core.errors import Exit, Problem, Stopped
from migrator.core.flow import run
from migrator.stores import queries as q
from migrator.stores import tables

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from sqlalchemy import Connection, Row, Table

    from migrator.control.endings import Audit
    from migrator.core.interfaces import Cache


_NEVER_WAS = """
SELECT CASE WHEN has_sequence_privilege(drawn, 'USAGE, SELECT')
  THEN %(id)s > coalesce(pg_sequence_last_value(drawn), 0) ELSE false END
FROM (SELECT pg_get_serial_sequence(%(table)s, 'id')::regclass AS drawn) AS ids"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cutoff:
    """One row: a subject with a time, or an issuer, or one of its keys. `id` None: rehearsed."""

    id: int | None
    realm: str | None = None
    subject: str | None = None
    issuer: str | None = None
    kid: str | None = None
    not_before: datetime | None = None
    created_at: datetime | None = None
    created_by: str | None = None
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class Place:
    """Where cutoffs are written: a connection, the schema, and the cache that stands before it."""

    connection: Connection
    schema: str
    cache: Cache

    def table(self, name: str) -> Table:
        """One of our tables."""
        return tables.in_schema(self.schema).tables[f"{self.schema}.{name}"]


def listed(connection: Connection, schema: str) -> list[Cutoff]:
    """Every cutoff there is, the newest first; none once legacy tokens are retired."""
    if not roster.has_legacy(connection, schema):
        return []
    table = tables.in_schema(schema).tables[f"{schema}.cutoffs"]
    return [_cutoff(row) for row in connection.execute(select(table).order_by(table.c.id.desc()))]


def require_known(place: Place, issuer: str, configured: Mapping[str, str]) -> None:
    """Refuse an issuer's id that neither the settings nor the database know: a typing error.

    Args:
        place: the database may know issuers that the settings dropped.
        issuer: the id.
        configured: names by id.

    Raises:
        Stopped: USAGE.
    """
    recorded = place.connection.execute(select(place.table("rollout").c.issuers)).scalar_one()
    place.connection.rollback()
    known = {**recorded, **configured}
    if issuer in known:
        return
    ids = ", ".join(f"{one} ({name})" for one, name in sorted(known.items()))
    problem = Problem(
        id="cutoff.unknown-issuer",
        what="there is no issuer of that id",
        why=f"the ids, and their names, are: {ids or 'none'}",
        do="give --issuer an id, not a name",
    )
    raise Stopped(problem, Exit.USAGE)


def same(place: Place, facts: Mapping[str, object]) -> Cutoff | None:
    """The cutoff that says exactly `facts`, if there is one."""
    table = place.table("cutoffs")
    where = (table.c[name].is_not_distinct_from(value) for name, value in facts.items())
    query = select(table).where(*where).order_by(table.c.id).limit(1)
    row = place.connection.execute(query).first()
    return None if row is None else _cutoff(row)


def write(place: Place, facts: Mapping[str, object], audit: Audit) -> tuple[Cutoff, bool]:
    """The row, committed with its word in the feed: from here on no new swap gets past it.

    False beside it: it was there already.
    """
    place.connection.exec_driver_sql(q.SYNCHRONOUS)
    cutoff = same(place, facts)
    is_new = cutoff is None
    if cutoff is None:
        table = place.table("cutoffs")
        made = insert(table).values(**facts, reason=audit.why, created_by=audit.who)
        cutoff = _cutoff(place.connection.execute(made.returning(*table.c)).one())
        _note(place, cutoff, audit, command="cutoff add")
    place.connection.commit()
    run(place.cache.hint([("legacy", "")]))
    return cutoff, is_new


def remove(place: Place, cutoff_id: int, *, audit: Audit, dry_run: bool) -> Cutoff | None:
    """Take a cutoff away; None if it was taken away already. What it ended stays ended.

    Raises:
        Stopped: USAGE, no cutoff ever had this id.
    """
    if not roster.has_legacy(place.connection, place.schema):
        return None
    table = place.table("cutoffs")
    query = select(table) if dry_run else delete(table).returning(*table.c)
    row = place.connection.execute(query.where(table.c.id == cutoff_id)).first()
    if row is None and _never_was(place, cutoff_id):
        place.connection.rollback()
        raise Stopped(_no_such(cutoff_id), Exit.USAGE)
    if row is None or dry_run:
        place.connection.rollback()
        return None if row is None else _cutoff(row)
    cutoff = _cutoff(row)
    _note(place, cutoff, audit, command="cutoff remove")
    place.connection.commit()
    run(place.cache.hint([("legacy", "")]))
    return cutoff


def _never_was(place: Place, cutoff_id: int) -> bool:
    """Whether no cutoff ever had this id; a role that may not ask is not told so."""
    asked = {"table": f'"{place.schema}".cutoffs', "id": cutoff_id}
    return bool(place.connection.exec_driver_sql(_NEVER_WAS, asked).scalar_one())


def _note(place: Place, cutoff: Cutoff, audit: Audit, *, command: str) -> None:
    feed = place.table("feed")
    place.connection.execute(insert(feed).values(kind="legacy", key=cutoff.issuer or ""))
    if cutoff.issuer is None:
        return
    journal.note(
        place.connection,
        tables.in_schema(place.schema),
        place.schema,
        who=audit.who,
        why=audit.why,
        command=command,
        detail={"cutoff": cutoff.id, "issuer": cutoff.issuer, "kid": cutoff.kid},
    )


def _cutoff(row: Row[tuple[object, ...]]) -> Cutoff:
    return Cutoff(**row._mapping)  # noqa: SLF001 - SQLAlchemy's public name for it


def _no_such(cutoff_id: int) -> Problem:
    return Problem(
        id="cutoff.unknown",
        what=f"there never was a cutoff {cutoff_id}",
        why="nothing was changed",
        do="migrator cutoff list",
    )
