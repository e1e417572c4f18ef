"""Scheduling brownouts, pausing, resuming and ending them: each under a new epoch.

A window is known to a node exactly when the node acknowledged the epoch that announced it. So the
windows stand in the rollout row, and each change of them is a compare-and-set of that row, a line
in the journal and a row of the feed, in one transaction with the brownout's own row.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from sqlalchemy import case, insert, literal, update
from sqlalchemy.dialects.postgresql import JSONB

from migrator.control import clients, evidence, flip
from migrator.control.acknowledged import exit_of
from migrator.control.brownouts import asking, forecasting, teaching
from migrator.control.brownouts.rows import AHEAD, STANDING, Row, read, window_json
from migrator.control.brownouts.rows import refused as refused_by
from migrator.control.deciding import at_desk
from migrator.control.notices import announced_end
from migrator.control.words import at
from migrator.core.errors import Exit, Problem, Stopped

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from datetime import datetime

    from migrator.control.acknowledged import Acknowledged
    from migrator.control.brownouts.asking import Asked
    from migrator.control.deciding import Desk
    from migrator.core.brownouts import Brownout
    from migrator.core.phases import Rollout
    from migrator.settings import Settings

_SCHEDULED = (
    *("created_at", "created_by", "reason", "starts_at", "ends_at"),
    *("by", "value", "percent", "limits", "forecast"),
)
LISTED = "migrator.brownouts/1"
DECIDED = "migrator.brownout/1"


@dataclass(frozen=True, slots=True, kw_only=True)
class Planned:
    """A brownout that may be scheduled, and whom it would meet."""

    row: Row
    before: Rollout
    now: datetime
    warnings: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Decided:
    """What a decision came to.

    Args:
        rows: the brownouts it was about, as they stand now.
        rollout: what stands; under the same epoch as before where nothing changed.
        seen: how far the nodes are; None: not waited for.
    """

    command: str
    rows: tuple[Row, ...]
    rollout: Rollout
    now: datetime
    changed: bool
    dry_run: bool = False
    seen: Acknowledged | None = None
    warnings: tuple[str, ...] = ()

    @property
    def exit_code(self) -> Exit:
        """NOT_ACKNOWLEDGED where a wait ended before the nodes did."""
        return exit_of(self.seen)

    def as_json(self) -> dict[str, Any]:
        """As the commands print it."""
        return {
            "command": self.command,
            "brownouts": [row.as_json(self.now) for row in self.rows],
            "phase": self.rollout.phase.value,
            "epoch": self.rollout.epoch,
            "state": None if self.seen is None else self.seen.state,
            "in_effect_at": None if self.seen is None else self.seen.in_effect_at,
            "waiting_on": [node.id for node in self.seen.fleet.waiting] if self.seen else [],
            "dry_run": self.dry_run,
            "warnings": list(self.warnings),
        }


def plan(settings: Settings, asked: Asked, *, who: str, why: str | None) -> Planned:
    """What `asked` comes to, with its forecast; reads only.

    Raises:
        Stopped: GATE_FAILED, it may not be scheduled; IRREVERSIBLE; USAGE, its client's
            name is a slip; UNFIT; UNREACHABLE.
    """
    evidence.fit(settings)
    before, _ = flip.read(settings)
    with at_desk(settings) as desk:
        now, window = desk.now, asked.window(desk.now)
        there = read(desk.connection, desk.home)
        ahead = [row for row in there if row.state(now) in AHEAD]
        end = announced_end(desk.connection, desk.home, before)
        asking.require(window, before, ahead, now, announced=end)
        counts = refused_by(desk.connection, desk.home, there) or {}
        lesson = teaching.lesson(desk.connection, desk.home, there, counts, now)
    unseen: tuple[str, ...] = ()
    if asked.segment is not None and not asked.unseen:
        unseen = clients.require_seen(settings, [asked.segment])
    forecast = forecasting.of(settings, before, window, lesson)
    row = Row(
        id=0,
        created_at=now,
        created_by=who,
        reason=why,
        starts_at=window.starts_at,
        ends_at=window.ends_at,
        by=window.by,
        value=window.value or None,
        percent=window.percent,
        limits=asked.limits.as_json(),
        forecast=forecast,
    )
    warned = (*asking.warnings(before, window), *unseen)
    return Planned(row=row, before=before, now=now, warnings=warned)


def rehearsed(planned: Planned) -> Decided:
    """What scheduling it would come to; nothing is written."""
    return Decided(
        command="brownout schedule",
        rows=(planned.row,),
        rollout=planned.before,
        now=planned.now,
        changed=False,
        dry_run=True,
        warnings=planned.warnings,
    )


def schedule(settings: Settings, planned: Planned) -> Decided:
    """Put a planned brownout on record, and where nodes read it.

    Raises:
        Stopped: CONFLICT, the rollout moved since it was planned; UNREACHABLE.
    """
    row = planned.row
    with at_desk(settings) as desk:
        table = desk.table("brownouts")
        values = {name: getattr(row, name) for name in _SCHEDULED}
        number = desk.connection.scalar(insert(table).values(values).returning(table.c.id))
        row = replace(row, id=number or 0)
        _publish(desk, planned.before, [*_standing(desk)])
        _record(desk, "brownout schedule", (row,), row.created_by, row.reason)
    after, _ = flip.read(settings)
    return Decided(
        command="brownout schedule",
        rows=(row,),
        rollout=after,
        now=planned.now,
        changed=True,
        warnings=planned.warnings,
    )


def pause(
    settings: Settings, number: int | None, *, who: str, why: str | None, dry_run: bool = False
) -> Decided:
    """Take one, or all that are ahead, away from the nodes, until resumed.

    Raises:
        Stopped: USAGE, there is none of that id; GATE_FAILED, it is over; CONFLICT; UNREACHABLE.
    """

    def change(row: Row, now: datetime) -> Row:
        return replace(row, paused_at=now) if row.state(now) in STANDING else row

    return _decide(settings, "brownout pause", number, change, who=who, why=why, dry_run=dry_run)


def resume(
    settings: Settings, number: int | None, *, who: str, why: str | None, dry_run: bool = False
) -> Decided:
    """Give one, or all that are paused, back to the nodes: what is left of its window.

    Raises:
        Stopped: as `pause`.
    """

    def change(row: Row, now: datetime) -> Row:
        return replace(row, paused_at=None) if row.state(now) == "paused" else row

    return _decide(settings, "brownout resume", number, change, who=who, why=why, dry_run=dry_run)


def cancel(
    settings: Settings, number: int, *, who: str, why: str | None, dry_run: bool = False
) -> Decided:
    """Call one off; an open one ends at once.

    Raises:
        Stopped: as `pause`.
    """

    def change(row: Row, now: datetime) -> Row:
        return replace(row, cancelled_at=now, cancelled_by=who)

    return _decide(settings, "brownout cancel", number, change, who=who, why=why, dry_run=dry_run)


def abort(
    settings: Settings, number: int, *, who: str, why: str | None, dry_run: bool = False
) -> Decided:
    """End an open one at once: it went wrong, and counts for nothing.

    Raises:
        Stopped: as `pause`; GATE_FAILED where it has not begun.
    """

    def change(row: Row, now: datetime) -> Row:
        if row.state(now) != "open":
            raise Stopped(_not_open(row), Exit.GATE_FAILED)
        return replace(row, aborted_at=now, aborted_why=why or f"by {who}")

    return _decide(settings, "brownout abort", number, change, who=who, why=why, dry_run=dry_run)


def settle(
    settings: Settings,
    decided: Decided,
    *,
    wait: timedelta,
    who: str,
    tell: Callable[[Acknowledged], None] = lambda _: None,
) -> Decided:
    """Wait until every living node acknowledged it; 0: don't.

    Raises:
        Stopped: UNREACHABLE, when the database could never be asked.
    """
    if not wait or not decided.changed:
        return decided
    seen = flip.await_nodes(settings, decided.rollout, wait=wait, who=who, tell=tell)
    return replace(decided, seen=seen)


def listed(settings: Settings) -> dict[str, Any]:
    """Every brownout, the earliest window first.

    Raises:
        Stopped: UNFIT; UNREACHABLE.
    """
    with at_desk(settings) as desk:
        rows = read(desk.connection, desk.home)
        counts = refused_by(desk.connection, desk.home, rows)
    refused = {row.id: None if counts is None else counts.get(row.id, 0) for row in rows}
    return {
        "generated_at": desk.now,
        "brownouts": [row.as_json(desk.now, refused[row.id]) for row in rows],
    }


# ---- the one way to change what stands ---------------------------------------------------------


def _decide(
    settings: Settings,
    command: str,
    number: int | None,
    change: Callable[[Row, datetime], Row],
    *,
    who: str,
    why: str | None,
    dry_run: bool,
) -> Decided:
    evidence.fit(settings)
    before, _ = flip.read(settings)
    with at_desk(settings) as desk:
        chosen = _chosen(read(desk.connection, desk.home), number, desk.now)
        made = [_changed(row, change, desk.now) for row in chosen]
        changed = [one for one, row in zip(made, chosen, strict=True) if one != row]
        rows = tuple(changed or chosen)
        if changed and not dry_run:
            for row in changed:
                _write(desk, row)
            _publish(desk, before, _standing(desk))
            _record(desk, command, rows, who, why)
    after, _ = flip.read(settings)
    return Decided(
        command=command,
        rows=rows,
        rollout=after,
        now=desk.now,
        changed=bool(changed) and not dry_run,
        dry_run=dry_run,
    )


def _changed(row: Row, change: Callable[[Row, datetime], Row], now: datetime) -> Row:
    """What `change` makes of it; what is over stays as it is."""
    return change(row, now) if row.state(now) in AHEAD else row


def _chosen(there: Sequence[Row], number: int | None, now: datetime) -> list[Row]:
    if number is None:
        return [row for row in there if row.state(now) in AHEAD]
    found = [row for row in there if row.id == number]
    if not found:
        raise Stopped(_no_such(number, there), Exit.USAGE)
    if found[0].state(now) in {"finished", "missed"}:
        raise Stopped(_over(found[0]), Exit.GATE_FAILED)
    return found


def _write(desk: Desk, row: Row) -> None:
    table = desk.table("brownouts")
    names = ("paused_at", "cancelled_at", "cancelled_by", "aborted_at", "aborted_why")
    values = {name: getattr(row, name) for name in names}
    desk.connection.execute(update(table).where(table.c.id == row.id).values(values))


def _standing(desk: Desk) -> list[Brownout]:
    rows = read(desk.connection, desk.home)
    return [row.window for row in rows if row.state(desk.now) in STANDING]


def _publish(desk: Desk, before: Rollout, windows: Iterable[Brownout]) -> None:
    """Let the nodes know these windows and no others, if `before` is still what stands."""
    row, feed = desk.table("rollout"), desk.table("feed")
    soak, epoch = row.c.soak, before.epoch + 1
    # A soak goes on: what is decided of brownouts is no move.
    goes_on = soak["epoch"].astext == str(before.epoch)
    kept = case((goes_on, soak.op("||")(literal({"epoch": epoch}, JSONB))), else_=soak)
    changed = desk.connection.execute(
        update(row)
        .where(row.c.epoch == before.epoch)
        .values(brownouts=[window_json(one) for one in windows], epoch=epoch, soak=kept)
    )
    if changed.rowcount != 1:
        raise Stopped(desk.overtaken(before, "brownout.overtaken"), Exit.CONFLICT)
    desk.connection.execute(insert(feed).values(kind="legacy", key=f"epoch:{epoch}"))


def _record(desk: Desk, command: str, rows: Sequence[Row], who: str, why: str | None) -> None:
    detail = {"brownouts": [window_json(row.window) for row in rows]}
    desk.record(who=who, why=why, command=command, detail=detail)


# ---- refusals ----------------------------------------------------------------------------------


def _no_such(number: int, there: Sequence[Row]) -> Problem:
    known = ", ".join(str(row.id) for row in there) or "none"
    return Problem(
        id="brownout.unknown",
        what=f"there is no brownout {number}; there are: {known}",
        why="a brownout is named by the number it was scheduled under",
        do="migrator brownout list",
    )


def _over(row: Row) -> Problem:
    return Problem(
        id="brownout.over",
        what=f"brownout {row.id} was over at {at(row.over_at)}",
        why="what is over cannot be changed any more",
        do=f"migrator brownout report {row.id}",
    )


def _not_open(row: Row) -> Problem:
    return Problem(
        id="brownout.not_open",
        what=f"brownout {row.id} is not open: it begins at {at(row.starts_at)}",
        why="only what is under way can be aborted",
        do=f"migrator brownout cancel {row.id}",
    )
