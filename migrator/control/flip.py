"""A move of the rollout: one transaction, then the wait for the nodes.

The transaction is a compare-and-set of the one row, a line in the journal and a row of the feed.
It touches no other data, so nothing can hold it up for longer than the lock on that row. What
follows the commit only looks: interrupting it changes nothing.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import psycopg
from sqlalchemy import func, insert, literal, null, select, text, update
from sqlalchemy.exc import DBAPIError

from migrator.control import blockers, decisions, journal, nodes, revisions, soaking, undoing
from migrator.control.acknowledged import Acknowledged
from migrator.control.evidence import standing
from migrator.control.words import at
from migrator.core.errors import Exit, Problem, Stopped
from migrator.core.phases import ORDER, Phase
from migrator.stores import tables as page

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from datetime import datetime

    from sqlalchemy import Connection, Table

    from migrator.control.decisions import Hold, Override
    from migrator.control.rollout import Target
    from migrator.control.soaking import Asked
    from migrator.core.phases import Rollout
    from migrator.core.soaks import Soak
    from migrator.settings import Settings

_LOCK_TIMEOUT = "2s"
_LOOK_S = 0.1
# In the journal: the end that an operator set with the move, which no horizon overwrites.
_SCHEDULED = "sunset_at"


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """Who moves what, and why: what the journal keeps.

    Args:
        soak: how long, and by what, the move is taken back by itself.
        plan: the saved plan that it executes; used up in the same transaction.
        overrides: whose name stands for gates that did not pass.
        drill: what a drill keeps of itself.
        is_awaited: whether somebody waits to be told that it is in effect.
    """

    who: str
    why: str | None
    command: str
    sunset_at: datetime | None = None
    soak: Asked | None = None
    plan: str | None = None
    overrides: tuple[Override, ...] = ()
    drill: Mapping[str, Any] | None = None
    is_awaited: bool = True


def read(settings: Settings) -> tuple[Rollout, datetime | None]:
    """The rollout as it stands, and the mark of `retire`.

    Raises:
        Stopped: UNREACHABLE.
    """
    with revisions.connected(settings.database.url.get_secret_value()) as connection:
        found = standing(connection, settings.database.schema)
        connection.rollback()
    return found


def commit(
    settings: Settings,
    rollout: Rollout,
    target: Target,
    order: Order,
    *,
    revoked: Callable[[Sequence[Override]], None] = lambda _: None,
) -> Rollout:
    """Make the move, if `rollout` is still what stands; return what stands now.

    Args:
        revoked: called with the overrides that ended with it, after the commit.

    Raises:
        Stopped: CONFLICT, naming the other; GATE_FAILED, somebody holds moves up, or an override
            ended, since the gates were judged; EVIDENCE_STALE, the plan was used meanwhile;
            UNREACHABLE.
    """
    home = settings.database.schema
    with revisions.connected(settings.database.url.get_secret_value()) as connection:
        pid = connection.scalar(text("SELECT pg_backend_pid()")) or 0
        connection.rollback()
        with blockers.watch(connection.engine, pid) as seen:
            try:
                ended = _compare_and_set(connection, home, rollout, target, order)
            except DBAPIError as error:
                if isinstance(error.orig, psycopg.errors.LockNotAvailable):
                    connection.rollback()
                    raise Stopped(_held(seen), Exit.CONFLICT) from error
                raise
        if ended is None:
            connection.rollback()
            other = journal.overtook(connection, page.in_schema(home), home, rollout.epoch)
            raise Stopped(_overtaken(rollout, other), Exit.CONFLICT)
        connection.commit()
        revoked(ended)
        after, _ = standing(connection, home)
        connection.rollback()
    return after


def _compare_and_set(
    connection: Connection, home: str, rollout: Rollout, target: Target, order: Order
) -> tuple[Override, ...] | None:
    """Write the move; the overrides that ended with it, None where the rollout has moved on."""
    tables = page.in_schema(home).tables
    row, log, feed = (tables[f"{home}.{name}"] for name in ("rollout", "rollout_log", "feed"))
    connection.execute(text(f"SET LOCAL lock_timeout = '{_LOCK_TIMEOUT}'"))
    connection.execute(
        text("SELECT set_config('application_name', :name, true)"),
        {"name": f"migrator {order.command} by {order.who}"[:63]},
    )
    after = target.of(rollout)
    enters = target.phase is not rollout.phase
    exceptions = [
        {"by": one.by, "value": one.value, "phase": one.phase.value} for one in target.exceptions
    ]
    soak = soaking.begun(connection, home, rollout, after, order.soak)
    changed = connection.execute(
        update(row)
        .where(row.c.epoch == rollout.epoch)
        .values(
            phase=target.phase.value,
            percent=target.percent,
            epoch=after.epoch,
            exceptions=exceptions,
            since=func.clock_timestamp() if enters else row.c.since,
            drain_since=_drain_since(row, rollout, target),
            sunset_at=_sunset_at(row, target, order),
            legacy_removed_at=(
                func.clock_timestamp()
                if target.phase is Phase.RETIRED
                else row.c.legacy_removed_at
            ),
            soak=null() if soak is None else soak.as_json(),
        )
    )
    if changed.rowcount != 1:
        return None
    # All of it is asked again under the row's lock: an operator may have thought for an hour.
    if target.gated:
        _nobody_holds(connection, home)
        _still_overridden(connection, tables[f"{home}.overrides"], order)
    if order.plan is not None:
        _use(connection, tables[f"{home}.plans"], order.plan, order.who)
    is_back = order.command == undoing.COMMAND
    ended = undoing.end_overrides(connection, home) if is_back else ()
    connection.execute(
        insert(log).values(
            at=func.clock_timestamp(),
            who=order.who,
            why=order.why,
            command=order.command,
            from_phase=rollout.phase.value,
            to_phase=target.phase.value,
            from_percent=rollout.percent,
            to_percent=target.percent,
            epoch=after.epoch,
            detail=_detail(exceptions, rollout, order, soak) | undoing.detail(ended),
        )
    )
    connection.execute(insert(feed).values(kind="legacy", key=f"epoch:{after.epoch}"))
    return ended


def _detail(
    exceptions: list[Any], rollout: Rollout, order: Order, soak: Soak | None
) -> dict[str, Any]:
    kept = {
        "exceptions": exceptions if exceptions or rollout.exceptions else None,
        _SCHEDULED: None if order.sunset_at is None else order.sunset_at.isoformat(),
        "plan": order.plan,
        "overrides": [
            {"id": one.id, "gate": one.gate, "who": one.who, "reason": one.reason}
            for one in order.overrides
        ]
        or None,
        "soak": None if soak is None else soak.as_json(),
        "drill": None if order.drill is None else dict(order.drill),
        "awaited": None if order.is_awaited else False,
    }
    return {name: value for name, value in kept.items() if value is not None}


def _nobody_holds(connection: Connection, home: str) -> None:
    now = connection.execute(select(func.clock_timestamp())).scalar_one()
    for one in decisions.holds_ahead(connection, home, now):
        if one.state(now) == "in force":
            connection.rollback()
            raise Stopped(_held_up(one), Exit.GATE_FAILED)


def _still_overridden(connection: Connection, overrides: Table, order: Order) -> None:
    ids = [one.id for one in order.overrides]
    # Locked, so that whoever revokes one now comes after this move, or before it.
    named = select(overrides).where(overrides.c.id.in_(ids)).with_for_update(read=True)
    there = connection.execute(named).mappings().all() if ids else []
    now = connection.execute(select(func.clock_timestamp())).scalar_one()
    for one in map(decisions.override_of, there):
        if one.state(now) != "in force":
            connection.rollback()
            raise Stopped(_not_overridden(one), Exit.GATE_FAILED)


def _use(connection: Connection, plans: Table, plan: str, who: str) -> None:
    unused = (plans.c.id == plan) & plans.c.used_at.is_(None)
    used = update(plans).where(unused).values(used_at=func.clock_timestamp(), used_by=who)
    if connection.execute(used).rowcount != 1:
        connection.rollback()
        raise Stopped(_used(plan), Exit.EVIDENCE_STALE)


def _drain_since(row: Any, rollout: Rollout, target: Target) -> Any:
    """Set when drain is entered, kept while it lasts, gone with the way back to swap."""
    if ORDER.index(target.phase) < ORDER.index(Phase.DRAIN):
        return null()
    if rollout.phase is Phase.SWAP:
        return func.clock_timestamp()
    return row.c.drain_since


def _sunset_at(row: Any, target: Target, order: Order) -> Any:
    if ORDER.index(target.phase) < ORDER.index(Phase.DRAIN):
        return null()
    return row.c.sunset_at if order.sunset_at is None else literal(order.sunset_at)


def set_sunset(settings: Settings, epoch: int, sunset_at: datetime | None) -> None:
    """Announce the end where an operator scheduled none; nothing, if the rollout has moved on."""
    home = settings.database.schema
    tables = page.in_schema(home).tables
    row, log = tables[f"{home}.rollout"], tables[f"{home}.rollout_log"]
    scheduled = select(log.c.id).where(
        log.c.at >= row.c.drain_since, log.c.detail.has_key(_SCHEDULED)
    )
    with revisions.connected(settings.database.url.get_secret_value()) as connection:
        connection.execute(text(f"SET LOCAL lock_timeout = '{_LOCK_TIMEOUT}'"))
        connection.execute(
            update(row)
            .where(row.c.epoch == epoch, ~scheduled.correlate(row).exists())
            .values(sunset_at=sunset_at)
        )
        connection.commit()


def await_nodes(
    settings: Settings,
    rollout: Rollout,
    *,
    wait: timedelta,
    who: str,
    tell: Callable[[Acknowledged], None] = lambda _: None,
    is_enough: Callable[[Acknowledged], bool] = lambda seen: seen.is_settled,
) -> Acknowledged:
    """Wait until every living node acknowledged the epoch, or until `wait` is over.

    Where none lives there is nothing to wait for, unless `is_enough` says otherwise. A database
    that goes away meanwhile is waited for too: the move is made, and asking is all that is left.
    `tell` is called with each look. The moment it took effect goes to the journal.

    Raises:
        Stopped: UNREACHABLE, when the database could never be asked.
    """
    home, url = settings.database.schema, settings.database.url.get_secret_value()
    until = time.monotonic() + wait.total_seconds()
    last: Acknowledged | None = None
    while True:
        try:
            with revisions.connected(url) as connection:
                while True:
                    last = _look(connection, home, rollout)
                    tell(last)
                    if is_enough(last):
                        _note(connection, home, rollout, last, who)
                        return last
                    if time.monotonic() >= until:
                        return last
                    time.sleep(_LOOK_S)
        except Stopped:
            if time.monotonic() >= until:
                if last is None:
                    raise
                return last
            time.sleep(_LOOK_S)


def _look(connection: Connection, home: str, rollout: Rollout) -> Acknowledged:
    now = connection.execute(select(func.clock_timestamp())).scalar_one()
    found = nodes.read(connection, page.in_schema(home), home)
    connection.rollback()
    # A node that has seen a later epoch has seen this one.
    fleet = nodes.Fleet(nodes=found, epoch=rollout.epoch, now=now)
    behind = [node for node in fleet.live if node.epoch is None or node.epoch < rollout.epoch]
    # Without a node nothing is in effect anywhere, and no moment is worth recording.
    if behind or fleet.rogue or not fleet.live:
        return Acknowledged(fleet=fleet, in_effect_at=None)
    acked = [node.acked_at for node in fleet.live if node.acked_at]
    return Acknowledged(fleet=fleet, in_effect_at=max(acked, default=now))


def _note(
    connection: Connection, home: str, rollout: Rollout, seen: Acknowledged, who: str
) -> None:
    if seen.in_effect_at is None:
        return
    journal.note_in_effect(
        connection,
        page.in_schema(home),
        home,
        epoch=rollout.epoch,
        phase=rollout.phase.value,
        percent=rollout.percent,
        at=seen.in_effect_at,
        who=who,
        nodes=len(seen.fleet.live),
    )
    connection.commit()


def _overtaken(rollout: Rollout, other: journal.Row | None) -> Problem:
    named = "somebody"
    if other is not None:
        path = f"{other.from_phase or other.to_phase} → {other.to_phase}"
        named = f"{other.who} ran `{other.command}` ({path}, epoch {other.epoch})"
    return Problem(
        id="move.overtaken",
        what=f"the rollout moved while this was decided: {named}",
        why=f"this was judged under epoch {rollout.epoch}; a move never overwrites another",
        do="migrator status, then decide again",
    )


def _held_up(one: Hold) -> Problem:
    return Problem(
        id="hold.in_force",
        what=f"{one.who} holds it until {at(one.until)}: {one.reason}",
        why="nothing goes forward while a hold is in force; nothing was changed",
        do=f"migrator hold release {one.id}",
    )


def _not_overridden(one: Override) -> Problem:
    ended = f"was over at {at(one.until)}"
    if one.revoked_at is not None:
        ended = f"was revoked by {one.revoked_by} at {at(one.revoked_at)}"
    return Problem(
        id="override.ended",
        what=f"override {one.id} of the gate {one.gate} {ended}",
        why="the move was to be made in its name; nothing was changed",
        do="migrator status, then decide again",
    )


def _used(plan: str) -> Problem:
    return Problem(
        id="plan.used",
        what=f"plan {plan} was used while this was decided",
        why="a plan is good for one move",
        do="migrator log, then plan again",
    )


def _held(seen: list[blockers.Blocker]) -> Problem:
    who = "; ".join(str(one) for one in seen) or "somebody who was gone when asked for"
    return Problem(
        id="move.locked",
        what=f"another move holds the rollout: {who}",
        why="two moves at once would have to guess about each other",
        do="migrator log, then decide again",
    )
