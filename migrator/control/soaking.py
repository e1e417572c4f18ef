"""Beginning a soak with a move, and reading the one that lasts.

The nodes watch it (`stores/guards.py`), by the column alone: whoever made the move may be gone.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from sqlalchemy import func, select

from migrator.control import rollout as moves
from migrator.control.deciding import at_desk
from migrator.control.words import span
from migrator.core.phases import ORDER, Phase
from migrator.core.sign_ins import usual as sign_ins_a_minute
from migrator.core.soaks import Back, Soak
from migrator.stores import tables as page

if TYPE_CHECKING:
    from datetime import datetime

    from sqlalchemy import Connection

    from migrator.core.phases import Rollout
    from migrator.settings import Settings

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


def standing(settings: Settings) -> Soak | None:
    """The soak that lasts now.

    Raises:
        Stopped: UNFIT; UNREACHABLE.
    """
    with at_desk(settings) as desk:
        return read(desk.connection, desk.home, desk.now)


def as_json(soak: Soak) -> dict[str, Any]:
    """A soak as the commands and status print it."""
    return {
        "since": soak.since,
        "until": soak.until,
        "sign_ins": soak.sign_ins,
        "baseline_per_min": soak.baseline_per_min,
        "back_to": soak.back.phase.value,
    }


def usual(settings: Settings) -> Baseline:
    """What is usual now.

    Raises:
        Stopped: UNFIT; UNREACHABLE.
    """
    with at_desk(settings) as desk:
        return baseline(desk.connection, desk.home, desk.now)


def baseline(connection: Connection, home: str, now: datetime) -> Baseline:
    """What was usual within the last 24 hours."""
    table = page.in_schema(home).tables[f"{home}.minutes"]
    signed_in = func.sum(table.c.count).filter(table.c.outcome == "sign_in")
    within = (table.c.minute >= now - _DAY) & (table.c.minute < func.date_trunc("minute", now))
    query = select(func.min(table.c.minute), func.coalesce(signed_in, 0)).where(within)
    first, sign_ins = connection.execute(query).one()
    watched = timedelta() if first is None else now - first
    per_min = sign_ins_a_minute(float(sign_ins), watched / _MINUTE)
    if per_min is None:
        why = f"sign-ins were counted for {span(watched)} only: nothing to compare with"
        return Baseline(per_min=None, why=why)
    return Baseline(per_min=round(per_min, 3))


def way_back(before: Rollout, after: Rollout) -> Back:
    """What would stand again: what `migrator rollback` sets, where the move entered a phase.

    A move within a phase (a segment cut over, an exception dropped) leads back to before it: a
    whole phase back would take away more than the move gave.
    """
    if after.phase is before.phase:
        return Back.to(before)
    target = moves.back(after)
    kept = ORDER.index(target.phase) >= ORDER.index(Phase.DRAIN)
    return Back(
        phase=target.phase,
        percent=target.percent,
        exceptions=target.exceptions,
        drain_since=before.drain_since if kept else None,
        sunset_at=before.sunset_at if kept else None,
    )


def begun(
    connection: Connection, home: str, before: Rollout, after: Rollout, asked: Asked | None
) -> Soak | None:
    """The soak to write with a move, None where none was asked for."""
    if asked is None:
        return None
    now: datetime = connection.execute(select(func.clock_timestamp())).scalar_one()
    return Soak(
        since=now,
        until=now + asked.lasting,
        sign_ins=asked.sign_ins,
        baseline_per_min=baseline(connection, home, now).per_min,
        epoch=after.epoch,
        back=way_back(before, after),
    )
