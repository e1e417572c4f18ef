"""The nodes as an object: the JSON of `migrator nodes`."""

from __future__ import annotations

from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from sqlalchemy import func, select

from migrator.control import evidence, journal, nodes, revisions, vitals
from migrator.control.evidence import standing
from migrator.stores import tables as page

if TYPE_CHECKING:
    from migrator.control.journal import Row
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
        tables = page.in_schema(home)
        found = nodes.read(connection, tables, home)
        last = journal.read(connection, tables, home, limit=1, moves_only=True)
        connection.rollback()
    fleet = nodes.Fleet(nodes=found, epoch=rollout.epoch, now=now, build=version("jwt-way-out"))
    return {
        "environment": settings.environment,
        "app": settings.app,
        "generated_at": now,
        "epoch": rollout.epoch,
        "expected": settings.expected_nodes,
        "propagation_s": propagation_s(fleet, last[0] if last else None),
        "nodes": [
            {
                "id": node.id,
                "state": node.state(now, rollout.epoch),
                "is_live": node in fleet.live,
                "has_acked": node in fleet.acked,
                "is_old_build": node in fleet.old_build,
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
                "vitals": vitals.as_json(node.vitals),
            }
            for node in found
        ],
    }


def propagation_s(fleet: nodes.Fleet, move: Row | None) -> float | None:
    """Seconds from the last move to its last acknowledgement; None while one is missing.

    Nodes that started later found the epoch there, and say nothing of its way.
    """
    if move is None or move.epoch != fleet.epoch or fleet.waiting:
        return None
    reached = [
        node.acked_at
        for node in fleet.acked
        if node.acked_at is not None and node.started_at < move.at <= node.acked_at
    ]
    return (max(reached) - move.at).total_seconds() if reached else None
