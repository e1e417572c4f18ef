"""The parts of a backfill: which keys each has, how far it is, and whose it is at this moment.

What must live here: every statement on `job_ranges`. A range is claimed with SKIP LOCKED and held
by the name of the run; its checkpoint is written in the transaction of its page, by one statement
that counts the page in the `jobs` row too. Whoever finds another run's name there was taken over,
and must not commit.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Connection

from migrator.control.backfill.job import Job
from migrator.control.backfill.rows import Cursor, Source, Splittable
from migrator.control.backfill.tally import Tally
from migrator.stores.queries import in_schema

# Enough for any number of workers to share the end evenly; each is a row and a claim, no more.
MOST: Final = 64
FEWEST_ROWS: Final = 5000

_LAY = """
INSERT INTO {s}.job_ranges (job, number, bounds, after)
SELECT %(job)s, n - 1, bounds, '[]'::jsonb
FROM jsonb_array_elements(%(bounds)s::jsonb) WITH ORDINALITY AS b (bounds, n)"""

# `job.begin` has the row of the job locked: of a pass before this nothing stays, of a run before
# this everything, and is anybody's again.
_CLEAR = "DELETE FROM {s}.job_ranges WHERE job = %(job)s"
_FREE = """
UPDATE {s}.job_ranges SET state = 'waiting', run = NULL, updated_at = clock_timestamp()
WHERE job = %(job)s AND state = 'running'"""

_GIVE_BACK = """
UPDATE {s}.job_ranges SET state = 'waiting', run = NULL, updated_at = clock_timestamp()
WHERE job = %(job)s AND number = %(number)s AND run = %(run)s AND state = 'running'"""

# MATERIALIZED: as a plain subquery the planner may run it once for each range, and each time it
# locks and finds another one.
_CLAIM = """
WITH free AS MATERIALIZED (
  SELECT number FROM {s}.job_ranges WHERE job = %(job)s AND state = 'waiting'
  ORDER BY number LIMIT 1 FOR UPDATE SKIP LOCKED)
UPDATE {s}.job_ranges r SET state = 'running', run = %(run)s, updated_at = clock_timestamp()
FROM free WHERE r.job = %(job)s AND r.number = free.number
RETURNING r.number, r.bounds, r.after, r.tally"""

# The job first, as `job.begin` locks it: the same order everywhere.
_KEEP = """
WITH job AS (
  UPDATE {s}.jobs SET done = done + %(read)s, rejected = rejected + %(rejected)s,
    updated_at = clock_timestamp()
  WHERE name = %(job)s AND detail ->> 'run' = %(run)s RETURNING name)
UPDATE {s}.job_ranges r SET after = %(after)s::jsonb, tally = %(tally)s::jsonb,
  state = CASE WHEN %(done)s THEN 'done' ELSE r.state END, updated_at = clock_timestamp()
FROM job WHERE r.job = job.name AND r.number = %(number)s AND r.run = %(run)s"""

_SUM = "SELECT tally FROM {s}.job_ranges WHERE job = %(job)s ORDER BY number"
_LEFT = "SELECT count(*) FROM {s}.job_ranges WHERE job = %(job)s AND state <> 'done'"
_LAID = "SELECT count(*) FROM {s}.job_ranges WHERE job = %(job)s"


@dataclass(frozen=True, slots=True, kw_only=True)
class Range:
    """A part of a ledger that this run holds.

    Args:
        up_to: its last key; () is the end of the ledger.
        after: the last key that was planted; its own beginning at first.
        tally: of this part alone, in all runs.
    """

    number: int
    up_to: Cursor = ()
    after: Cursor = ()
    tally: Tally


@dataclass(frozen=True, slots=True)
class Ranges:
    """The ranges of a job that this run holds."""

    schema: str
    job: Job

    def lay(self, connection: Connection, source: Source) -> None:
        """Part the ledger. Commits."""
        ends: Sequence[Cursor] = ()
        if isinstance(source, Splittable):
            ends = source.bounds(max(FEWEST_ROWS, -(-(self.job.total or 0) // MOST)))
        begins: list[Cursor] = [(), *ends]
        bounds = [
            {"from": list(begin), "to": list(end)}
            for begin, end in zip(begins, [*ends, ()], strict=True)
        ]
        self._run(connection, _LAY, bounds=json.dumps(bounds))
        connection.commit()

    def take(self, connection: Connection) -> None:
        """Put in order what earlier runs have left, right after `job.begin`. Commits both."""
        self._run(connection, _FREE if self.job.resumed else _CLEAR)
        connection.commit()

    def give_back(self, connection: Connection, number: int) -> None:
        """Let another worker go on with a range, from its last page. Commits."""
        self._run(connection, _GIVE_BACK, number=number)
        connection.commit()

    def claim(self, connection: Connection) -> Range | None:
        """A range that nobody is at; None where there is none. Commits."""
        row = self._run(connection, _CLAIM).one_or_none()
        connection.commit()
        if row is None:
            return None
        return Range(
            number=row.number,
            up_to=tuple(row.bounds["to"]),
            after=tuple(row.after or row.bounds["from"]),
            tally=Tally.of(row.tally),
        )

    def keep(
        self, connection: Connection, held: Range, after: Cursor, tally: Tally, *, done: bool
    ) -> None:
        """Write the checkpoint of a range, in the transaction of its page.

        Raises:
            Stopped: CONFLICT, another run has taken over; this page must not be committed.
        """
        kept = self._run(
            connection,
            _KEEP,
            number=held.number,
            after=json.dumps(list(after)),
            tally=json.dumps(tally.as_json()),
            read=tally.counts["read"] - held.tally.counts["read"],
            rejected=tally.rejections - held.tally.rejections,
            done=done,
        )
        if kept.rowcount != 1:
            raise self.job.taken(connection)

    def total(self, connection: Connection) -> Tally:
        """What came of every range so far."""
        found = Tally()
        for (saved,) in self._run(connection, _SUM):
            found.include(Tally.of(saved))
        return found

    def are_laid(self, connection: Connection) -> bool:
        """Whether the ledger was parted in this pass."""
        return bool(self._run(connection, _LAID).scalar_one())

    def left(self, connection: Connection) -> int:
        """How many are not done."""
        return int(self._run(connection, _LEFT).scalar_one())

    def _run(self, connection: Connection, statement: str, **values: Any) -> Any:
        given = {"job": self.job.name, "run": self.job.run, **values}
        return connection.exec_driver_sql(in_schema(statement, self.schema), given)
