"""Where a decision is written: one transaction, with its line in the journal or not at all.

A rehearsal comes as far as the decision and writes nothing: even an insert that is rolled back
would leave its mark on a sequence.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sqlalchemy import func, select

from migrator.control import journal, reach
from migrator.core.errors import Problem
from migrator.stores import tables as page

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from datetime import datetime

    from sqlalchemy import Connection, Table

    from migrator.core.phases import Rollout
    from migrator.settings import Settings


@dataclass(frozen=True, slots=True, kw_only=True)
class Desk:
    """A connection on which something is decided, at `now` by the database's clock."""

    connection: Connection
    home: str
    now: datetime

    def table(self, name: str) -> Table:
        """One of our tables."""
        return page.in_schema(self.home).tables[f"{self.home}.{name}"]

    def record(
        self, *, who: str, why: str | None, command: str, detail: Mapping[str, Any]
    ) -> None:
        """Note the decision in the journal, and commit both."""
        journal.note(
            self.connection,
            page.in_schema(self.home),
            self.home,
            who=who,
            why=why,
            command=command,
            detail=detail,
        )
        self.connection.commit()

    def overtaken(self, before: Rollout, problem_id: str) -> Problem:
        """That the rollout moved since `before` was read, and who moved it."""
        tables = page.in_schema(self.home)
        other = journal.overtook(self.connection, tables, self.home, before.epoch)
        named = "somebody" if other is None else f"{other.who} ran `{other.command}`"
        return Problem(
            id=problem_id,
            what=f"the rollout moved while this was decided: {named}",
            why=f"this was judged under epoch {before.epoch}; nothing of it was written",
            do="migrator log, then decide again",
        )


@contextmanager
def at_desk(settings: Settings) -> Iterator[Desk]:
    """Somewhere to decide; what was not recorded when it is left was not decided.

    Raises:
        Stopped: UNREACHABLE; UNFIT, the tables are not there as this release made them.
    """
    home = settings.database.schema
    with reach.reached(settings.database.url.get_secret_value(), home) as connection:
        now: datetime = connection.execute(select(func.clock_timestamp())).scalar_one()
        yield Desk(connection=connection, home=home, now=now)
        connection.rollback()
