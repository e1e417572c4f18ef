"""Holding our rows against a ledger's: `backfill verify`, a gate and not advice.

Rows of the ledger are drawn (or all are taken) and each is found to be as it should be or not;
then rows of ours that came from a ledger are looked up in it. Everything is read in transactions
that cannot write; the result alone is kept, in the row of the backfill.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

from sqlalchemy import Connection, select

from migrator.control.backfill import job, plant, refusals, sampling, verified
from migrator.control.backfill.comparing import COMPARE, FINDINGS, OURS_AFTER, OURS_SAMPLED
from migrator.control.backfill.ledger import quoted
from migrator.control.backfill.order import Order, opened
from migrator.control.backfill.rows import Relation, Source
from migrator.control.backfill.simplejwt import Ledger
from migrator.core.errors import Exit
from migrator.settings import Settings
from migrator.stores import tables
from migrator.stores.queries import in_schema

SAMPLE: Final = 1000
MOST_NAMED: Final = 100
_READ_ONLY = ("SET TRANSACTION READ ONLY", "SET LOCAL TIME ZONE 'UTC'")
# By half of a fingerprint: that two of them agree in it is not to be expected.
_MARK_BYTES: Final = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Draw:
    """Which rows are compared: `size` of them by `seed`, or with None all."""

    size: int | None = SAMPLE
    seed: int = 0


@dataclass(slots=True)
class Verification:
    """What a verification found.

    Args:
        counts: rows of the ledger by finding; of: how many there are.
        extra_of: how many of our rows were looked up in the ledger; None: they could not be.
        named: the first differences, by the key of their row, never by a token.
        at: when it was recorded; None: it was rehearsed.
    """

    order: Order
    draw: Draw
    place: str
    job: str
    of: int | None
    counts: Counter[str] = field(default_factory=Counter)
    extra_of: int | None = None
    extra_why: str | None = None
    named: list[tuple[str, str]] = field(default_factory=list)
    at: datetime | None = None

    @property
    def rows(self) -> int:
        """How many rows of the ledger were compared."""
        return sum(self.counts.values()) - self.counts["extra"]

    @property
    def differences(self) -> int:
        """How many should not be."""
        return sum(n for name, n in self.counts.items() if FINDINGS[name].is_difference)

    @property
    def exit_code(self) -> Exit:
        """DIFFERENCES if there is one."""
        return Exit.DIFFERENCES if self.differences else Exit.DONE

    def note(self, key: str, finding: str) -> None:
        """Count a finding, and name it if it is a difference."""
        self.counts[finding] += 1
        if FINDINGS[finding].is_difference and len(self.named) < MOST_NAMED:
            self.named.append((key, finding))

    def as_json(self) -> dict[str, Any]:
        """The result as `migrator.verified/1`, without what every result has."""
        return {
            "source": self.order.kind,
            "place": self.place,
            "issuer": self.order.issuer,
            "job": self.job,
            "dry_run": self.order.dry_run,
            "all": self.draw.size is None,
            "seed": None if self.draw.size is None else self.draw.seed,
            "rows": self.rows,
            "of": self.of,
            "counts": {name: self.counts[name] for name in FINDINGS if self.counts[name]},
            "differences": self.differences,
            "named": [
                {"row": row, "finding": name, "words": FINDINGS[name].words}
                for row, name in self.named
            ],
            "extra": {"checked": self.extra_of, "why": self.extra_why},
            "at": self.at,
        }


def verify(settings: Settings, order: Order, draw: Draw) -> Verification:
    """Compare the ledger that `order` names with our rows, and keep the result.

    Raises:
        Stopped: as `order.fulfil`; GATE_FAILED, no backfill of it is done; CONFLICT, one runs.
    """
    with opened(settings, order) as (connection, issuer, source):
        name = job.name_of(source, issuer.id)
        home = settings.database.schema
        began, others = _begun(connection, home, name, {"issuer": issuer.id, **source.identity})
        terms = {
            **plant.terms(settings, issuer, by=order.who),
            "began": began,
            "keep_ended": settings.sessions.keep_ended,
        }
        drawn = (
            sampling.all_of(source)
            if draw.size is None
            else sampling.some_of(source, draw.size, draw.seed)
        )
        found = Verification(order, draw, source.place, name, drawn.of)
        marks: set[bytes] | None = set() if draw.size is None else None
        for relation in drawn.relations:
            for key, finding, of in _compared(connection, home, relation, terms):
                found.note(key, finding)
                if marks is not None and of is not None:
                    marks.add(bytes(of)[:_MARK_BYTES])
        if others:
            found.extra_why = f"{others} more of the issuer's ledgers were read: none lists all"
        else:
            _look_up(_Side(connection, home, issuer.id), source, found, marks)
        if not order.dry_run:
            kept = {"rows": found.rows, "of": found.of, "differences": found.differences}
            found.at = verified.record(connection, home, name, {**kept, "who": order.who})
    return found


def _begun(
    connection: Connection, home: str, name: str, wanted: dict[str, object]
) -> tuple[datetime, int]:
    """When the ledger's backfill began, and how many others there are of its issuer.

    Raises:
        Stopped: GATE_FAILED, none is done, or it was read otherwise; CONFLICT, it is running.
    """
    jobs = tables.in_schema(home).tables[f"{home}.{tables.jobs.name}"]
    rows = connection.execute(select(jobs).where(jobs.c.source.is_not(None))).all()
    connection.rollback()
    row = next((each for each in rows if each.name == name), None)
    if row is None or row.state not in {"done", "running"}:
        raise refusals.unfinished(name, None if row is None else row.state)
    if row.state == "running":
        raise refusals.taken(name, row.detail.get("who", "somebody else"))
    before = row.detail.get("identity", {})
    differing = [key for key in wanted if before.get(key) != wanted[key]]
    if differing:
        raise refusals.changed(name, differing)
    others = sum(
        each.name != name
        and each.source not in _WITHOUT_SESSIONS
        and each.detail.get("identity", {}).get("issuer") == wanted["issuer"]
        for each in rows
    )
    return row.started_at, others


_WITHOUT_SESSIONS: Final = frozenset({"redis", "denylist"})


def _compared(
    connection: Connection, home: str, relation: Relation, terms: dict[str, Any]
) -> list[tuple[str, str, bytes | None]]:
    with _reading(connection):
        statement = in_schema(COMPARE, home).replace("{rows}", relation.sql)
        rows = connection.exec_driver_sql(statement, {**terms, **relation.values}).all()
    return [(row[0], row[1], row[2]) for row in rows]


@dataclass(frozen=True, slots=True)
class _Side:
    """Our rows of one issuer that a ledger gave."""

    connection: Connection
    home: str
    issuer: str

    def sampled(self, size: int, seed: int) -> list[Any]:
        """Session id, jti and fingerprint of some."""
        return self._rows(OURS_SAMPLED, room=size, seed=seed)

    def each(self) -> Iterator[Any]:
        """The same of all, in their order."""
        after = b""
        while rows := self._rows(OURS_AFTER, after=after, room=10 * sampling.ROOM):
            yield from rows
            after = bytes(rows[-1][2])

    def _rows(self, statement: str, **values: Any) -> list[Any]:
        with _reading(self.connection):
            return [
                *self.connection.exec_driver_sql(
                    in_schema(statement, self.home), {"issuer": self.issuer, **values}
                ).all()
            ]


def _look_up(side: _Side, source: Source, found: Verification, marks: set[bytes] | None) -> None:
    """Find rows of ours that the ledger does not list: by fingerprint, or by jti in a sample."""
    if source.kind in _WITHOUT_SESSIONS:
        found.extra_why = "it lists who is refused: no session of ours comes from it"
        return
    if marks is not None:
        found.extra_of = 0
        for session, _, fingerprint in side.each():
            found.extra_of += 1
            if bytes(fingerprint)[:_MARK_BYTES] not in marks:
                found.note(f"session {session}", "extra")
        return
    column = _jti_column(source)
    if column is None or not isinstance(source, Ledger):
        found.extra_why = "it has no column of jtis to look ours up by: --all compares them"
        return
    size = found.draw.size or SAMPLE
    ours = [row for row in side.sampled(size, found.draw.seed) if row[1] is not None]
    listed = _listed(source, column, [row[1] for row in ours])
    found.extra_of = len(ours)
    for session, jti, _ in ours:
        if jti not in listed:
            found.note(f"session {session}", "extra")


def _jti_column(source: Source) -> str | None:
    if source.kind == "simplejwt":
        return "jti"
    columns = source.identity.get("columns")
    return columns.get("jti") if isinstance(columns, dict) else None


def _listed(source: Ledger, column: str, jtis: list[str]) -> set[str]:
    reader = source.reader
    try:
        rows = reader.connection.exec_driver_sql(
            f"SELECT {quoted(column)}::text FROM {reader.table.name} l"  # noqa: S608 - identifiers are quoted
            f" WHERE {quoted(column)}::text = ANY(%(jtis)s)",
            {"jtis": jtis},
        ).all()
    finally:
        reader.connection.rollback()
    return {row[0] for row in rows}


@contextmanager
def _reading(connection: Connection) -> Iterator[None]:
    """A transaction that cannot write, and leaves nothing."""
    connection.rollback()
    for statement in _READ_ONLY:
        connection.exec_driver_sql(statement)
    try:
        yield
    finally:
        connection.rollback()
