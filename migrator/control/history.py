"""The journal as an object: the JSON of `migrator log`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from migrator.control import evidence, journal, revisions
from migrator.control.status import place
from migrator.stores import tables as page

if TYPE_CHECKING:
    from migrator.settings import Settings

SCHEMA = "migrator.log/1"


def report(settings: Settings, *, limit: int) -> dict[str, Any]:
    """The last lines of the journal, newest first.

    Raises:
        Stopped: UNREACHABLE; UNFIT where the schema is not this release's.
    """
    evidence.fit(settings)
    home = settings.database.schema
    with revisions.connected(settings.database.url.get_secret_value()) as connection:
        rows = journal.read(connection, page.in_schema(home), home, limit=limit)
        connection.rollback()
    return {
        "environment": settings.environment,
        "app": settings.app,
        "rows": [
            {
                "at": row.at,
                "who": row.who,
                "why": row.why,
                "command": row.command,
                "from": place(row.from_phase, row.from_percent),
                "to": place(row.to_phase, row.to_percent),
                "epoch": row.epoch,
                "detail": dict(row.detail),
            }
            for row in rows
        ],
    }
