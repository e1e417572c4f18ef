"""A column of users that says from when on tokens count: each date becomes a cutoff.

`tokens_valid_after`, `password_changed_at`, `last_logout_at`: where the app compares a token's iat
with such a column, a backfill of tokens would not know. Dates that no living token can be older
than are passed over; a later date of the same subject moves its cutoff on, an earlier one never
moves it back. What is written and what is ended is a polled ledger's doing (`stores/ledgers.py`),
with its locks; what is read and counted is here. A page is repeated after a crash and does nothing
twice: its subjects are counted as known then.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias

import psycopg
from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from migrator.control import revisions
from migrator.control.backfill import interrupts, order, refusals, rejects
from migrator.control.backfill import mapping as maps
from migrator.control.backfill.interrupts import Interrupts
from migrator.control.backfill.ledger import Reader, Table, describe, quoted
from migrator.control.backfill.reading import KINDS_OF, Values
from migrator.control.backfill.rejects import Rejects
from migrator.control.backfill.rows import Cursor, Page
from migrator.control.ledgers.building import ours
from migrator.control.ledgers.reading import as_text, longest_of_realm, terms_of_realm
from migrator.core.errors import Exit, Stopped, Unavailable
from migrator.core.interfaces import Cache
from migrator.settings import Settings
from migrator.stores.ledgers import Ledgers, NotDue, Tally

End: TypeAlias = Literal["done", "limit", "interrupted"]
OURS: Final = ("subject", "not_before", "realm")
COUNTS: Final = ("read", "cut", "already", "unset", "past", "ended")
PAGE: Final = 500
# A run that was killed is over when it kept nothing for so long; a page is far shorter.
LEASE_S: Final = 20.0
_READ_AS: Final[Mapping[str, str]] = {"not_before": "iat", "realm": "client"}
_YEARS_S: Final = 3.2e9  # nobody polls it: it is due when it is asked for


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What is asked for.

    Args:
        columns: as given to `--columns`.
        realm: of every subject where no column says it; that of sessions by default.
        source_url: the table's database where it is not ours; a secret. source_name: how it was
            named, which is none.
    """

    place: str
    columns: str
    realm: str | None = None
    source_url: str | None = field(default=None, repr=False)
    source_name: str | None = None
    rows: int | None = None
    seconds: float | None = None
    rejects: Path | None = None
    restart: bool = False
    dry_run: bool = False


@dataclass(slots=True)
class Outcome:
    """How it ended. The counts are of the whole pass, in all its runs.

    Args:
        counts: see COUNTS. cut: subjects newly cut off, or later than before; already: those
            known; unset: without a date; past: dates that concern no living token.
    """

    place: str
    job: str
    end: End = "done"
    counts: dict[str, int] = field(default_factory=lambda: dict.fromkeys(COUNTS, 0))
    rejected: dict[str, int] = field(default_factory=dict)
    total: int = 0
    resumed: bool = False
    changed: bool = False
    dry_run: bool = False
    examples: list[tuple[str, str]] = field(default_factory=list)

    @property
    def exit_code(self) -> Exit:
        """How the command ends."""
        return order.EXITS[self.end]

    def as_json(self) -> dict[str, Any]:
        """The result as `migrator.not-before/1`, without what every result has."""
        return {
            "place": self.place,
            "job": self.job,
            "dry_run": self.dry_run,
            "end": self.end,
            "resumed": self.resumed,
            "total": self.total,
            **self.counts,
            "rejected": sum(self.rejected.values()),
            "rejected_by_reason": dict(sorted(self.rejected.items())),
            "examples": [{"row": row, "reason": reason} for row, reason in self.examples],
        }


Tell: TypeAlias = Callable[[int, int], None]


def fulfil(settings: Settings, asked: Order, cache: Cache, tell: Tell) -> Outcome:
    """Make cutoffs of the dates of a table of users, from where it was left.

    Args:
        tell: called after each page with the rows done, and how many there are.

    Raises:
        Stopped: UNREACHABLE; UNFIT; IRREVERSIBLE, retired; USAGE, the order; CONFLICT, it runs;
            GATE_FAILED, it was begun otherwise.
        Unavailable: our database could not be written any more; run it again.
    """
    columns = _parsed(asked.columns)
    realms = {issuer.realm for issuer in settings.issuers} | {settings.sessions.realm}
    if asked.realm is not None and asked.realm not in realms:
        raise refusals.unknown_realm(asked.realm, sorted(realms))
    with order.fit(settings) as connection, _theirs(connection, asked) as theirs:
        table = describe(theirs, asked.place)
        missing = maps.missing(columns, table.types)
        if missing:
            raise refusals.no_columns(table.name, missing, source="not-before")
        reader = Reader(theirs, table, _select(table, columns), elsewhere=False)
        writes = ours(settings, cache, rehearses=asked.dry_run)
        place = table.name.replace("%%", "%")
        place += f" at {asked.source_name}" if asked.source_url else ""
        try:
            return _Run(settings, asked, reader, writes, place, realms, columns).go(tell)
        finally:
            writes.close()


def _parsed(given: str) -> dict[str, str]:
    found = maps.pairs(given, OURS, do=refusals.DATES_COLUMNS)
    if not {"subject", "not_before"} <= found.keys():
        raise refusals.bad_columns(
            "a date needs its subject and not_before", do=refusals.DATES_COLUMNS
        )
    return found


@contextmanager
def _theirs(connection: Connection, asked: Order) -> Iterator[Connection]:
    if asked.source_url is None:
        yield connection
        return
    with revisions.connected(asked.source_url) as other:
        yield other.execution_options(postgresql_readonly=True)


def _select(table: Table, columns: Mapping[str, str]) -> Callable[[str, str, Values], str]:
    read = {}
    for ours_, theirs in columns.items():
        kinds, kind = KINDS_OF[_READ_AS.get(ours_, ours_)], table.types[theirs]
        if kind not in kinds:
            raise refusals.bad_columns(
                f"{theirs} is of type {kind}; {ours_} can be read from {', '.join(kinds)}",
                do=refusals.DATES_COLUMNS,
            )
        read[ours_] = kinds[kind].replace("{c}", quoted(theirs))
    of = ", ".join(read.get(name, "NULL::text") for name in OURS)

    def select(key: str, where: str, _: Values) -> str:
        return f"SELECT {key}, {of} FROM {table.name} l {where}"  # noqa: S608 - identifiers are quoted

    return select


@dataclass(frozen=True, slots=True)
class _Found:
    key: str
    subject: str | None = None
    at: datetime | None = None
    realm: str | None = None
    is_readable: bool = True


@dataclass(slots=True)
class _Run:
    """One run over the table."""

    settings: Settings
    asked: Order
    reader: Reader
    writes: Ledgers
    place: str
    realms: set[str]
    columns: Mapping[str, str]
    id: str = field(default_factory=lambda: uuid.uuid4().hex)

    @property
    def job(self) -> str:
        """What its row is called. No backfill of a ledger: nothing waits for a token there."""
        return f"not-before:{self.place}"

    def go(self, tell: Tell) -> Outcome:
        found = Outcome(self.place, self.job, dry_run=self.asked.dry_run)
        found.total = self.reader.total()
        after, now = self._begin(found)
        path = None if found.dry_run else self.asked.rejects
        try:
            with (
                rejects.opened(path, go_on=found.resumed) as taken,
                interrupts.minded() as interrupt,
                interrupt.finishing(),
            ):
                self._pages(after, now, found, taken, interrupt, tell)
                self._leave(found, None)
        except (DBAPIError, OSError, Stopped) as error:
            with suppress(Unavailable):
                self._leave(found, type(error).__name__)
            raise
        found.examples = [*taken.examples]
        return found

    def _pages(
        self,
        after: Cursor,
        now: datetime,
        found: Outcome,
        taken: Rejects,
        interrupt: Interrupts,
        tell: Tell,
    ) -> None:
        began, here = time.monotonic(), 0
        while not interrupt.asked:
            page = self.reader.page(after, self._room(here))
            if page is None:
                return
            if self._is_over(here, time.monotonic() - began):
                found.end = "limit"
                return
            self._page(page, found, taken, now)
            after = page.cursor
            self._keep(after, found, page.size)
            here += page.size
            tell(found.counts["read"], found.total)
        found.end = "interrupted"

    def _room(self, here: int) -> int:
        return PAGE if self.asked.rows is None else max(1, min(PAGE, self.asked.rows - here))

    def _is_over(self, here: int, seconds: float) -> bool:
        rows, most = self.asked.rows, self.asked.seconds
        return (rows is not None and here >= rows) or (most is not None and seconds >= most)

    # The row of the run.

    def _begin(self, found: Outcome) -> tuple[Cursor, datetime]:
        if found.dry_run:
            return (), self.writes.now()
        try:
            kept, now = self.writes.claim(self.job, self.id, LEASE_S, at_once=True)
        except NotDue:
            raise refusals.taken(self.job, "somebody else") from None
        after = tuple(kept.get("after", ())) if not self.asked.restart else ()
        if after:
            if kept.get("columns") != self._identity:
                self.writes.leave(self.job, self.id, _YEARS_S, Tally(), {"why": "refused"})
                raise refusals.changed(self.job, ["columns"])
            found.counts |= kept.get("counts", {})
            found.rejected |= kept.get("rejected", {})
            found.resumed = True
        return after, now

    @property
    def _identity(self) -> dict[str, Any]:
        return {**self.columns, "of_realm": self.asked.realm}

    def _keep(self, after: Cursor, found: Outcome, read: int) -> None:
        if found.dry_run:
            return
        kept = {
            "after": list(after),
            "columns": self._identity,
            "counts": found.counts,
            "rejected": found.rejected,
        }
        if not self.writes.keep(self.job, self.id, LEASE_S, kept, read):
            raise refusals.taken(self.job, "somebody else")

    def _leave(self, found: Outcome, why: str | None) -> None:
        if found.dry_run:
            return
        if found.end == "done" and why is None:  # the next one begins at the beginning
            self.writes.keep(self.job, self.id, LEASE_S, {}, 0)
        tally = Tally(denied=found.counts["cut"], ended=found.counts["ended"])
        self.writes.leave(self.job, self.id, _YEARS_S, tally, {"why": why, "end": found.end})

    # A page.

    def _page(self, page: Page, found: Outcome, taken: Rejects, now: datetime) -> None:
        rejected: list[tuple[str, str]] = []
        changes: dict[str, dict[str, datetime]] = {}
        for row in self._rows(page):
            found.counts["read"] += 1
            whose = row.realm or self.asked.realm or self.settings.sessions.realm
            who = as_text(row.subject)
            reason = self._fault(row, who, whose)
            if reason is not None:
                rejected.append((row.key, reason))
            elif row.at is None:
                found.counts["unset"] += 1
            elif self._is_past(row.at, whose, now):
                found.counts["past"] += 1
            elif who is not None:
                theirs = changes.setdefault(whose, {})
                theirs[who] = max(row.at, theirs.get(who, row.at))
                found.counts["already"] += 1
        for whose, theirs in changes.items():
            terms = terms_of_realm(self.settings, whose, by=f"backfill:{self.place}")
            tally = self.writes.cut_changed(theirs, terms)
            found.counts["cut"] += tally.denied
            found.counts["already"] -= tally.denied
            found.counts["ended"] += tally.ended
            found.changed |= not found.dry_run and bool(tally.denied or tally.ended)
        for _, reason in rejected:
            found.rejected[reason] = found.rejected.get(reason, 0) + 1
        taken.take(rejected)

    def _fault(self, row: _Found, who: str | None, whose: str) -> str | None:
        if not row.is_readable:
            return "unreadable"
        if row.at is None:
            return None
        if who is None:
            return "bad_subject"
        return None if whose in self.realms else "unknown_realm"

    def _is_past(self, at: datetime, realm: str, now: datetime) -> bool:
        longest = longest_of_realm(self.settings, realm)
        return longest is not None and at + _A_DAY < now - longest

    def _rows(self, page: Page) -> list[_Found]:
        """The rows of a page; one that fails alone has a date that cannot be read."""
        relation, connection = page.relation(), self.reader.connection
        try:
            connection.exec_driver_sql("SET LOCAL TIME ZONE 'UTC'")
            rows = connection.exec_driver_sql(relation.sql, relation.values).all()
            return [_Found(*row) for row in rows]
        except DBAPIError as error:
            if not _is_about_data(error):
                raise
            if page.size == 1:
                return [_Found(page.key, is_readable=False)]
        finally:
            connection.rollback()
        first, second = page.halves()
        return [*self._rows(first), *self._rows(second)]


_A_DAY: Final = timedelta(days=1)  # of clocks and time zones that nobody wrote down


def _is_about_data(error: DBAPIError) -> bool:
    state = getattr(error.orig, "sqlstate", None)
    return state[:2] == "22" if state else isinstance(error.orig, psycopg.DataError)
