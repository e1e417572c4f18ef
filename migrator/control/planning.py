"""Saved plans: a move decided now and made later, by the very facts it was decided on.

A plan keeps the move, its gates, who would be hit and which nodes there were. Executing it asks
everything anew and refuses where a fact got worse, naming each: from what, to what. It is good for
one move, under one epoch, until it expires.
"""

from __future__ import annotations

import json
import secrets
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from sqlalchemy import select
from sqlalchemy.dialects.postgresql import insert

from migrator.control import evidence, flip
from migrator.control.deciding import at_desk
from migrator.control.facts import Facts
from migrator.control.rollout import Target
from migrator.control.soaking import Asked
from migrator.control.words import at
from migrator.core.errors import Exit, Problem, Stopped
from migrator.core.phases import Exemption, Phase

if TYPE_CHECKING:
    from collections.abc import Mapping

    from migrator.control.deciding import Desk
    from migrator.control.moving import Plan
    from migrator.core.phases import Rollout
    from migrator.settings import Settings

SCHEMA = "migrator.plan/1"
LISTED = "migrator.plans/1"
# Short enough to be read out; the longer ones are for whoever draws one that is taken.
_ID_BYTES = (2, 2, 2, 3, 4, 8)


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What a move is asked to do besides.

    Args:
        command: its name, "advance swap"; typed: the whole of it, for people.
        nodes: how many nodes there should be, where that was said.
    """

    command: str
    typed: str
    why: str | None = None
    sunset_at: datetime | None = None
    soak: Asked | None = None
    nodes: int | None = None

    def as_json(self) -> dict[str, Any]:
        """As the body keeps it."""
        return {
            "command": self.command,
            "typed": self.typed,
            "why": self.why,
            "sunset_at": None if self.sunset_at is None else self.sunset_at.isoformat(),
            "soak": None
            if self.soak is None
            else {
                "seconds": self.soak.lasting.total_seconds(),
                "sign_ins": self.soak.sign_ins,
            },
            "nodes": self.nodes,
        }

    @classmethod
    def of(cls, found: Mapping[str, Any]) -> Wanted:
        """Read from what `as_json` wrote."""
        soak, sunset = found["soak"], found["sunset_at"]
        return cls(
            command=found["command"],
            typed=found["typed"],
            why=found["why"],
            sunset_at=None if sunset is None else datetime.fromisoformat(sunset),
            soak=None
            if soak is None
            else Asked(lasting=timedelta(seconds=soak["seconds"]), sign_ins=soak["sign_ins"]),
            nodes=found["nodes"],
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Saved:
    """A plan on record; `id` None: it was only rehearsed."""

    id: str | None
    created_at: datetime
    created_by: str
    expires_at: datetime
    epoch: int
    wanted: Wanted
    body: Mapping[str, Any]
    used_at: datetime | None = None
    used_by: str | None = None

    @property
    def target(self) -> Target:
        """Where it leads."""
        found = self.body["target"]
        return Target(
            phase=Phase(found["phase"]),
            percent=found["percent"],
            exceptions=tuple(
                Exemption(by=one["by"], value=one["value"], phase=Phase(one["phase"]))
                for one in found["exceptions"]
            ),
            gated=found["gated"],
        )

    def state(self, now: datetime) -> str:
        """Whether it can still be executed, as far as the clock says."""
        if self.used_at is not None:
            return "used"
        return "open" if now < self.expires_at else "expired"

    def as_json(self, now: datetime) -> dict[str, Any]:
        """As the commands print it."""
        return {
            "id": self.id,
            "state": self.state(now),
            "command": self.wanted.typed,
            "move": self.wanted.command,
            "who": self.created_by,
            "why": self.wanted.why,
            "created_at": self.created_at,
            "expires_at": self.expires_at,
            "epoch": self.epoch,
            "used_at": self.used_at,
            "used_by": self.used_by,
            **{name: value for name, value in self.body.items() if name not in _OURS},
        }


_OURS = frozenset({"wanted", "target", "facts"})


def save(
    settings: Settings,
    planned: Plan,
    told: Mapping[str, Any],
    wanted: Wanted,
    *,
    who: str,
    dry_run: bool = False,
) -> tuple[Saved, datetime]:
    """Keep a plan for as long as `gates.plan_expires`; it, and what time it is.

    Args:
        told: what is said of it, as JSON: from, to, gates, forecast.

    Raises:
        Stopped: UNFIT; UNREACHABLE.
    """
    target = planned.target
    with at_desk(settings) as desk:
        body = {
            **_plain(told),
            "wanted": wanted.as_json(),
            "target": {
                "phase": target.phase.value,
                "percent": target.percent,
                "exceptions": [
                    {"by": one.by, "value": one.value, "phase": one.phase.value}
                    for one in target.exceptions
                ],
                "gated": target.gated,
            },
            "facts": Facts.of(planned).as_json(),
        }
        made = Saved(
            id=None,
            created_at=desk.now,
            created_by=who,
            expires_at=desk.now + settings.gates.plan_expires,
            epoch=planned.before.epoch,
            wanted=wanted,
            body=body,
        )
        if not dry_run:
            made = replace(made, id=_insert(desk, made))
            desk.connection.commit()
    return made, desk.now


def _plain(told: Mapping[str, Any]) -> dict[str, Any]:
    """As JSON has it: times in RFC 3339."""
    plain: dict[str, Any] = json.loads(json.dumps(told, default=_written))
    return plain


def _written(value: object) -> str:
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    raise TypeError(type(value).__name__)


def _insert(desk: Desk, made: Saved) -> str:
    table = desk.table("plans")
    for size in _ID_BYTES:
        drawn = secrets.token_hex(size)
        row = insert(table).values(
            id=drawn,
            created_at=made.created_at,
            created_by=made.created_by,
            expires_at=made.expires_at,
            command=made.wanted.command,
            epoch=made.epoch,
            body=dict(made.body),
        )
        if desk.connection.scalar(row.on_conflict_do_nothing().returning(table.c.id)):
            return drawn
    raise AssertionError(_ID_BYTES)


def listed(settings: Settings, *, limit: int) -> tuple[tuple[Saved, ...], datetime]:
    """The last plans, the newest first, and what time it is.

    Raises:
        Stopped: UNFIT; UNREACHABLE.
    """
    with at_desk(settings) as desk:
        table = desk.table("plans")
        query = select(table).order_by(table.c.created_at.desc(), table.c.id).limit(limit)
        rows = desk.connection.execute(query).mappings().all()
    return tuple(_saved(row) for row in rows), desk.now


def find(settings: Settings, plan: str) -> tuple[Saved, datetime]:
    """The plan of that id, and what time it is.

    Raises:
        Stopped: USAGE, there is none; UNFIT; UNREACHABLE.
    """
    with at_desk(settings) as desk:
        table = desk.table("plans")
        row = desk.connection.execute(select(table).where(table.c.id == plan)).mappings().first()
    if row is None:
        raise Stopped(_no_such(plan), Exit.USAGE)
    return _saved(row), desk.now


def _saved(row: Mapping[Any, Any]) -> Saved:
    return Saved(
        id=row["id"],
        created_at=row["created_at"],
        created_by=row["created_by"],
        expires_at=row["expires_at"],
        epoch=row["epoch"],
        wanted=Wanted.of(row["body"]["wanted"]),
        body=row["body"],
        used_at=row["used_at"],
        used_by=row["used_by"],
    )


# ---- executing ---------------------------------------------------------------------------------


def redeem(settings: Settings, plan: str, command: str) -> Saved | Rollout:
    """The plan, if it may be executed as far as its own row says; what stands, if it was.

    Raises:
        Stopped: USAGE, there is none or it is of another command; EVIDENCE_STALE, naming why it is
            void; UNFIT; UNREACHABLE.
    """
    evidence.fit(settings)
    saved, now = find(settings, plan)
    if saved.wanted.command != command:
        raise Stopped(_other_command(saved, command), Exit.USAGE)
    stands, _ = flip.read(settings)
    if saved.used_at is not None:
        if stands.epoch == saved.epoch + 1:
            return stands
        raise Stopped(_void(saved, f"{saved.used_by} used it at {at(saved.used_at)}"), _STALE)
    if now >= saved.expires_at:
        raise Stopped(_void(saved, f"it expired at {at(saved.expires_at)}"), _STALE)
    if stands.epoch != saved.epoch:
        moved = f"the epoch: {saved.epoch} → {stands.epoch} ({stands.phase})"
        raise Stopped(_void(saved, moved), _STALE)
    return saved


def require_unmoved(saved: Saved, found: Plan) -> None:
    """Refuse where a fact that the plan rests on got worse.

    Raises:
        Stopped: EVIDENCE_STALE, naming each fact: from what, to what.
    """
    moved = Facts.read(saved.body["facts"]).worse(Facts.of(found))
    if moved:
        raise Stopped(_void(saved, "; ".join(moved)), _STALE)


_STALE = Exit.EVIDENCE_STALE


def _void(saved: Saved, why: str) -> Problem:
    return Problem(
        id="plan.void",
        what=f"plan {saved.id} does not hold any more: {why}",
        why="a plan is executed by the facts it was decided on, or not at all",
        do=f"plan again: migrator plan {saved.wanted.typed}",
    )


def _other_command(saved: Saved, command: str) -> Problem:
    return Problem(
        id="plan.other_command",
        what=f"plan {saved.id} is for `migrator {saved.wanted.command}`, not `{command}`",
        why="a plan makes the move it was decided for",
        do=f"migrator {saved.wanted.command} --plan {saved.id}",
    )


def _no_such(plan: str) -> Problem:
    return Problem(
        id="plan.unknown",
        what=f"there is no plan {plan!r}",
        why="nothing was changed",
        do="migrator plan list",
    )
