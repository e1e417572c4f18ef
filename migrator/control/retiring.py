"""The one irreversible command: mark, wait, then take the legacy tables away.

In that order: what destroys comes last, after every node has said that it reads and writes those
tables no more. A kill between any two steps leaves a state from which running it again goes on.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import func, select, text

from migrator.control import flip, revisions, schema
from migrator.core.errors import Exit, Problem, Stopped
from migrator.stores import tables as page

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import timedelta

    from migrator.control.acknowledged import Acknowledged
    from migrator.core.phases import Rollout
    from migrator.settings import Settings

# Whoever owns a table may drop it; asked before the mark, so that no right is missed half-way.
_NOT_OURS = text(
    """
    SELECT c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE n.nspname = :schema AND c.relname = ANY(:names)
      AND NOT pg_has_role(c.relowner, 'USAGE')
    ORDER BY c.relname
    """
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Loss:
    """What goes: a legacy table, and how many rows it holds."""

    table: str
    rows: int


def losses(settings: Settings) -> tuple[Loss, ...]:
    """What `retire` destroys.

    Raises:
        Stopped: UNFIT, where this role may not drop the tables; UNREACHABLE.
    """
    home = settings.database.schema
    tables = page.in_schema(home).tables
    with revisions.connected(settings.database.url.get_secret_value()) as connection:
        names = [table.name for table in page.LEGACY]
        foreign = connection.scalars(_NOT_OURS, {"schema": home, "names": names}).all()
        if foreign:
            raise Stopped(_not_owner(list(foreign)), Exit.UNFIT)
        counted = tuple(
            Loss(
                table=name,
                rows=connection.scalar(select(func.count()).select_from(tables[f"{home}.{name}"]))
                or 0,
            )
            for name in names
        )
        connection.rollback()
    return counted


def remaining(settings: Settings) -> bool:
    """Whether the legacy tables are still there."""
    url = settings.database.url.get_secret_value()
    return not schema.current(url, settings.database.schema).contracted


def finish(
    settings: Settings,
    rollout: Rollout,
    *,
    wait: timedelta,
    who: str,
    tell: Callable[[Acknowledged], None] = lambda _: None,
) -> Acknowledged:
    """Once every living node acts under `retired`, drop the legacy tables.

    That none lives is enough only once all are silent: leases may have run out while the database
    was away, and those nodes are about to be back. Where the wait ends first, nothing is dropped.

    Raises:
        Stopped: CONFLICT, naming who holds a table; UNFIT; UNREACHABLE.
    """
    seen = flip.await_nodes(settings, rollout, wait=wait, who=who, tell=tell, is_enough=is_over)
    if is_over(seen):
        schema.contract(settings.database.url.get_secret_value(), settings.database.schema)
    return seen


def is_over(seen: Acknowledged) -> bool:
    """Whether nobody reads the legacy tables any more."""
    return seen.is_in_effect or seen.fleet.is_silent


def said(seen: Acknowledged) -> str | None:
    """What a fleet without a living node meant for the tables; None where one lives."""
    if seen.fleet.live or seen.fleet.rogue:
        return None
    if seen.fleet.is_silent:
        return "no node lives, and none was heard for a minute: the legacy tables are taken away"
    return (
        "no node lives, but one was heard within a minute and may be back: the legacy tables "
        "stay; run `migrator retire` again"
    )


def _not_owner(names: list[str]) -> Problem:
    return Problem(
        id="retire.not_owner",
        what=f"this role may not drop {', '.join(names)}",
        why="only the owner of a table may; nothing was changed",
        do="run retire with the role that ran `migrator db upgrade`",
    )
