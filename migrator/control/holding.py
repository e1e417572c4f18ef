"""Setting and releasing holds: nothing goes forward while one is in force.

A hold has an owner, a reason and an end, so nobody has to guess what a move waits for. One that
begins later is a freeze that is announced. No hold keeps anybody from going back.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from sqlalchemy import insert, update

from migrator.control import decisions
from migrator.control.deciding import at_desk
from migrator.control.decisions import Hold
from migrator.core.errors import Exit, Problem, Stopped

if TYPE_CHECKING:
    from datetime import datetime

    from migrator.control.terms import Term
    from migrator.settings import Settings

SCHEMA = "migrator.hold/1"
LISTED = "migrator.holds/1"
LONGEST = timedelta(days=365)
_AHEAD = frozenset({"in force", "planned"})


def add(
    settings: Settings, *, term: Term, who: str, why: str, dry_run: bool = False
) -> dict[str, Any]:
    """Hold moves forward up; `id` is null where it was only rehearsed.

    Raises:
        Stopped: USAGE, the term is over before it begins, or too long; UNFIT; UNREACHABLE.
    """
    with at_desk(settings) as desk:
        start, until = term.of(desk.now, most=LONGEST)
        made = Hold(id=None, who=who, reason=why, since=desk.now, starts_at=start, until=until)
        if not dry_run:
            table = desk.table("holds")
            row = insert(table).values(
                created_at=desk.now, created_by=who, reason=why, starts_at=start, until=until
            )
            made = replace(made, id=desk.connection.scalar(row.returning(table.c.id)))
            detail = {"hold": made.id, "from": start.isoformat(), "until": until.isoformat()}
            desk.record(who=who, why=why, command="hold add", detail=detail)
    return {"hold": as_json(made, desk.now), "dry_run": dry_run, "changed": not dry_run}


def release(settings: Settings, number: int, *, who: str, dry_run: bool = False) -> dict[str, Any]:
    """End a hold now; unchanged where it was over already.

    Raises:
        Stopped: USAGE, there is none of that id; UNFIT; UNREACHABLE.
    """
    with at_desk(settings) as desk:
        there = decisions.holds(desk.connection, desk.home)
        found = next((one for one in there if one.id == number), None)
        if found is None:
            raise Stopped(_no_such(number), Exit.USAGE)
        ends = found.state(desk.now) in _AHEAD and not dry_run
        if ends:
            table = desk.table("holds")
            standing = (table.c.id == number) & table.c.released_at.is_(None)
            desk.connection.execute(
                update(table).where(standing).values(released_at=desk.now, released_by=who)
            )
            found = replace(found, released_at=desk.now, released_by=who)
            desk.record(who=who, why=None, command="hold release", detail={"hold": number})
    return {"hold": as_json(found, desk.now), "dry_run": dry_run, "changed": ends}


def listed(settings: Settings, *, ended: bool = False) -> dict[str, Any]:
    """Those in force or planned, the newest first; with `ended`, all that ever were.

    Raises:
        Stopped: UNFIT; UNREACHABLE.
    """
    with at_desk(settings) as desk:
        there = decisions.holds(desk.connection, desk.home)
    kept = [one for one in there if ended or one.state(desk.now) in _AHEAD]
    return {"generated_at": desk.now, "holds": [as_json(one, desk.now) for one in kept]}


def as_json(one: Hold, now: datetime) -> dict[str, Any]:
    """A hold as the commands and status print it."""
    return {
        "id": one.id,
        "who": one.who,
        "reason": one.reason,
        "since": one.since,
        "from": one.starts_at,
        "until": one.until,
        "state": one.state(now).replace(" ", "_"),
        "released_at": one.released_at,
        "released_by": one.released_by,
    }


def _no_such(number: int) -> Problem:
    return Problem(
        id="hold.unknown",
        what=f"there is no hold {number}",
        why="nothing was changed",
        do="migrator hold list --ended",
    )
