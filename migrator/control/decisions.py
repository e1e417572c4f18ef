"""What operators decided about moves, as it is on record: overrides and holds.

Each has an owner, a reason and an end. Reading is here, for whoever judges by them; making and
ending them is `overriding.py`'s and `holding.py`'s.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from sqlalchemy import select

from migrator.stores import tables as page

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from sqlalchemy import Connection, Table


@dataclass(frozen=True, slots=True, kw_only=True)
class Override:
    """Somebody takes the risk of a gate on their name; `id` None: it was only rehearsed."""

    id: int | None
    gate: str
    who: str
    reason: str
    since: datetime
    until: datetime
    revoked_at: datetime | None = None
    revoked_by: str | None = None

    def state(self, now: datetime) -> Literal["in force", "over", "revoked"]:
        """Whether it counts."""
        if self.revoked_at is not None:
            return "revoked"
        return "in force" if now < self.until else "over"


@dataclass(frozen=True, slots=True, kw_only=True)
class Hold:
    """Somebody holds every move forward up; `id` None: it was only rehearsed."""

    id: int | None
    who: str
    reason: str
    since: datetime
    starts_at: datetime
    until: datetime
    released_at: datetime | None = None
    released_by: str | None = None

    def state(self, now: datetime) -> Literal["in force", "planned", "over", "released"]:
        """Whether it holds anything up: a planned one will."""
        if self.released_at is not None:
            return "released"
        if now >= self.until:
            return "over"
        return "in force" if now >= self.starts_at else "planned"


def overrides(connection: Connection, home: str) -> tuple[Override, ...]:
    """Every override on record, the newest first."""
    table = page.in_schema(home).tables[f"{home}.overrides"]
    return tuple(override_of(row) for row in _newest(connection, table))


def overrides_in_force(connection: Connection, home: str, now: datetime) -> tuple[Override, ...]:
    """Those that count at `now`, the one that lasts longest first."""
    found = [one for one in overrides(connection, home) if one.state(now) == "in force"]
    return tuple(sorted(found, key=lambda one: one.until, reverse=True))


def holds(connection: Connection, home: str) -> tuple[Hold, ...]:
    """Every hold on record, the newest first."""
    table = page.in_schema(home).tables[f"{home}.holds"]
    return tuple(hold_of(row) for row in _newest(connection, table))


def holds_ahead(connection: Connection, home: str, now: datetime) -> tuple[Hold, ...]:
    """Those in force at `now` or planned, in the order they begin."""
    ahead = [one for one in holds(connection, home) if one.state(now) in {"in force", "planned"}]
    return tuple(sorted(ahead, key=lambda one: one.starts_at))


def override_of(row: Mapping[Any, Any]) -> Override:
    """An override from its row."""
    return Override(
        id=row["id"],
        gate=row["gate"],
        who=row["created_by"],
        reason=row["reason"],
        since=row["created_at"],
        until=row["until"],
        revoked_at=row["revoked_at"],
        revoked_by=row["revoked_by"],
    )


def hold_of(row: Mapping[Any, Any]) -> Hold:
    """A hold from its row."""
    return Hold(
        id=row["id"],
        who=row["created_by"],
        reason=row["reason"],
        since=row["created_at"],
        starts_at=row["starts_at"],
        until=row["until"],
        released_at=row["released_at"],
        released_by=row["released_by"],
    )


def _newest(connection: Connection, table: Table) -> list[Any]:
    return list(connection.execute(select(table).order_by(table.c.id.desc())).mappings())
