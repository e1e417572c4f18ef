"""Giving and revoking overrides: who takes the risk of a gate on their name, and until when.

An override changes what a gate lets through, never what it says. Only gates that are overridable
have one; it ends by itself, and is revocable.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from sqlalchemy import func, insert, select, update

from migrator.control import decisions, evidence, gates, moving
from migrator.control.deciding import at_desk
from migrator.control.decisions import Override
from migrator.control.words import at
from migrator.core.errors import Exit, Problem, Stopped
from migrator.core.phases import ORDER, next_of

if TYPE_CHECKING:
    from datetime import datetime

    from migrator.control.gates import Gate
    from migrator.control.terms import Term
    from migrator.settings import Settings

SCHEMA = "migrator.override/1"
LISTED = "migrator.overrides/1"
LONGEST = timedelta(days=90)
_ONE_AT_A_TIME = 0x6F76727264  # a lock of ours alone: "ovrrd"


def add(
    settings: Settings, gate: Gate, *, term: Term, who: str, why: str, dry_run: bool = False
) -> dict[str, Any]:
    """Override `gate`, which `judged` gave; `id` is null where it was only rehearsed.

    Raises:
        Stopped: USAGE, the term is over before it begins, or too long; GATE_FAILED, it is
            overridden already; UNFIT; UNREACHABLE.
    """
    with at_desk(settings) as desk:
        _, until = term.of(desk.now, most=LONGEST)
        if not dry_run:
            desk.connection.execute(select(func.pg_advisory_xact_lock(_ONE_AT_A_TIME)))
        # One each: whoever revokes it has closed the gate again.
        for one in decisions.overrides_in_force(desk.connection, desk.home, desk.now):
            if one.gate == gate.id:
                raise Stopped(_there(one), Exit.GATE_FAILED)
        made = Override(id=None, gate=gate.id, who=who, reason=why, since=desk.now, until=until)
        if not dry_run:
            table = desk.table("overrides")
            row = insert(table).values(
                created_at=desk.now, created_by=who, gate=gate.id, reason=why, until=until
            )
            made = replace(made, id=desk.connection.scalar(row.returning(table.c.id)))
            detail = {"override": made.id, "gate": gate.id, "until": until.isoformat()}
            desk.record(who=who, why=why, command="override add", detail=detail)
    return {"override": as_json(made, desk.now), "dry_run": dry_run, "changed": not dry_run}


def revoke(settings: Settings, number: int, *, who: str, dry_run: bool = False) -> dict[str, Any]:
    """End an override now; unchanged where it was over already.

    Raises:
        Stopped: USAGE, there is none of that id; UNFIT; UNREACHABLE.
    """
    with at_desk(settings) as desk:
        there = decisions.overrides(desk.connection, desk.home)
        found = next((one for one in there if one.id == number), None)
        if found is None:
            raise Stopped(_no_such(number), Exit.USAGE)
        ends = found.state(desk.now) == "in force" and not dry_run
        if ends:
            table = desk.table("overrides")
            standing = (table.c.id == number) & table.c.revoked_at.is_(None)
            desk.connection.execute(
                update(table).where(standing).values(revoked_at=desk.now, revoked_by=who)
            )
            found = replace(found, revoked_at=desk.now, revoked_by=who)
            detail = {"override": number, "gate": found.gate}
            desk.record(who=who, why=None, command="override revoke", detail=detail)
    return {"override": as_json(found, desk.now), "dry_run": dry_run, "changed": ends}


def listed(settings: Settings, *, ended: bool = False) -> dict[str, Any]:
    """Those in force, the newest first; with `ended`, all that ever were.

    Raises:
        Stopped: UNFIT; UNREACHABLE.
    """
    with at_desk(settings) as desk:
        there = decisions.overrides(desk.connection, desk.home)
    kept = [one for one in there if ended or one.state(desk.now) == "in force"]
    return {
        "generated_at": desk.now,
        "overrides": [as_json(one, desk.now) for one in kept],
    }


def as_json(one: Override, now: datetime) -> dict[str, Any]:
    """An override as the commands print it."""
    return {
        "id": one.id,
        "gate": one.gate,
        "who": one.who,
        "reason": one.reason,
        "since": one.since,
        "until": one.until,
        "state": one.state(now).replace(" ", "_"),
        "revoked_at": one.revoked_at,
        "revoked_by": one.revoked_by,
    }


def judged(settings: Settings, gate: str) -> Gate:
    """What the gate says before the next phase that has it.

    Raises:
        Stopped: USAGE, no move to come has such a gate; GATE_FAILED, it may not be overridden;
            UNFIT; UNREACHABLE.
    """
    standing = evidence.gather(settings, patient=False).rollout
    ahead = next_of(standing.phase)
    phases = () if ahead is None else ORDER[ORDER.index(ahead) :]
    known: list[str] = []
    for phase in phases:
        facts = moving.gather_for(settings, phase, before=standing, patient=False)
        for one in gates.evaluate(phase, facts):
            known.append(one.id)
            if one.id != gate:
                continue
            if not one.overridable:
                raise Stopped(_not_overridable(one), Exit.GATE_FAILED)
            return one
    raise Stopped(_unknown(gate, known), Exit.USAGE)


def _not_overridable(gate: Gate) -> Problem:
    return Problem(
        id="override.not_overridable",
        what=f"the gate {gate.id} may not be overridden",
        why=f"going on over it harms users or the way back; it says: {gate.detail}",
        do=gate.command,
    )


def _there(one: Override) -> Problem:
    return Problem(
        id="override.in_force",
        what=f"{one.who} overrides {one.gate} until {at(one.until)}: {one.reason}",
        why="two at once would leave the gate open when either is revoked",
        do=f"migrator override revoke {one.id}, then give it anew",
    )


def _unknown(gate: str, known: list[str]) -> Problem:
    return Problem(
        id="override.unknown_gate",
        what=f"no gate {gate!r} stands before a move to come",
        why=f"there are: {', '.join(dict.fromkeys(known)) or 'none'}",
        do="migrator status",
    )


def _no_such(number: int) -> Problem:
    return Problem(
        id="override.unknown",
        what=f"there is no override {number}",
        why="nothing was changed",
        do="migrator override list --ended",
    )
