"""How the database bears a backfill: looked at about once a second, on a connection of its own.

What must live here: what is measured, and where it is too much. Over half of a limit the workers
rest as long as they work; over a limit no page begins; and if it stays there for `PATIENCE` looks,
the run ends, its checkpoint saved. What the role may not see is not measured, and never held
against anybody.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from sqlalchemy import Connection

from migrator.stores.queries import in_schema

PATIENCE: Final = 5
SOFT: Final = 0.5  # of a limit
LATENCY_MS: Final = 500.0
LAG_S: Final = 30.0
CONNECTIONS: Final = 0.95  # of max_connections; beyond it whoever logs in may be turned away

_MEASURE = """
SELECT (SELECT max(extract(epoch FROM replay_lag))::float8 FROM pg_stat_replication),
  (SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'
     AND pid <> ALL(%(ours)s::int[]) AND pg_blocking_pids(pid) && %(ours)s::int[]),
  (SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend')::float8
    / current_setting('max_connections')::int"""

# What a request asks when it is in no cache; nobody has this digest.
_CANARY = "SELECT id FROM {s}.sessions WHERE digest = decode(repeat('00', 32), 'hex')"


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What the database may be asked to bear.

    Args:
        latency_ms: of one session read by its digest.
        lag_s: of the slowest replica's replay.
    """

    latency_ms: float = LATENCY_MS
    lag_s: float = LAG_S


@dataclass(frozen=True, slots=True, kw_only=True)
class Signs:
    """One look. None is what could not be seen.

    Args:
        waiting: how many sessions wait for a lock that this run holds.
        connections: the share of `max_connections` in use.
    """

    latency_ms: float
    lag_s: float | None = None
    waiting: int = 0
    connections: float | None = None


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a look says.

    Args:
        soft: why to go slower.
        hard: why not to go on.
    """

    soft: tuple[str, ...] = ()
    hard: tuple[str, ...] = ()


def judge(signs: Signs, limits: Limits) -> Verdict:
    """Which limits are met, in words."""
    measured = (
        ("reading a session takes", signs.latency_ms, limits.latency_ms, " ms"),
        ("replicas lag", signs.lag_s, limits.lag_s, " s"),
        ("connections are in use:", _percent(signs.connections), 100 * CONNECTIONS, " %"),
    )
    soft, hard = list[str](), list[str]()
    for what, value, limit, unit in measured:
        if value is None:
            continue
        nearly = limit * (SOFT if unit != " %" else 0.85)
        if value > limit:
            hard.append(f"{what} {value:.0f}{unit}, more than {limit:g}{unit}")
        elif value > nearly:
            soft.append(f"{what} {value:.0f}{unit}, more than {nearly:g}{unit}")
    if signs.waiting:
        soft.append(f"{signs.waiting} wait for a lock of this backfill")
    return Verdict(tuple(soft), tuple(hard))


def look(connection: Connection, schema: str, ours: Sequence[int]) -> Signs:
    """Measure, and leave no transaction open.

    Args:
        ours: the backends of this run.
    """
    began = time.monotonic()
    connection.exec_driver_sql(in_schema(_CANARY, schema), {}).all()
    latency = time.monotonic() - began
    lag, waiting, connections = connection.exec_driver_sql(_MEASURE, {"ours": list(ours)}).one()
    connection.rollback()
    return Signs(latency_ms=latency * 1000, lag_s=lag, waiting=waiting, connections=connections)


def _percent(share: float | None) -> float | None:
    return None if share is None else 100 * share
