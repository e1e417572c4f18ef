"""Beginning a soak with a move, and reading the one that lasts.

The nodes watch it (`stores/guards.py`), by the column alone: whoever made the move may be gone.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

from sqlalchemy import func, select

from migrator.control.words import span
from migrator.core.brownouts import LEAST_BASELINE_MINUTES
from migrator.core.soaks import Soak
from migrator.stores import tables as page

if TYPE_CHECKING:
    from datetime import datetime

    from sqlalchemy import Connection

_MINUTE = timedelta(minutes=1)
_DAY = timedelta(hours=24)


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A soak as it is asked for with a move: how long, and how many times the sign-ins."""

    lasting: timedelta
    sign_ins: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Baseline:
    """Sign-ins a minute before the move; `per_min` None says, by `why`, that it is not known."""

    per_min: float | None
    why: str | None = None


def read(connection: Connection, home: str, now: datetime) -> Soak | None:
    """The soak that lasts at `now`."""
    table = page.in_schema(home).tables[f"{home}.rollout"]
    found, epoch = connection.execute(select(table.c.soak, table.c.epoch)).one()
    if found is None:
        return None
    soak = Soak.of(found)
    return soak if soak.lasts(now, epoch=epoch) else None


def baseline(connection: Connection, home: str, now: datetime) -> Baseline:
    """What was usual within the last 24 hours."""
    table = page.in_schema(home).tables[f"{home}.minutes"]
    signed_in = func.sum(table.c.count).filter(table.c.outcome == "sign_in")
    within = (table.c.minute >= now - _DAY) & (table.c.minute < func.date_trunc("minute", now))
    query = select(func.min(table.c.minute), func.coalesce(signed_in, 0)).where(within)
    first, sign_ins = connection.execute(query).one()
    watched = timedelta() if first is None else now - first
    if watched < LEAST_BASELINE_MINUTES * _MINUTE:
        why = f"sign-ins were counted for {span(watched)} only: nothing to compare with"
        return Baseline(per_min=None, why=why)
    return Baseline(per_min=round(float(sign_ins) / (watched / _MINUTE), 3))
