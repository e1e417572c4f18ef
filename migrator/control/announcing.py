"""Announcing the end: the date that `Sunset` tells clients, set by an operator and moved by one.

The date moves under a new epoch, so that it has moved on every node that acknowledged it, the same
second. What is announced is held against what clients are told beside it: RFC 9745 section 4 wants
no Sunset before its Deprecation, and no brownout may come after the end.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import case, insert, literal, update
from sqlalchemy.dialects.postgresql import JSONB

from migrator.control import evidence, flip
from migrator.control.brownouts.rows import AHEAD
from migrator.control.brownouts.rows import read as brownouts_of
from migrator.control.deciding import at_desk
from migrator.control.notices import SCHEDULED
from migrator.control.words import at
from migrator.core.errors import Exit, Problem, Stopped
from migrator.core.phases import Phase

if TYPE_CHECKING:
    from datetime import datetime

    from migrator.control.brownouts.rows import Row
    from migrator.control.deciding import Desk
    from migrator.core.phases import Rollout
    from migrator.settings import Settings


@dataclass(frozen=True, slots=True, kw_only=True)
class Announced:
    """What stood, and what stands; the same where the end was announced already."""

    before: Rollout
    after: Rollout

    @property
    def changed(self) -> bool:
        """Whether another end stands now."""
        return self.before.epoch != self.after.epoch


def checked(settings: Settings, end: datetime) -> Rollout:
    """The rollout, where `end` may be announced as things stand.

    Raises:
        Stopped: GATE_FAILED, with the page that says why not; UNFIT; UNREACHABLE.
    """
    evidence.fit(settings)
    before, _ = flip.read(settings)
    with at_desk(settings) as desk:
        _require(desk, before, end)
    return before


def announce(
    settings: Settings, before: Rollout, end: datetime, *, who: str, why: str | None
) -> Announced:
    """Tell clients that `end` is the end, from the epoch after `before` on.

    Raises:
        Stopped: CONFLICT, naming the other; GATE_FAILED; UNREACHABLE.
    """
    with at_desk(settings) as desk:
        _require(desk, before, end)
        row, feed = desk.table("rollout"), desk.table("feed")
        epoch, soak = before.epoch + 1, row.c.soak
        goes_on = soak["epoch"].astext == str(before.epoch)
        kept = case((goes_on, soak.op("||")(literal({"epoch": epoch}, JSONB))), else_=soak)
        moved = desk.connection.execute(
            update(row)
            .where(row.c.epoch == before.epoch)
            .values(sunset_at=end, epoch=epoch, soak=kept)
        )
        if moved.rowcount != 1:
            raise Stopped(desk.overtaken(before, "sunset.overtaken"), Exit.CONFLICT)
        desk.connection.execute(insert(feed).values(kind="legacy", key=f"epoch:{epoch}"))
        detail = {SCHEDULED: end.isoformat()}
        desk.record(who=who, why=why, command="advance drain --sunset", detail=detail)
    after, _ = flip.read(settings)
    return Announced(before=before, after=after)


def _require(desk: Desk, rollout: Rollout, end: datetime) -> None:
    ahead = [
        row for row in brownouts_of(desk.connection, desk.home) if row.state(desk.now) in AHEAD
    ]
    problem = fault(rollout, end, desk.now, ahead)
    if problem is not None:
        raise Stopped(problem, Exit.GATE_FAILED)


def fault(rollout: Rollout, end: datetime, now: datetime, ahead: list[Row]) -> Problem | None:
    """Why `end` cannot be announced; None: it can."""
    deprecated = rollout.drain_since if rollout.phase is Phase.DRAIN else None
    if end < (deprecated or now):
        return _before_deprecation(end, deprecated or now)
    last = max(ahead, key=lambda row: row.ends_at, default=None)
    if last is not None and end < last.ends_at:
        return _before_brownout(end, last)
    return None


def _before_deprecation(end: datetime, deprecated: datetime) -> Problem:
    return Problem(
        id="sunset.before_deprecation",
        what=f"Sunset would say {at(end)}, and Deprecation {at(deprecated)}",
        why="RFC 9745, section 4: the end must not be earlier than the deprecation",
        do="migrator advance drain --sunset TIME, with a later one",
    )


def _before_brownout(end: datetime, last: Row) -> Problem:
    return Problem(
        id="sunset.before_brownout",
        what=f"Sunset would say {at(end)}, and brownout {last.id} ends at {at(last.ends_at)}",
        why="what is tried out comes before the end that it prepares",
        do=f"migrator brownout cancel {last.id}, or a later TIME",
    )
