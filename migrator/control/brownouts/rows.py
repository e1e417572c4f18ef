"""A brownout as it is on record, and how it stands: every state follows from its row and the time.

Reading only; whoever schedules, pauses or ends one is scheduling.py, or a node (stores/guards.py).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from sqlalchemy import select, text

from migrator.core.brownouts import Brownout, By, Limits
from migrator.stores import tables as page
from migrator.stores.queries import in_schema

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from datetime import datetime

    from sqlalchemy import Connection

State: TypeAlias = Literal[
    "scheduled", "open", "paused", "finished", "aborted", "cancelled", "missed"
]
# In these it stands in the rollout row, where nodes read it.
STANDING: frozenset[State] = frozenset({"scheduled", "open"})
AHEAD: frozenset[State] = STANDING | {"paused"}

# Along the primary key, and so without a sort.
_REFUSED = """
SELECT brownout, count(*) FROM (SELECT DISTINCT brownout, realm, subject FROM {s}.brownout_hits
  WHERE brownout = ANY(CAST(:ids AS bigint[]))) people
GROUP BY brownout"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One brownout; `id` 0: it was only rehearsed."""

    id: int
    created_at: datetime
    created_by: str
    reason: str | None
    starts_at: datetime
    ends_at: datetime
    by: By | None
    value: str | None
    percent: int
    limits: Mapping[str, Any] = field(default_factory=dict)
    forecast: Mapping[str, Any] = field(default_factory=dict)
    paused_at: datetime | None = None
    cancelled_at: datetime | None = None
    cancelled_by: str | None = None
    aborted_at: datetime | None = None
    aborted_why: str | None = None

    def state(self, now: datetime) -> State:
        """How it stands."""
        if self.aborted_at is not None:
            return "aborted"
        if self.cancelled_at is not None:
            return "cancelled"
        if self.paused_at is not None:
            return "paused" if now < self.ends_at else "missed"
        if now < self.starts_at:
            return "scheduled"
        return "open" if now < self.ends_at else "finished"

    @property
    def window(self) -> Brownout:
        """What nodes know of it."""
        return Brownout(
            id=self.id,
            starts_at=self.starts_at,
            ends_at=self.ends_at,
            by=self.by,
            value=self.value or "",
            percent=self.percent,
        )

    @property
    def over_at(self) -> datetime:
        """When it ended, or will: an aborted or cancelled one earlier than it was meant to."""
        ends = (self.ends_at, self.aborted_at, self.cancelled_at)
        return min(one for one in ends if one is not None)

    @property
    def segment(self) -> str:
        """Whom it is about, in words."""
        whom = "all legacy tokens" if self.by is None else f"{self.by}={self.value}"
        return whom if self.percent >= 100 else f"{self.percent} % of {whom}"

    def as_json(self, now: datetime, refused: int | None = None) -> dict[str, Any]:
        """A brownout as the commands print it; `refused`: how many subjects, None: not known."""
        limits = Limits.of(self.limits)
        return {
            "id": self.id or None,
            "state": self.state(now),
            "starts_at": self.starts_at,
            "ends_at": self.ends_at,
            "by": self.by,
            "value": self.value,
            "percent": self.percent,
            "abort_sign_ins": limits.sign_ins,
            "abort_subjects": limits.subjects,
            "created_at": self.created_at,
            "created_by": self.created_by,
            "reason": self.reason,
            "over_at": self.over_at if self.state(now) not in AHEAD else None,
            "why_over": self.aborted_why,
            "cancelled_by": self.cancelled_by,
            "forecast": dict(self.forecast) or None,
            "refused": refused,
        }


def window_json(one: Brownout) -> dict[str, Any]:
    """A window as the rollout row keeps it."""
    return {
        "id": one.id,
        "starts_at": one.starts_at.isoformat(),
        "ends_at": one.ends_at.isoformat(),
        "by": one.by,
        "value": one.value or None,
        "percent": one.percent,
    }


def read(connection: Connection, home: str) -> tuple[Row, ...]:
    """Every brownout there ever was, in the order of their windows."""
    table = page.in_schema(home).tables[f"{home}.brownouts"]
    rows = connection.execute(select(table).order_by(table.c.starts_at, table.c.id)).mappings()
    return tuple(Row(**row) for row in rows)


def refused(connection: Connection, home: str, rows: Iterable[Row]) -> dict[int, int] | None:
    """How many subjects each refused; None once `retire` took that record away."""
    name = f'"{home}".brownout_hits'
    if connection.scalar(text("SELECT to_regclass(:name)"), {"name": name}) is None:
        return None
    ids = [row.id for row in rows]
    found = connection.execute(text(in_schema(_REFUSED, home)), {"ids": ids})
    return {number: count for number, count in found.all()}  # noqa: C416 - rows are not pairs
