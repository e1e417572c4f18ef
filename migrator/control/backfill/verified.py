"""What the last verification of a ledger found, kept in the row of its backfill.

It is about what was read until then: a backfill that goes through the ledger once more takes it
away, and it has to be verified again.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, func, literal, select, update
from sqlalchemy.dialects.postgresql import JSONB

from migrator.control.backfill.simplejwt import TABLE
from migrator.stores import tables

_KEY = "verified"


@dataclass(frozen=True, slots=True, kw_only=True)
class Verified:
    """One ledger, and its last verification; without `at` there is none.

    Args:
        job: of its backfill; command: verifies it.
        state: of that backfill; only `done` can be verified.
        rows: how many were compared, of `of` that there were.
    """

    job: str
    source: str
    issuer: str
    state: str
    command: str
    at: datetime | None = None
    rows: int = 0
    of: int | None = None
    differences: int = 0


def read(connection: Connection, home: str) -> tuple[Verified, ...]:
    """Every ledger that a backfill read or began to read."""
    jobs = tables.in_schema(home).tables[f"{home}.{tables.jobs.name}"]
    query = select(jobs.c.name, jobs.c.source, jobs.c.state, jobs.c.updated_at, jobs.c.detail)
    rows = connection.execute(query.where(jobs.c.source.is_not(None)).order_by(jobs.c.name)).all()
    return tuple(_read(*row) for row in rows)


def record(connection: Connection, home: str, job: str, found: Mapping[str, Any]) -> datetime:
    """Keep what was found, and commit; when that was."""
    jobs = tables.in_schema(home).tables[f"{home}.{tables.jobs.name}"]
    at: datetime = connection.execute(select(func.clock_timestamp())).scalar_one()
    kept = {_KEY: {**found, "at": at.isoformat()}}
    connection.execute(
        update(jobs)
        .where(jobs.c.name == job)
        .values(detail=jobs.c.detail.op("||")(literal(kept, JSONB)))
    )
    connection.commit()
    return at


def command_of(detail: Mapping[str, Any], source: str) -> str:
    """What verifies a ledger, as far as its row says how it was named."""
    identity = detail.get("identity", {})
    columns = identity.get("columns") or {}
    at = str(identity.get("redis", "")).rpartition(" at ")[2]
    named = {
        "--issuer": identity.get("issuer"),
        "--from": str(identity.get("table") or "").replace("%%", "%"),
        "--file": identity.get("file"),
        f"--{identity.get('collection') or 'pattern'}": identity.get("keys"),
        "--columns": ",".join(f"{ours}={theirs}" for ours, theirs in columns.items()),
        "--source-url": identity.get("source_url"),
        "--redis-url": at if at.partition(":")[0] in {"env", "file"} else None,
    }
    if source == "simplejwt" and named["--from"].endswith("." + TABLE):
        del named["--from"]  # by its own name, wherever the search path finds it
    words = [f"{option} {shlex.quote(str(value))}" for option, value in named.items() if value]
    return " ".join(["migrator backfill verify", source, *words])


def _read(
    name: str, source: str, state: str, updated_at: datetime, detail: Mapping[str, Any]
) -> Verified:
    found = detail.get(_KEY) or {}
    at = datetime.fromisoformat(found["at"]) if found else None
    is_of_this_pass = at is not None and at >= updated_at
    return Verified(
        job=name,
        source=source,
        issuer=detail.get("identity", {}).get("issuer", ""),
        state=state,
        command=command_of(detail, source),
        at=at if is_of_this_pass else None,
        rows=found.get("rows", 0),
        of=found.get("of"),
        differences=found.get("differences", 0),
    )
