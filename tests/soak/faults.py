"""How each kind of fault of schedule.py is done to a stage, and undone; and when, by the clock."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Final

import redis

from tests.soak.history import Fault
from tests.soak.schedule import SORTS, Planned
from tests.soak.stage import Stage

_LAG_S: Final = 0.02
_SLICE_S: Final = 0.0005


def injure(stage: Stage, plan: list[Planned], until: float, note: Callable[[Fault], None]) -> None:
    """Do what is planned, one after the other, until it is time; leaves everything up."""
    for one in plan:
        if time.monotonic() + one.rest_s + one.lasts_s + 1.0 > until:
            return
        time.sleep(one.rest_s)
        if one.other is None:
            _inflict(stage, one.what, one.lasts_s, note)
            continue
        second = threading.Thread(
            target=_inflict, args=(stage, one.other, one.lasts_s * 0.8, note), name="fault"
        )
        second.start()
        _inflict(stage, one.what, one.lasts_s, note)
        second.join()


def _inflict(stage: Stage, what: str, lasts_s: float, note: Callable[[Fault], None]) -> None:
    hurt, mend = _acts(stage)[what]
    sort = SORTS[what]
    began = time.monotonic()
    hurt()
    time.sleep(lasts_s)
    mend()
    note(
        Fault(
            what=what,
            store=sort.store,
            began=began,
            ended=time.monotonic() + sort.felt_s,
            workers=sort.workers,
            wipes=sort.wipes,
            excuses=sort.excuses,
        )
    )


_Acts = dict[str, tuple[Callable[[], object], Callable[[], object]]]


def _acts(stage: Stage) -> _Acts:
    postgres, cache = stage.postgres, stage.redis
    to_postgres, to_redis = stage.to_postgres, stage.to_redis
    uvicorn, behind = stage.server("uvicorn"), stage.server("uvicorn-behind")
    gunicorn, node = stage.server("gunicorn-behind"), stage.node
    return {
        "Postgres killed": (postgres.kill, postgres.start),
        "Postgres frozen": (postgres.pause, postgres.resume),
        "Postgres connections ended": (lambda: _end_connections(stage), _nothing),
        "Redis killed": (cache.kill, cache.start),
        "Redis frozen": (cache.pause, cache.resume),
        "Redis clients killed": (lambda: _kill_clients(stage), _nothing),
        "Redis flushed": (cache.flush, _nothing),
        "way to Postgres reset": (to_postgres.reset, _nothing),
        "way to Postgres half-open": (to_postgres.half_open, _nothing),
        "way to Postgres a black hole": (to_postgres.black_hole, to_postgres.heal),
        "way to Postgres closed": (to_postgres.refuse, to_postgres.heal),
        "way to Postgres slow": (lambda: to_postgres.lag(_LAG_S), to_postgres.heal),
        "way to Postgres sliced": (lambda: to_postgres.slice(_SLICE_S), to_postgres.heal),
        "way to Redis reset": (to_redis.reset, _nothing),
        "way to Redis half-open": (to_redis.half_open, _nothing),
        "way to Redis a black hole": (to_redis.black_hole, to_redis.heal),
        "way to Redis closed": (to_redis.refuse, to_redis.heal),
        "way to Redis slow": (lambda: to_redis.lag(_LAG_S), to_redis.heal),
        "way to Redis crossing replies": (to_redis.swap_replies, to_redis.heal),
        "uvicorn killed": (behind.kill, behind.restore),
        "uvicorn frozen": (uvicorn.freeze, uvicorn.thaw),
        "gunicorn worker killed": (gunicorn.kill, gunicorn.restore),
        "gunicorn frozen": (gunicorn.freeze, gunicorn.thaw),
        "node killed": (node.kill, node.restore),
        "node frozen": (node.freeze, node.thaw),
    }


def _nothing() -> None:
    """It was over as it happened."""


def _end_connections(stage: Stage) -> None:
    stage.rig.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        " WHERE datname = current_database() AND pid <> pg_backend_pid()"
    )


def _kill_clients(stage: Stage) -> None:
    with redis.Redis.from_url(stage.redis.url) as client:
        for sort in ("normal", "pubsub"):
            client.client_kill_filter(_type=sort, skipme=True)
