"""The processes that run the shim: who lives, who acknowledged which epoch, who stands out.

A lease is a row and ends by itself. Lease over and silent: gone, blocks nothing. Lease over and
still seen: rogue, blocks.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from sqlalchemy import select

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from datetime import datetime

    from sqlalchemy import Connection, MetaData

# The pulse beats every 2 s; three beats missed is news, five (its lease) is a node gone.
_LATE = timedelta(seconds=6)
# Who serves without a pulse is heard of when it serves. Silent for this long it was ended, and
# what it left on record may block nothing.
_SILENT = timedelta(minutes=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """What one process said of itself when it was last heard."""

    id: str
    build: str | None
    host: str | None
    pid: int | None
    epoch: int | None
    acked_at: datetime | None
    lease_until: datetime | None
    seen_at: datetime
    started_at: datetime
    sees_tables: bool
    has_keys: bool
    key_ids: tuple[str, ...]
    clock_skew_ms: int | None
    last_jwt_issued_at: datetime | None
    issued_horizon: datetime | None
    vitals: Mapping[str, Any] = field(default_factory=dict)

    def lives(self, now: datetime) -> bool:
        """Whether its lease holds."""
        return self.lease_until is not None and self.lease_until > now

    def is_rogue(self, now: datetime) -> bool:
        """Whether it was heard after its lease was over: it acts on, and blocks."""
        return (
            self.lease_until is not None
            and not self.lives(now)
            and self.lease_until < self.seen_at
            and now - self.seen_at < _SILENT
        )

    def state(self, now: datetime, epoch: int) -> str:
        """In one word: acked, waiting, stale, rogue or gone."""
        if self.is_rogue(now):
            return "rogue"
        if not self.lives(now):
            return "gone"
        if now - self.seen_at > _LATE:
            return "stale"
        return "acked" if self.epoch == epoch else "waiting"


@dataclass(frozen=True, slots=True, kw_only=True)
class Fleet:
    """All nodes at one moment, under one epoch."""

    nodes: tuple[Node, ...]
    epoch: int
    now: datetime
    expected: int | None = None
    build: str | None = None

    @property
    def live(self) -> tuple[Node, ...]:
        """Those whose lease holds."""
        return tuple(node for node in self.nodes if node.lives(self.now))

    @property
    def acked(self) -> tuple[Node, ...]:
        """The living that acknowledged the present epoch."""
        return tuple(node for node in self.live if node.epoch == self.epoch)

    @property
    def waiting(self) -> tuple[Node, ...]:
        """The living that did not."""
        return tuple(node for node in self.live if node.epoch != self.epoch)

    @property
    def rogue(self) -> tuple[Node, ...]:
        """Heard after their lease was over."""
        return tuple(node for node in self.nodes if node.is_rogue(self.now))

    @property
    def is_silent(self) -> bool:
        """Whether none lives, none acts without a lease, and none was heard for a minute."""
        heard = self.heard_at
        return not self.live and (heard is None or self.now - heard >= _SILENT)

    @property
    def gone(self) -> tuple[Node, ...]:
        """Lease over, and silent since."""
        return tuple(
            node for node in self.nodes if not node.lives(self.now) and not node.is_rogue(self.now)
        )

    @property
    def stale(self) -> tuple[Node, ...]:
        """Living by their lease, and late with their beat."""
        return tuple(node for node in self.live if self.now - node.seen_at > _LATE)

    @property
    def old_build(self) -> tuple[Node, ...]:
        """The living that run another release than this command."""
        return tuple(node for node in self.live if node.build not in {None, self.build})

    @property
    def heard_at(self) -> datetime | None:
        """When a node was last heard: the age of everything nodes report."""
        return max((node.seen_at for node in self.nodes), default=None)

    @property
    def acked_at(self) -> datetime | None:
        """When the last living node acknowledged the present epoch; None while one has not."""
        if self.waiting or not self.live:
            return None
        return max((node.acked_at or node.seen_at for node in self.live), default=None)


def read(connection: Connection, tables: MetaData, schema: str) -> tuple[Node, ...]:
    """Every node on record, the longest living first."""
    table = tables.tables[f"{schema}.nodes"]
    rows = connection.execute(select(table).order_by(table.c.started_at, table.c.id)).mappings()
    return tuple(Node(**{**row, "key_ids": tuple(row["key_ids"])}) for row in rows)


def names(nodes: Iterable[Node], room: int = 5) -> str:
    """Some names, and how many more there are."""
    ids = [node.id for node in nodes]
    more = f" and {len(ids) - room} more" if len(ids) > room else ""
    return ", ".join(ids[:room]) + more
