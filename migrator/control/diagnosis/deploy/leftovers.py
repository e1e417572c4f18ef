"""What earlier work left half done, or left in force: it breaks the next run, or surprises it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import text

from migrator.control.diagnosis.finding import Finding
from migrator.stores.queries import in_schema

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy import Connection

_ALEMBIC: Final = """
SELECT t.table_schema FROM information_schema.tables t
WHERE t.table_name = 'alembic_version' AND t.table_schema NOT IN (:home, 'pg_catalog')
ORDER BY 1"""

_JOBS: Final = """
SELECT name, state FROM {s}.jobs WHERE source IS NOT NULL AND (state IN ('failed', 'paused')
  OR (state = 'running' AND updated_at < clock_timestamp() - interval '1 min')) ORDER BY name"""

_OVERRIDES: Final = """
SELECT id, gate, created_by FROM {s}.overrides
WHERE revoked_at IS NULL AND until > clock_timestamp() ORDER BY id"""

_HOLDS: Final = """
SELECT id, reason, created_by FROM {s}.holds
WHERE released_at IS NULL AND until > clock_timestamp() ORDER BY id"""

_BROWNOUTS: Final = """
SELECT id FROM {s}.brownouts WHERE paused_at IS NOT NULL AND cancelled_at IS NULL
  AND aborted_at IS NULL AND ends_at > clock_timestamp() ORDER BY id"""


def looks(connection: Connection, home: str, *, has_legacy: bool) -> list[Finding]:
    """Whatever is left."""
    found = [*_heads(connection, home), *_decided(connection, home)]
    return [*found, *_jobs(connection, home)] if has_legacy else found


def _rows(connection: Connection, statement: str, home: str) -> list[Any]:
    return list(connection.execute(text(in_schema(statement, home))).all())


def _heads(connection: Connection, home: str) -> Iterator[Finding]:
    """Alembic histories of the app with more than one head: its next upgrade stops half way."""
    for (schema,) in connection.execute(text(_ALEMBIC), {"home": home}).all():
        quoted = '"' + schema.replace('"', '""') + '"'
        heads = connection.execute(
            text(f"SELECT version_num FROM {quoted}.alembic_version ORDER BY 1")  # noqa: S608 - quoted
        ).all()
        if len(heads) > 1:
            named = ", ".join(str(row[0]) for row in heads)
            told = f"the app's own history in {schema} has several heads: {named}"
            do = "merge them (`alembic merge heads`) before you deploy; ours is kept apart"
            yield Finding("alembic.heads", "warn", told, do)


def _jobs(connection: Connection, home: str) -> Iterator[Finding]:
    for name, state in _rows(connection, _JOBS, home):
        how = "stopped without a word" if state == "running" else f"is {state}"
        told = f"backfill {name} {how}, and is not done"
        do = "run it again: it goes on from its checkpoint"
        yield Finding("backfill.unfinished", "warn", told, do)


def _decided(connection: Connection, home: str) -> Iterator[Finding]:
    for number, gate, who in _rows(connection, _OVERRIDES, home):
        told = f"override {number} of {gate} by {who} is in force"
        yield Finding("overrides.in-force", "info", told, f"migrator override revoke {number}")
    for number, reason, who in _rows(connection, _HOLDS, home):
        told = f"hold {number} by {who}: {reason}"
        yield Finding("holds.in-force", "info", told, f"migrator hold release {number}")
    for (number,) in _rows(connection, _BROWNOUTS, home):
        told = f"brownout {number} is paused: what was announced will not happen"
        yield Finding("brownouts.paused", "warn", told, f"migrator brownout resume {number}")
