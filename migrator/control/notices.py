"""What clients were told of the end: `Sunset`, as operators announced it, and since when.

An end that nobody announced (the horizon that status keeps in step) is no notice: it moves with
every straggler, and nobody stands behind it. Announcements are read from the journal.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from sqlalchemy import select

from migrator.stores import tables as page

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy import Connection

    from migrator.core.phases import Rollout

# In the journal: the end that an operator set, which no horizon overwrites.
SCHEDULED = "sunset_at"


@dataclass(frozen=True, slots=True)
class Notice:
    """An end, and when it was announced."""

    announced_at: datetime
    sunset_at: datetime


def read(connection: Connection, home: str, rollout: Rollout) -> tuple[Notice, ...]:
    """Every announcement since drain was entered, the earliest first."""
    if rollout.drain_since is None:
        return ()
    log = page.in_schema(home).tables[f"{home}.rollout_log"]
    rows = connection.execute(
        select(log.c.at, log.c.detail[SCHEDULED].astext)
        .where(log.c.at >= rollout.drain_since, log.c.detail.has_key(SCHEDULED))
        .order_by(log.c.id)
    )
    return tuple(Notice(at, datetime.fromisoformat(end)) for at, end in rows.all() if end)


def announced_end(connection: Connection, home: str, rollout: Rollout) -> datetime | None:
    """The end that clients are told on an operator's word; None: nobody gave one."""
    there = read(connection, home, rollout)
    return there[-1].sunset_at if there and rollout.sunset_at is not None else None


def given_since(notices: Sequence[Notice]) -> datetime | None:
    """Since when everybody was told of an end no later than the one that stands.

    Whoever was told an earlier end is served by a later one; whoever was told a later one has been
    told of this only since it was moved forward.
    """
    since: datetime | None = None
    for notice in reversed(notices):
        if notice.sunset_at > notices[-1].sunset_at:
            break
        since = notice.announced_at
    return since
