"""Backfills as they stand, and what is asked of one that runs elsewhere: to pause, to go faster.

What must live here: reading and writing the `jobs` row from another terminal. The run sees it
within about half a second, at its next look; nothing here talks to it in any other way. A pause
that is not answered is withdrawn, and a run that is gone is put down as paused, so that no job is
ever stuck between two states.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from sqlalchemy import Connection

from migrator.control import evidence, revisions
from migrator.control.backfill import refusals
from migrator.control.backfill.job import SILENT_SECONDS
from migrator.settings import Settings
from migrator.stores.queries import in_schema

PAUSE_SECONDS: Final = 30.0
_LOOK_SECONDS: Final = 0.1

_STANDING = """
SELECT j.name, j.source, j.state, j.done, j.total, j.rejected, j.started_at, j.updated_at,
  j.detail, clock_timestamp() AS now,
  j.state = 'running' AND clock_timestamp() - j.updated_at > %(silent)s
    AND NOT EXISTS (SELECT FROM pg_stat_activity a WHERE a.pid = (j.detail ->> 'pid')::int)
    AS is_gone,
  (SELECT count(*) FROM {s}.job_ranges r WHERE r.job = j.name) AS ranges,
  (SELECT count(*) FROM {s}.job_ranges r WHERE r.job = j.name AND r.state = 'done') AS ranges_done
FROM {s}.jobs j
WHERE j.source IS NOT NULL AND (%(name)s::text IS NULL OR j.name = %(name)s)
ORDER BY j.name"""

_ASK = """
UPDATE {s}.jobs SET detail = detail || %(said)s::jsonb
WHERE name = %(name)s AND state = 'running' AND detail ->> 'run' = %(run)s"""

_WITHDRAW = """
UPDATE {s}.jobs SET detail = detail - 'asked' - 'asked_by'
WHERE name = %(name)s AND detail ->> 'run' = %(run)s AND state = 'running'"""

_TURN = """
UPDATE {s}.jobs
SET detail = jsonb_set(detail, '{knobs}', coalesce(detail -> 'knobs', '{}') || %(turned)s::jsonb)
WHERE name = %(name)s AND state = 'running' AND detail ->> 'run' = %(run)s"""

_PUT_DOWN = """
UPDATE {s}.jobs SET state = 'paused', detail = detail - 'asked' - 'asked_by'
WHERE name = %(name)s AND detail ->> 'run' = %(run)s AND state = 'running'"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """How a backfill stands.

    Args:
        state: idle, running, paused, done, failed, or `stalled`: it runs by its row, and nobody
            is there.
        rows_per_second: lately; None where it does not run.
        eta: when it may be done, an estimate; None while it waits and where nobody knows.
        waiting_on: why no page begins, or begins later, in words.
    """

    job: str
    source: str
    state: str
    done: int
    total: int | None
    rejected: int
    who: str | None
    started_at: datetime | None
    as_of: datetime
    rows_per_second: int | None
    eta: datetime | None
    waiting_on: tuple[str, ...]
    batch: int | None
    workers: int
    sleep_ms: int
    ranges: int
    ranges_done: int

    def as_json(self) -> dict[str, Any]:
        """For `migrator.backfills/1`."""
        return {**asdict(self), "waiting_on": list(self.waiting_on)}


def standing(settings: Settings, name: str | None = None) -> list[Standing]:
    """Every backfill there is, or the one called `name`; read from the database alone.

    Raises:
        Stopped: UNREACHABLE; UNFIT; USAGE, there is none of this name.
    """
    with _at(settings) as (connection, home):
        rows = _rows(connection, home, name)
        if name is not None and not rows:
            raise refusals.no_job(name, [row.name for row in _rows(connection, home, None)])
        return [_standing(row) for row in rows]


def pause(
    settings: Settings,
    name: str,
    *,
    who: str,
    patience: float = PAUSE_SECONDS,
    dry_run: bool = False,
    clock: Callable[[], float] = time.monotonic,
) -> tuple[Standing, bool]:
    """Have a run end after the pages it is at; how it stands then, and whether this changed it.

    Raises:
        Stopped: USAGE, there is no such job; WAIT_TIMED_OUT, nobody answered and nothing was
            changed; and as `standing`.
    """
    with _at(settings) as (connection, home):
        row = _one(connection, home, name)
        if row.state != "running" or dry_run:
            return _standing(row), False
        given = {"name": name, "run": row.detail["run"]}
        said = json.dumps({"asked": "pause", "asked_by": who})
        connection.exec_driver_sql(in_schema(_ASK, home), {**given, "said": said})
        connection.commit()
        until = clock() + patience
        while True:
            row = _one(connection, home, name)
            if row.state != "running" or row.detail.get("run") != given["run"]:
                return _standing(row), True
            if row.is_gone:
                connection.exec_driver_sql(in_schema(_PUT_DOWN, home), given)
                connection.commit()
                continue
            if clock() > until:
                connection.exec_driver_sql(in_schema(_WITHDRAW, home), given)
                connection.commit()
                raise refusals.not_paused(name, patience)
            time.sleep(_LOOK_SECONDS)


def tune(
    settings: Settings, name: str, turned: Mapping[str, int], *, dry_run: bool = False
) -> tuple[Standing, bool]:
    """Turn knobs of a run: batch, workers, sleep_ms; how it stands, and whether this changed it.

    Raises:
        Stopped: USAGE, there is no such job; GATE_FAILED, it does not run; and as `standing`.
    """
    with _at(settings) as (connection, home):
        row = _one(connection, home, name)
        if row.state != "running" or row.is_gone:
            raise refusals.not_running(name, _standing(row).state)
        knobs = row.detail.get("knobs", {})
        changed = {key: value for key, value in turned.items() if knobs.get(key) != value}
        if not changed or dry_run:
            return _standing(row), False
        connection.exec_driver_sql(
            in_schema(_TURN, home),
            {"name": name, "run": row.detail["run"], "turned": json.dumps(changed)},
        )
        connection.commit()
        return _standing(_one(connection, home, name)), True


@contextmanager
def _at(settings: Settings) -> Iterator[tuple[Connection, str]]:
    evidence.fit(settings)
    with revisions.connected(settings.database.url.get_secret_value()) as connection:
        yield connection, settings.database.schema


def _rows(connection: Connection, home: str, name: str | None) -> list[Any]:
    given = {"name": name, "silent": timedelta(seconds=SILENT_SECONDS)}
    rows = list(connection.exec_driver_sql(in_schema(_STANDING, home), given))
    connection.rollback()
    return rows


def _one(connection: Connection, home: str, name: str) -> Any:
    rows = _rows(connection, home, name)
    if not rows:
        raise refusals.no_job(name, [row.name for row in _rows(connection, home, None)])
    return rows[0]


def _standing(row: Any) -> Standing:
    detail: Mapping[str, Any] = row.detail
    state = "stalled" if row.is_gone else row.state
    runs = state == "running"
    pace, knobs = detail.get("pace") or {}, detail.get("knobs") or {}
    rate = pace.get("rows_per_second") if runs else None
    waiting = tuple(detail.get("waiting_on") or ()) if runs else ()
    eta = None
    if rate and not waiting and row.total is not None and row.done < row.total:
        eta = row.now + timedelta(seconds=(row.total - row.done) / rate)
    return Standing(
        job=row.name,
        source=row.source,
        state=state,
        done=row.done,
        total=row.total,
        rejected=row.rejected,
        who=detail.get("who"),
        started_at=row.started_at,
        as_of=row.updated_at,
        rows_per_second=rate,
        eta=eta,
        waiting_on=waiting,
        batch=knobs.get("batch"),
        workers=knobs.get("workers", 1),
        sleep_ms=knobs.get("sleep_ms", 0),
        ranges=row.ranges,
        ranges_done=row.ranges_done,
    )
