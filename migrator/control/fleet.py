"""The nodes as an object: the JSON of `migrator nodes`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import func, select

from migrator.control import evidence, nodes, revisions
from migrator.control.evidence import standing
from migrator.stores import tables as page

if TYPE_CHECKING:
    from migrator.settings import Settings

SCHEMA = "migrator.nodes/1"


def report(settings: Settings) -> dict[str, Any]:
    """Every node on record, and how each stands to the present epoch.

    Raises:
        Stopped: UNREACHABLE; UNFIT where the schema is not this release's.
    """
    evidence.fit(settings)
    home = settings.database.schema
    with revisions.connected(settings.database.url.get_secret_value()) as connection:
        now = connection.execute(select(func.clock_timestamp())).scalar_one()
        rollout, _ = standing(connection, home)
        found = nodes.read(connection, page.in_schema(home), home)
        connection.rollback()
    return {
        "environment": settings.environment,
        "app": settings.app,
        "generated_at": now,
        "epoch": rollout.epoch,
        "expected": settings.expected_nodes,
        "nodes": [
            {
                "id": node.id,
                "state": node.state(now, rollout.epoch),
                "epoch": node.epoch,
                "acked_at": node.acked_at,
                "lease_until": node.lease_until,
                "seen_at": node.seen_at,
                "started_at": node.started_at,
                "host": node.host,
                "pid": node.pid,
                "build": node.build,
                "key_ids": list(node.key_ids),
                "clock_skew_ms": node.clock_skew_ms,
                "last_jwt_issued_at": node.last_jwt_issued_at,
                "issued_horizon": node.issued_horizon,
            }
            for node in found
        ],
    }
