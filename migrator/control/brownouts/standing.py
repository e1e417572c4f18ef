"""How brownouts stand, as gates and status judge by it: read with the rest of the evidence."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from migrator.control import notices
from migrator.control.brownouts import teaching
from migrator.control.brownouts.rows import AHEAD, Row, refused
from migrator.control.brownouts.rows import read as rows_of
from migrator.control.brownouts.teaching import Lesson

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from sqlalchemy import Connection

    from migrator.control.notices import Notice
    from migrator.core.phases import Rollout


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """Every brownout, and what is known by them.

    Args:
        refused: how many subjects each refused; None: that record is gone.
        lesson: how those came back.
        notices: the ends that were announced since drain was entered.
    """

    rows: tuple[Row, ...] = ()
    refused: Mapping[int, int] | None = None
    lesson: Lesson = field(default_factory=Lesson)
    notices: tuple[Notice, ...] = ()

    def done_since(self, since: datetime | None, now: datetime) -> list[Row]:
        """Those that began after `since` and ran to their end."""
        over = [row for row in self.rows if row.state(now) == "finished"]
        return [row for row in over if since is not None and row.starts_at >= since]

    def as_json(self, now: datetime) -> list[dict[str, Any]]:
        """Those under way and to come, and the last that is over."""
        return [self._one(row, now) for row in _shown(self.rows, now)]

    def _one(self, row: Row, now: datetime) -> dict[str, Any]:
        met = None if self.refused is None else self.refused.get(row.id, 0)
        is_over = row.state(now) not in AHEAD
        error = teaching.error_of(row.forecast, met) if is_over else None
        return {**row.as_json(now, met), "forecast_error": error}


def _shown(rows: Sequence[Row], now: datetime) -> list[Row]:
    ran = [row for row in rows if row.state(now) in {"finished", "aborted"}]
    last = sorted(ran, key=lambda row: row.over_at)[-1:]
    return [*last, *(row for row in rows if row.state(now) in AHEAD)]


NOTHING: Standing = Standing()


def read(connection: Connection, home: str, rollout: Rollout, now: datetime) -> Standing:
    """How they stand at `now`."""
    rows = rows_of(connection, home)
    announced = notices.read(connection, home, rollout)
    if not rows:
        return Standing(notices=announced)
    shown = {row.id: row for row in (*_shown(rows, now), *teaching.latest(rows, now))}
    counts = refused(connection, home, shown.values())
    lesson = Lesson() if counts is None else teaching.lesson(connection, home, rows, counts, now)
    return Standing(rows=rows, refused=counts, lesson=lesson, notices=announced)
