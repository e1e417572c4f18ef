"""What `Sunset` announces: the scheduled cutover, else the drain horizon if exact, else nothing.

The horizon moves with every straggler that turns up, so whoever judges it in passing (status,
gates, a move's wait) brings the announcement into step. What an operator scheduled stays.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy.exc import DBAPIError

from migrator.control import drain, flip
from migrator.core.errors import Stopped
from migrator.core.phases import Phase

if TYPE_CHECKING:
    from datetime import datetime

    from migrator.control.evidence import Evidence

# Where somebody may still be admitted with a legacy token and be told of its end.
_TOLD = frozenset({Phase.DRAIN, Phase.CUTOVER})


def due(found: Evidence) -> datetime | None:
    """When the end is, for all who are not cut over yet; None: it cannot be told exactly."""
    horizon = drain.horizon(
        found.horizon.stop, found.fleet, found.settings.issuers, found.last_left_ends_at
    )
    if horizon.bound != "exact" or horizon.at is None:
        return None
    since = found.rollout.drain_since
    return horizon.at if since is None else max(horizon.at, since)


def keep(found: Evidence) -> None:
    """Bring the announcement into step with the evidence; best effort, for it holds up nobody.

    A role that may only read leaves it to the next one who may write.
    """
    if found.rollout.phase not in _TOLD or found.is_contracted:
        return
    end = due(found)
    if end == found.rollout.sunset_at:
        return
    try:
        flip.set_sunset(found.settings, found.rollout.epoch, end)
    except (DBAPIError, Stopped):
        return
