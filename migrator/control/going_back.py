"""Whether a way back is still on its way: another `rollback` then waits for it, no further.

An operator who interrupted a rollback, or saw it unacknowledged, types it again; two of them see
the same alarm; a soak takes back what somebody takes back by hand. All of them mean one phase.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from migrator.control import journal, nodes, rollout
from migrator.control.deciding import at_desk
from migrator.control.words import at
from migrator.core.phases import back_of
from migrator.stores import tables as page

if TYPE_CHECKING:
    from migrator.control.journal import Row
    from migrator.control.rollout import Target
    from migrator.core.phases import Rollout
    from migrator.settings import Settings

COMMAND = "rollback"
# Acknowledged it may be, and nobody told yet: who was interrupted types again within this. Who
# said `--wait 0` did not want to be told.
_AGAIN_WITHIN = timedelta(minutes=1)


def decide(settings: Settings, stands: Rollout) -> Target | None:
    """One phase back; None while a way back is on its way.

    Raises:
        Stopped: there is no way back from here; UNFIT; UNREACHABLE.
    """
    return rollout.back(stands) if on_its_way(settings, stands) is None else None


def on_its_way(settings: Settings, stands: Rollout) -> Row | None:
    """The rollback that `stands` came of, while it is not known to be in effect.

    On record as in effect, it is over: whoever waited for it was told. Without a living node there
    is nobody whose word could be waited for.

    Raises:
        Stopped: UNFIT; UNREACHABLE.
    """
    with at_desk(settings) as desk:
        tables = page.in_schema(desk.home)
        rows = journal.read(desk.connection, tables, desk.home, limit=1, moves_only=True)
        known = nodes.read(desk.connection, tables, desk.home)
        if not rows or rows[0].command != COMMAND or rows[0].epoch != stands.epoch:
            return None
        if journal.is_in_effect(desk.connection, tables, desk.home, stands.epoch):
            return None
    fleet = nodes.Fleet(nodes=known, epoch=stands.epoch, now=desk.now)
    awaited = rows[0].detail.get("awaited", True)
    lately = awaited and desk.now - rows[0].at < max(_AGAIN_WITHIN, settings.gates.ack_timeout)
    open_ = bool(fleet.waiting or fleet.rogue) or (bool(fleet.live) and lately)
    return rows[0] if open_ else None


def said(row: Row, stands: Rollout) -> str:
    """Why nothing is moved, and what goes further."""
    before = back_of(stands.phase)
    further = "" if before is None else f"; further back: migrator rollback --to {before}"
    return (
        f"the rollback of {at(row.at)} by {row.who} to {stands.phase} was not known to be in "
        f"effect: this waits for it and moves nothing{further}"
    )


def awaited_by(stands: Rollout) -> str:
    """The command that waits for a rollback to where `stands` is, and never goes further."""
    return f"migrator rollback --to {stands.phase}"
