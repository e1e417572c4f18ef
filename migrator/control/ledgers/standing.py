"""How the reading of ledgers goes, from the rows that their readers leave."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import func, select

from migrator.control.ledgers.poller import JOB, LEASE_S
from migrator.stores import tables as page

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from datetime import timedelta

    from sqlalchemy import Connection

    from migrator.settings import Ledger, Settings

# What every revocation of ours has, once it is committed (design section 8, Redis or no Redis).
ELSEWHERE_S: Final = 1.0
# So much later than its rhythm, its lease included, a ledger is not read any more.
_MISSED: Final = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """How one ledger stands.

    Args:
        read_at: when it was last read to its end; None: never.
        why: the kind of the failure of the last turn; None: it went well.
        is_whole: one turn is enough to read what it has.
        denied, ended: in all its turns.
    """

    name: str
    read_at: datetime | None
    updated_at: datetime
    why: str | None
    is_whole: bool
    denied: int
    ended: int


def read(connection: Connection, home: str) -> Mapping[str, Standing]:
    """Every ledger that was ever polled, by name; the legacy tables are there."""
    jobs = page.in_schema(home).tables[f"{home}.{page.jobs.name}"]
    query = select(jobs).where(func.starts_with(jobs.c.name, JOB))
    return {found.name: found for found in (_standing(row) for row in connection.execute(query))}


def _standing(row: Any) -> Standing:
    detail = row.detail
    return Standing(
        name=row.name.removeprefix(JOB),
        read_at=_time(detail.get("read_at")),
        updated_at=row.updated_at,
        why=detail.get("why"),
        is_whole=detail.get("whole", True),
        denied=int(detail.get("denied", 0)),
        ended=int(detail.get("ended", 0)),
    )


def _time(said: str | None) -> datetime | None:
    return None if said is None else datetime.fromisoformat(said)


def bound_s(ledger: Ledger) -> float:
    """Within how many seconds a revocation in a ledger is in effect on every node."""
    return ledger.every.total_seconds() + ELSEWHERE_S


def faults(
    settings: Settings, standing: Mapping[str, Standing], now: datetime, *, has_nodes: bool
) -> Iterator[tuple[Ledger, str]]:
    """Ledgers whose reading is not as it should be, and what is wrong, as a sentence."""
    for ledger in settings.ledgers:
        found = standing.get(ledger.name)
        if found is None:
            if has_nodes:
                yield ledger, "no node has read it yet"
        elif found.why is not None:
            yield ledger, f"it cannot be read: {found.why}; {_since(found.read_at, now)}"
        elif has_nodes and _is_late(ledger, found, now):
            yield ledger, f"nobody reads it; {_since(found.read_at, now)}"


def _is_late(ledger: Ledger, found: Standing, now: datetime) -> bool:
    silent: timedelta = now - found.updated_at
    return silent.total_seconds() > _MISSED * ledger.every.total_seconds() + LEASE_S


def _since(read_at: datetime | None, now: datetime) -> str:
    if read_at is None:
        return "it was never read to its end"
    return (
        f"what was revoked there in the last {(now - read_at).total_seconds():.0f} s is not known"
    )
