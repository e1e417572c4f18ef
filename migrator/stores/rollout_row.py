"""The one row that says where everybody stands, read into the core's own type.

Requests, the pulse and commands all read it here, so that no two of them see another rollout.
"""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any

from migrator.core.brownouts import Brownout
from migrator.core.errors import Unavailable
from migrator.core.phases import Exemption, Phase, Rollout

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from migrator.stores.drivers import Row


def rollout_of(rows: Sequence[Row]) -> Rollout:
    """The rollout from its one row.

    Raises:
        Unavailable: there is none: a broken schema, never "retired".
    """
    if len(rows) != 1:
        raise Unavailable("postgres", "the rollout row is missing")
    phase, percent, epoch, since, exceptions, drain_since, sunset_at = rows[0][:7]
    brownouts, soak = rows[0][7:9]
    return Rollout(
        phase=Phase(phase),
        percent=percent,
        epoch=epoch,
        since=since,
        exceptions=tuple(
            Exemption(by=one["by"], value=str(one["value"]), phase=Phase(one["phase"]))
            for one in exceptions
        ),
        drain_since=drain_since,
        sunset_at=sunset_at,
        brownouts=tuple(brownout_of(one) for one in brownouts),
        soak_until=datetime.fromisoformat(soak["until"]) if soak else None,
    )


def brownout_of(row: Mapping[str, Any]) -> Brownout:
    """A window as the rollout row keeps it."""
    return Brownout(
        id=row["id"],
        starts_at=datetime.fromisoformat(row["starts_at"]),
        ends_at=datetime.fromisoformat(row["ends_at"]),
        by=row["by"],
        value=row["value"] or "",
        percent=row["percent"],
    )
