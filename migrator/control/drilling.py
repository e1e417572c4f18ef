"""The drill: the way back, really gone, and forward again to exactly what stood.

Two moves, each a compare-and-set of its own, so a kill between them leaves a phase like any other;
run again, the drill finds its own first half in the journal and goes the rest of the way. The way
forward needs no gate: it restores what stood.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from migrator.control import decisions, evidence, flip, journal, moving, notices, rollout, soaking
from migrator.control.deciding import at_desk
from migrator.control.journal import DRILL
from migrator.control.rollout import Target
from migrator.control.words import at, span
from migrator.core.errors import Exit, Problem, Stopped
from migrator.core.phases import Phase
from migrator.core.soaks import Back
from migrator.stores import tables as page

if TYPE_CHECKING:
    from collections.abc import Callable

    from migrator.control.acknowledged import Acknowledged
    from migrator.control.decisions import Hold
    from migrator.core.phases import Rollout
    from migrator.settings import Settings


@dataclass(frozen=True, slots=True, kw_only=True)
class Drill:
    """A drill that may be run.

    Args:
        stands: the rollout now.
        restores: what stands, or stood, and will again.
        scheduled: the end that an operator announced, which going back to `swap` takes away.
        is_half: it was begun before, and only the way forward is left.
        took: how long the last move took to be in effect, if on record.
    """

    stands: Rollout
    restores: Back
    scheduled: datetime | None
    is_half: bool
    took: timedelta | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Drilled:
    """What a drill came to; a way that was not in effect in time was not measured: None."""

    after: Rollout
    seen: Acknowledged | None
    back_took: timedelta | None
    forward_took: timedelta | None

    @property
    def is_finished(self) -> bool:
        """Whether both ways were in effect on every living node: only that proves anything."""
        return self.back_took is not None and self.forward_took is not None


def plan(settings: Settings) -> Drill:
    """What a drill would do from here.

    Raises:
        Stopped: GATE_FAILED, there is no way back to drill, a hold is in force or a soak lasts;
            IRREVERSIBLE; UNFIT; UNREACHABLE.
    """
    evidence.fit(settings)
    stands, _ = flip.read(settings)
    with at_desk(settings) as desk:
        tables = page.in_schema(desk.home)
        took = journal.propagated(desk.connection, tables, desk.home)
        last = journal.read(desk.connection, tables, desk.home, limit=1, moves_only=True)
        begun = journal.half_drill(last[0]) if last else None
        holds = decisions.holds_ahead(desk.connection, desk.home, desk.now)
        soak = soaking.read(desk.connection, desk.home, desk.now)
        scheduled = notices.announced_end(desk.connection, desk.home, stands)
    if begun is not None:
        scheduled = begun.get("scheduled")
        return Drill(
            stands=stands,
            restores=Back.of(begun["restores"]),
            scheduled=None if scheduled is None else datetime.fromisoformat(scheduled),
            is_half=True,
            took=took,
        )
    rollout.back(stands)
    held = [one for one in holds if one.state(desk.now) == "in force"]
    if held:
        raise Stopped(_held(held[0]), Exit.GATE_FAILED)
    if soak is not None:
        raise Stopped(_soaking(soak.until), Exit.GATE_FAILED)
    return Drill(
        stands=stands,
        restores=Back.to(stands),
        scheduled=scheduled,
        is_half=False,
        took=took,
    )


def run(
    settings: Settings,
    drill: Drill,
    *,
    who: str,
    why: str | None,
    wait: timedelta,
    committed: Callable[[Rollout], None] = lambda _: None,
    tell: Callable[[Acknowledged], None] = lambda _: None,
) -> Drilled:
    """Go back, wait for the nodes, and forward again.

    Raises:
        Stopped: CONFLICT, naming who moved meanwhile; UNREACHABLE.
    """
    there, to_restore = drill.stands, drill.restores
    if not drill.is_half:
        kept = {
            "restores": to_restore.as_json(),
            "scheduled": None if drill.scheduled is None else drill.scheduled.isoformat(),
        }
        order = flip.Order(who=who, why=why, command=DRILL, drill=kept)
        there = flip.commit(settings, there, rollout.back(there), order)
        committed(there)
    back = moving.settle(settings, there, wait=wait, who=who, tell=tell)
    back_took = _took(settings, there, back)
    target = Target(
        phase=to_restore.phase,
        percent=to_restore.percent,
        exceptions=to_restore.exceptions,
        gated=False,
    )
    order = flip.Order(
        who=who,
        why=why,
        command=DRILL,
        sunset_at=drill.scheduled if to_restore.phase is Phase.DRAIN else None,
        drill={"began": there.epoch},
    )
    after = flip.commit(settings, there, target, order)
    committed(after)
    forward = moving.settle(settings, after, wait=wait, who=who, tell=tell)
    forward_took = _took(settings, after, forward)
    done = Drilled(after=after, seen=forward, back_took=back_took, forward_took=forward_took)
    if done.is_finished:
        _record(settings, done, who=who, why=why)
    return done


def price(drill: Drill) -> str:
    """What a drill costs, said before it begins."""
    back = rollout.back(drill.stands).phase if not drill.is_half else drill.stands.phase
    source = drill.restores.phase
    each = "unknown" if drill.took is None else span(drill.took)
    path = f"{back} → {source}" if drill.is_half else f"{source} → {back} → {source}"
    begun = " (begun before: only the way forward is left)" if drill.is_half else ""
    cost = {
        Phase.CUTOVER: "for these seconds JWTs are accepted again",
        Phase.DRAIN: "for these seconds the app issues JWTs again,\n"
        "  and the drain horizon starts anew",
        Phase.SWAP: "for these seconds nobody is handed a session",
    }.get(source, "")
    return f"drill: {path}, each way about {each}{begun}\n  price: 0 users logged out; {cost}"


def _took(settings: Settings, moved: Rollout, seen: Acknowledged | None) -> timedelta | None:
    if seen is None or not seen.is_in_effect or not seen.fleet.live:
        return None
    with at_desk(settings) as desk:
        return journal.propagated(
            desk.connection, page.in_schema(desk.home), desk.home, epoch=moved.epoch
        )


def _record(settings: Settings, done: Drilled, *, who: str, why: str | None) -> None:
    took = {
        "back_s": _seconds(done.back_took),
        "forward_s": _seconds(done.forward_took),
    }
    with at_desk(settings) as desk:
        desk.record(who=who, why=why, command=DRILL, detail={"drill": {"finished": True, **took}})


def _seconds(took: timedelta | None) -> float | None:
    return None if took is None else round(took.total_seconds(), 3)


def _held(hold: Hold) -> Problem:
    return Problem(
        id="hold.in_force",
        what=f"{hold.who} holds it until {at(hold.until)}: {hold.reason}",
        why="a drill goes forward too; `migrator rollback` alone is free",
        do=f"migrator hold release {hold.id}",
    )


def _soaking(until: datetime) -> Problem:
    return Problem(
        id="drill.soaking",
        what=f"the last move soaks until {at(until)}",
        why="a drill would end the watch over it",
        do="run the drill when the soak is over; migrator status",
    )
