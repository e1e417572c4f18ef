"""How many live on legacy tokens: counted now where that is quick, else as it was counted last.

People by client cannot be counted without looking at each row, and a million rows take seconds.
Whoever decides by the number (gates, moves, `status --detail`) waits for it, and leaves it behind
for whoever only looks (`status`), who is told its age. The drain horizon is no count and is always
exact (`open_tokens.py`).
"""

from __future__ import annotations

import time
from dataclasses import replace
from datetime import datetime, timedelta
from hashlib import sha256
from typing import TYPE_CHECKING, Any

from sqlalchemy import select, text
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.exc import DBAPIError

from migrator.control import census, revisions
from migrator.control.census import Census, Group
from migrator.core.errors import Stopped
from migrator.stores import tables as page
from migrator.stores.queries import in_schema

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sqlalchemy import Connection

    from migrator.control.open_tokens import Terms
    from migrator.control.scope import Scope
    from migrator.settings import Settings

# Some hundred and fifty thousand rows: a third of a second.
_AT_ONCE_BYTES = 32 * 2**20
_WORTH_KEEPING = timedelta(milliseconds=100)

_SIZE = """
SELECT pg_relation_size(CAST(:tokens AS regclass)) + pg_relation_size(CAST(:seen AS regclass))
"""

UNCOUNTED = "too many to count in passing, and nobody counted them yet: migrator status --detail"


def take(
    connection: Connection,
    home: str,
    terms: Terms,
    scope: Scope,
    *,
    patient: bool,
) -> Census | None:
    """Whose legacy tokens are open within `scope`; None: never counted, and too many for now.

    Args:
        patient: count, however long it takes.
    """
    if not (patient or scope.is_of_nobody or _is_quick(connection, home)):
        return _kept(connection, home, _name(scope))
    began = time.monotonic()
    found = census.still_open(connection, home, terms, scope)
    took = timedelta(seconds=time.monotonic() - began)
    return replace(found, as_of=terms.now, took=took)


def keep(settings: Settings, counted: Iterable[tuple[Scope, Census | None]]) -> None:
    """Leave behind what took long to count; best effort, for a role that may only read."""
    rows = {
        _name(scope): one
        for scope, one in counted
        if one is not None and one.took is not None and one.took > _WORTH_KEEPING
    }
    if not rows:
        return
    home = settings.database.schema
    table = page.in_schema(home).tables[f"{home}.legacy_counts"]
    try:
        with revisions.connected(settings.database.url.get_secret_value()) as connection:
            connection.execute(text("SET LOCAL lock_timeout = '1s'"))
            for name, one in sorted(rows.items()):
                fresh = insert(table).values(
                    name=name, taken_at=one.as_of, took_ms=_ms(one.took), body=_body(one)
                )
                facts = {each: fresh.excluded[each] for each in ("taken_at", "took_ms", "body")}
                connection.execute(
                    fresh.on_conflict_do_update(
                        index_elements=["name"],
                        set_=facts,
                        where=table.c.taken_at < fresh.excluded.taken_at,
                    )
                )
            connection.commit()
    except (DBAPIError, Stopped):
        return


def _is_quick(connection: Connection, home: str) -> bool:
    names = {"tokens": "{s}.legacy_tokens", "seen": "{s}.legacy_subjects"}
    size: int = connection.scalar(
        text(_SIZE), {name: in_schema(table, home) for name, table in names.items()}
    )
    return size <= _AT_ONCE_BYTES


def _name(scope: Scope) -> str:
    where, given = scope.sql()
    return sha256(f"open {where} {sorted(given.items())}".encode()).hexdigest()


def _kept(connection: Connection, home: str, name: str) -> Census | None:
    table = page.in_schema(home).tables[f"{home}.legacy_counts"]
    row = connection.execute(
        select(table.c.taken_at, table.c.body).where(table.c.name == name)
    ).one_or_none()
    if row is None:
        return None
    groups = [
        Group(**{**one, "last_seen_at": _at(one["last_seen_at"]), "ends_at": _at(one["ends_at"])})
        for one in row.body["groups"]
    ]
    return Census(subjects=row.body["subjects"], groups=tuple(groups), as_of=row.taken_at)


def _body(one: Census) -> dict[str, Any]:
    return {
        "subjects": one.subjects,
        "groups": [
            {
                "issuer": group.issuer,
                "client": group.client,
                "subjects": group.subjects,
                "last_seen_at": _said(group.last_seen_at),
                "ends_at": _said(group.ends_at),
            }
            for group in one.groups
        ],
    }


def _said(moment: datetime | None) -> str | None:
    return None if moment is None else moment.isoformat()


def _at(said: str | None) -> datetime | None:
    return None if said is None else datetime.fromisoformat(said)


def _ms(length: timedelta | None) -> int:
    return 0 if length is None else int(length / timedelta(milliseconds=1))
