"""What a rollback takes with it: the overrides in force, which were given for what it undoes.

Who goes forward again judges anew, and takes the risk on their name anew. A drill undoes nothing.
The soak that goes back by itself does the same: `stores/guards.py`.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from sqlalchemy import func, select, update

from migrator.control.decisions import override_of
from migrator.stores import tables as page

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy import Connection

    from migrator.control.decisions import Override

COMMAND = "rollback"


def end_overrides(connection: Connection, home: str) -> tuple[Override, ...]:
    """Revoke every override in force, in the transaction of the move; those that were."""
    table = page.in_schema(home).tables[f"{home}.overrides"]
    now = connection.execute(select(func.clock_timestamp())).scalar_one()
    in_force = (
        select(table)
        .where(table.c.revoked_at.is_(None), table.c.until > now)
        .order_by(table.c.id)
        # Nothing holds a way back up: one that is locked is being revoked.
        .with_for_update(skip_locked=True)
    )
    found = [override_of(row) for row in connection.execute(in_force).mappings()]
    connection.execute(
        update(table)
        .where(table.c.id.in_([one.id for one in found]))
        .values(revoked_at=now, revoked_by=COMMAND)
    )
    return tuple(replace(one, revoked_at=now, revoked_by=COMMAND) for one in found)


def detail(ended: Sequence[Override]) -> dict[str, Any]:
    """What the journal keeps of it."""
    return {"revoked": [{"id": one.id, "gate": one.gate} for one in ended]} if ended else {}


def said(ended: Sequence[Override]) -> str:
    """What whoever went back is told."""
    named = ", ".join(f"{one.id} ({one.gate}, by {one.who})" for one in ended)
    one = "override" if len(ended) == 1 else "overrides"
    return f"! {one} {named} revoked: who goes forward again gives {one} anew"
