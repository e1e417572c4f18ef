"""The `jobs` row of a backfill: whose it is, how far it came, and what came of it so far.

The checkpoint is written in the transaction of its page, so a page is either planted and counted
or neither. A run holds the row by a name drawn at its start: whoever finds another name there was
taken over, and stops without a trace. Session-level locks are not used: poolers break them.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

from sqlalchemy import Connection, Table, func, literal, select, text, update
from sqlalchemy.dialects.postgresql import JSONB, insert

from migrator.control.backfill import refusals
from migrator.control.backfill.rows import Cursor, Source
from migrator.stores import tables

# A running backfill writes its row at least this often; a page is far shorter.
SILENT_SECONDS: Final = 3.0
_LOOK_SECONDS: Final = 0.2
_IS_THERE = text("SELECT EXISTS (SELECT FROM pg_stat_activity WHERE pid = :pid)")

COUNTS: Final = (
    *("read", "seeded", "already", "expired", "denied", "revoked_already", "barred", "ended"),
)


@dataclass(slots=True)
class Tally:
    """What came of the rows of one pass over a ledger, across all its runs."""

    counts: dict[str, int] = field(default_factory=lambda: dict.fromkeys(COUNTS, 0))
    rejected: dict[str, int] = field(default_factory=dict)

    def add(self, planted: Mapping[str, Any]) -> None:
        """Count what one statement says it did."""
        alive = planted["living"] - planted["seeded"] - planted["barred"]
        found = {
            **planted,
            "already": alive,
            "revoked_already": planted["revoked"] - planted["denied"],
        }
        for name in COUNTS:
            self.counts[name] += found[name]
        for _, reason in planted["rejects"]:
            self.reject(reason)

    def reject(self, reason: str) -> None:
        """Count a row of which nothing could be made."""
        self.rejected[reason] = self.rejected.get(reason, 0) + 1

    def copy(self) -> Tally:
        """The same numbers, apart."""
        return Tally(dict(self.counts), dict(self.rejected))

    @property
    def changes(self) -> int:
        """How many rows of ours were written."""
        return self.counts["seeded"] + self.counts["denied"] + self.counts["ended"]

    def as_json(self) -> dict[str, Any]:
        """For the row."""
        return {"counts": self.counts, "rejected": self.rejected}

    @classmethod
    def of(cls, saved: Mapping[str, Any]) -> Tally:
        """From the row."""
        return cls(
            {name: saved.get("counts", {}).get(name, 0) for name in COUNTS},
            dict(saved.get("rejected", {})),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """A backfill that this run holds."""

    name: str
    run: str
    table: Table
    after: Cursor
    tally: Tally
    total: int | None
    began: datetime
    resumed: bool

    def keep(self, connection: Connection, cursor: Cursor, tally: Tally) -> None:
        """Write the checkpoint, in the transaction of its page.

        Raises:
            Stopped: CONFLICT, another run has taken over; this page must not be committed.
        """
        self._write(connection, tally, checkpoint={"after": list(cursor)})

    def saved(self, connection: Connection) -> Tally:
        """What is committed: after an interrupt the row knows, this process may not."""
        jobs = self.table
        detail = connection.execute(select(jobs.c.detail).where(jobs.c.name == self.name)).scalar()
        return Tally.of((detail or {}).get("tally", {}))

    def leave(self, connection: Connection, state: str, tally: Tally) -> None:
        """Write how the run ended, and commit."""
        self._write(connection, tally, state=state)
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

    def _write(self, connection: Connection, tally: Tally, **values: Any) -> None:
        jobs = self.table
        kept = connection.execute(
            update(jobs)
            .where(jobs.c.name == self.name, jobs.c.detail["run"].astext == self.run)
            .values(
                done=tally.counts["read"],
                rejected=sum(tally.rejected.values()),
                updated_at=func.clock_timestamp(),
                detail=jobs.c.detail.op("||")(
                    func.jsonb_build_object("tally", literal(tally.as_json(), JSONB))
                ),
                **values,
            )
        )
        if kept.rowcount != 1:
            connection.rollback()
            held = connection.execute(select(jobs.c.detail).where(jobs.c.name == self.name))
            who = (held.scalar() or {}).get("who", "somebody else")
            connection.rollback()
            raise refusals.taken(self.name, who)


def begin(
    connection: Connection, schema: str, source: Source, *, issuer: str, who: str, restart: bool
) -> Job:
    """Take hold of the job of a ledger: where it stopped, or from the beginning.

    Raises:
        Stopped: CONFLICT, it is running; GATE_FAILED, it was begun with another mapping.
    """
    jobs = tables.in_schema(schema).tables[f"{schema}.{tables.jobs.name}"]
    name = name_of(source, issuer)
    wanted = {"issuer": issuer, **source.identity}
    is_free = _wait_until_free(connection, jobs, name)
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
    tally = Tally.of(row.detail.get("tally", {})) if unfinished else Tally()
    after = tuple(row.checkpoint.get("after", ())) if unfinished else ()
    began = connection.execute(
        update(jobs)
        .where(jobs.c.name == name)
        .values(
            source=source.kind,
            state="running",
            checkpoint={"after": list(after)},
            done=tally.counts["read"],
            rejected=sum(tally.rejected.values()),
            total=row.total if unfinished else total,
            started_at=row.started_at if unfinished else func.clock_timestamp(),
            updated_at=func.clock_timestamp(),
            detail={"run": run, "who": who, "identity": wanted, "tally": tally.as_json()},
        )
        .returning(jobs.c.started_at, jobs.c.total)
    ).one()
    connection.execute(
        update(jobs)
        .where(jobs.c.name == name)
        .values(
            detail=jobs.c.detail.op("||")(func.jsonb_build_object("pid", func.pg_backend_pid()))
        )
    )
    connection.commit()
    return Job(
        name=name,
        run=run,
        table=jobs,
        after=after,
        tally=tally,
        total=began.total,
        began=began.started_at,
        resumed=bool(after),
    )


def name_of(source: Source, issuer: str) -> str:
    """What the job of a ledger is called."""
    return f"backfill:{source.kind}:{issuer}:{source.place}"


def _wait_until_free(connection: Connection, jobs: Table, name: str) -> str | None:
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
