"""The `jobs` row of a backfill: whose it is, how far it came, and what is asked of it.

A run holds the row by a name drawn at its start: whoever finds another name there was taken over,
and stops without a trace. Session-level locks are not used: poolers break them. How far its parts
came is `ranges.py`'s, which counts each page here in the transaction of that page.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from sqlalchemy import Connection, Table, func, literal, select, text, update
from sqlalchemy.dialects.postgresql import JSONB, insert

from migrator.control.backfill import refusals
from migrator.control.backfill.rows import Source
from migrator.control.backfill.tally import Tally
from migrator.core.errors import Stopped
from migrator.stores import tables

# A running backfill writes its row far more often, whatever it waits for.
SILENT_SECONDS: Final = 3.0
_LOOK_SECONDS: Final = 0.2
_IS_THERE = text("SELECT EXISTS (SELECT FROM pg_stat_activity WHERE pid = :pid)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """A backfill that this run holds.

    Args:
        settled: sessions that were ended after the pages, in all runs of this pass.
        resumed: an earlier run has begun this pass.
    """

    name: str
    run: str
    table: Table
    total: int | None
    began: datetime
    settled: int
    resumed: bool

    def look(self, connection: Connection, said: Mapping[str, Any]) -> Mapping[str, Any]:
        """Say that this run lives and how it goes; return what is asked of it. Commits.

        Raises:
            Stopped: CONFLICT, another run has taken over.
        """
        jobs = self.table
        row = connection.execute(
            update(jobs)
            .where(jobs.c.name == self.name, jobs.c.detail["run"].astext == self.run)
            .values(
                updated_at=func.clock_timestamp(),
                detail=jobs.c.detail.op("||")(literal(dict(said), JSONB)),
            )
            .returning(jobs.c.detail, jobs.c.done, jobs.c.rejected)
        ).one_or_none()
        if row is None:
            raise self.taken(connection)
        connection.commit()
        detail: Mapping[str, Any] = row.detail
        return detail

    def leave(self, connection: Connection, state: str, tally: Tally, *, settled: int) -> None:
        """Write how the run ended, and commit.

        Raises:
            Stopped: CONFLICT, another run has taken over.
        """
        jobs = self.table
        said = {"tally": tally.as_json(), "settled": settled, "waiting_on": [], "pace": None}
        kept = connection.execute(
            update(jobs)
            .where(jobs.c.name == self.name, jobs.c.detail["run"].astext == self.run)
            .values(
                state=state,
                done=tally.counts["read"],
                rejected=tally.rejections,
                updated_at=func.clock_timestamp(),
                detail=jobs.c.detail.op("-")("asked").op("||")(literal(said, JSONB)),
            )
        )
        if kept.rowcount != 1:
            raise self.taken(connection)
        connection.commit()

    def fail(self, connection: Connection) -> None:
        """Write that the run failed, leaving its checkpoint and numbers as they are."""
        jobs = self.table
        connection.execute(
            update(jobs)
            .where(jobs.c.name == self.name, jobs.c.detail["run"].astext == self.run)
            .values(state="failed", updated_at=func.clock_timestamp())
        )
        connection.commit()

    def taken(self, connection: Connection) -> Stopped:
        """Why this run may commit nothing more. Rolls back."""
        connection.rollback()
        held = select(self.table.c.detail).where(self.table.c.name == self.name)
        who = (connection.execute(held).scalar() or {}).get("who", "somebody else")
        connection.rollback()
        return refusals.taken(self.name, who)


def begin(  # one decision with all it takes
    connection: Connection,
    schema: str,
    source: Source,
    *,
    issuer: str,
    who: str,
    restart: bool,
    knobs: Mapping[str, Any],
) -> Job:
    """Take hold of the job of a ledger: where it stopped, or from the beginning.

    The row stays locked, and nothing is committed: the caller puts the ranges in order first.

    Args:
        knobs: how it is run, which `tune` changes while it is running.

    Raises:
        Stopped: CONFLICT, it is running; GATE_FAILED, it was begun with another mapping.
    """
    jobs = tables.in_schema(schema).tables[f"{schema}.{tables.jobs.name}"]
    name = name_of(source, issuer)
    wanted = {"issuer": issuer, **source.identity}
    is_free = wait_until_free(connection, jobs, name)
    total = source.total()
    connection.rollback()

    connection.execute(
        insert(jobs).values(name=name, state="idle", detail={}).on_conflict_do_nothing()
    )
    row = connection.execute(select(jobs).where(jobs.c.name == name).with_for_update()).one()
    if row.state == "running" and row.detail.get("run") != is_free:
        connection.rollback()
        raise refusals.taken(name, row.detail.get("who", "somebody else"))
    unfinished = row.state not in {"idle", "done"} and not restart
    if unfinished:
        before = row.detail.get("identity", {})
        differing = [key for key in wanted if before.get(key) != wanted[key]]
        if differing:
            connection.rollback()
            raise refusals.changed(name, differing)
    run = uuid.uuid4().hex
    settled = row.detail.get("settled", 0) if unfinished else 0
    said = {"run": run, "who": who, "identity": wanted, "settled": settled, "knobs": dict(knobs)}
    began = connection.execute(
        update(jobs)
        .where(jobs.c.name == name)
        .values(
            source=source.kind,
            state="running",
            checkpoint={},
            done=row.done if unfinished else 0,
            rejected=row.rejected if unfinished else 0,
            total=row.total if unfinished else total,
            started_at=row.started_at if unfinished else func.clock_timestamp(),
            updated_at=func.clock_timestamp(),
            detail=literal(said, JSONB).op("||")(
                func.jsonb_build_object("pid", func.pg_backend_pid())
            ),
        )
        .returning(jobs.c.started_at, jobs.c.total)
    ).one()
    return Job(
        name=name,
        run=run,
        table=jobs,
        total=began.total,
        began=began.started_at,
        settled=settled,
        resumed=unfinished,
    )


def name_of(source: Source, issuer: str) -> str:
    """What the job of a ledger is called."""
    return f"backfill:{source.kind}:{issuer}:{source.place}"


def wait_until_free(connection: Connection, jobs: Table, name: str) -> str | None:
    """The run that was killed and may be taken over; None where none was left running.

    Raises:
        Stopped: CONFLICT, it is alive.
    """
    wanted = select(jobs.c.state, jobs.c.updated_at, jobs.c.detail).where(jobs.c.name == name)
    seen: datetime | None = None
    until = time.monotonic() + SILENT_SECONDS
    while True:
        row = connection.execute(wanted).one_or_none()
        pid = row.detail.get("pid") if row is not None else None
        there = bool(pid) and connection.execute(_IS_THERE, {"pid": pid}).scalar_one()
        connection.rollback()
        if row is None or row.state != "running":
            return None
        if seen is not None and row.updated_at != seen:
            raise refusals.taken(name, row.detail.get("who", "somebody else"))
        # Behind a pooler its backend may stay for others: then silence tells.
        if not there or time.monotonic() > until:
            run: str | None = row.detail.get("run")
            return run
        seen = row.updated_at
        time.sleep(_LOOK_SECONDS)
