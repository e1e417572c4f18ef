"""Who still lives on a legacy token: counted in the database, by issuer and client.

What is open (`open_tokens.py`) is the end of the drain horizon and the people a cutover would hit.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

from sqlalchemy import text

from migrator.control.open_tokens import OPEN, filled
from migrator.control.scope import EVERYBODY
from migrator.stores.queries import in_schema

if TYPE_CHECKING:
    from datetime import datetime

    from sqlalchemy import Connection

    from migrator.control.open_tokens import Terms
    from migrator.control.scope import Scope

# One line for each person and program, then people by program and people in all.
_BY_CLIENT = """
people AS (
  SELECT realm, subject, issuer, client, max(last_seen_at) AS last_seen_at, max(ends_at) AS ends_at
  FROM {found} l WHERE {scope} GROUP BY realm, subject, issuer, client)
SELECT issuer, client, count(*) AS subjects, max(last_seen_at) AS last_seen_at,
  max(ends_at) AS ends_at, false AS is_total
FROM people GROUP BY issuer, client
UNION ALL
SELECT NULL, NULL, (SELECT count(*) FROM (SELECT DISTINCT realm, subject FROM people) each),
  max(last_seen_at), max(ends_at), true
FROM people ORDER BY is_total DESC, subjects DESC, client, issuer
"""

_OPEN = f"WITH{_BY_CLIENT}".replace("{found}", f"({OPEN})")

_SINCE = """(
  SELECT l.*, NULL::timestamptz AS ends_at, {bucket} AS bucket FROM {s}.legacy_subjects l
  WHERE last_seen_at > :since)"""
_SEEN = f"WITH{_BY_CLIENT}".replace("{found}", _SINCE)

_USAGE = """
SELECT issuer, client, outcome, max(last_at) AS last_at,
  coalesce(sum(count) FILTER (WHERE hour >= :day), 0)::bigint AS day,
  coalesce(sum(count) FILTER (WHERE hour < :day AND hour >= :day_before), 0)::bigint AS day_before
FROM {s}.legacy_usage WHERE hour >= :since GROUP BY issuer, client, outcome
ORDER BY day DESC, outcome, client, issuer
"""

DAY = timedelta(hours=24)
_HOUR = timedelta(hours=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """Subjects of one issuer and client. `client` '' is not known."""

    issuer: str
    client: str
    subjects: int
    last_seen_at: datetime | None
    ends_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Census:
    """Subjects by issuer and client, and how many people that is.

    `as_of` and `took`: when they were counted, and how long that took; of a count that was kept,
    `took` is None.
    """

    subjects: int
    groups: tuple[Group, ...]
    ends_at: datetime | None = None
    as_of: datetime | None = None
    took: timedelta | None = None

    @property
    def clients(self) -> str:
        """The clients by name, the largest first, and last those without one."""
        shown = [f"{one.client or 'unknown client'} {one.subjects}" for one in self.groups[:4]]
        more = len(self.groups) - len(shown)
        return " · ".join(shown) + (f" · {more} more" if more > 0 else "")


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """What nodes counted of one outcome: the last day, the day before, and when last."""

    issuer: str
    client: str
    outcome: str
    last_at: datetime | None
    day: int
    day_before: int


def still_open(
    connection: Connection, schema: str, terms: Terms, scope: Scope = EVERYBODY
) -> Census:
    """Whose legacy tokens are open."""
    return _census(connection, schema, _OPEN, scope, **terms.asked())


def seen_since(
    connection: Connection, schema: str, *, since: datetime, scope: Scope = EVERYBODY
) -> Census:
    """Who was seen with a legacy token since then."""
    return _census(connection, schema, _SEEN, scope, since=since)


def usage(
    connection: Connection, schema: str, *, now: datetime, back: timedelta
) -> tuple[Line, ...]:
    """What nodes counted, as far `back` as that."""
    hour = now.replace(minute=0, second=0, microsecond=0)
    day = hour - DAY + _HOUR
    rows = connection.execute(
        text(in_schema(_USAGE, schema)),
        {"day": day, "day_before": day - DAY, "since": min(day - DAY, now - back - _HOUR)},
    ).mappings()
    return tuple(Line(**row) for row in rows)


def counting_since(connection: Connection, schema: str) -> datetime | None:
    """The earliest hour that usage is on record of."""
    found: datetime | None = connection.scalar(
        text(in_schema("SELECT min(hour) FROM {s}.legacy_usage", schema))
    )
    return found


def _census(
    connection: Connection, schema: str, statement: str, scope: Scope, **given: object
) -> Census:
    asked, facts = filled(statement, schema, scope)
    rows = connection.execute(text(asked), {**given, **facts}).mappings()
    found = [dict(row) for row in rows]
    totals = [row for row in found if row.pop("is_total")]
    total = totals[0]
    groups = [Group(**row) for row in found if row["issuer"] is not None]
    return Census(
        subjects=total["subjects"],
        ends_at=total["ends_at"],
        groups=tuple(sorted(groups, key=lambda group: not group.client)),
    )
