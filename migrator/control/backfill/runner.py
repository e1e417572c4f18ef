"""Going through a ledger: page by page, each planted and checkpointed in one transaction.

A page that fails is halved until the row that fails is alone; that one is rejected, the others
are planted. Nothing is lost silently and nothing is done twice.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias

import psycopg
from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from migrator.control.backfill import interrupts, job, plant, rejects
from migrator.control.backfill.interrupts import Interrupts
from migrator.control.backfill.job import Job, Tally
from migrator.control.backfill.rejects import Rejects
from migrator.control.backfill.rows import Cursor, Page, Source
from migrator.core.errors import Stopped
from migrator.stores.queries import in_schema

End: TypeAlias = Literal["done", "limit", "interrupted"]

# An exchange of a token that is being planted waits for the page: keep well below its budget.
PAGE_SECONDS: Final = 0.25
_SMALLEST, _LARGEST, _FIRST = 100, 20_000, 1000
_TRIES: Final = 5

_READ_ONLY = "SET TRANSACTION READ ONLY"
_UTC = "SET LOCAL TIME ZONE 'UTC'"


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """When to stop before the end. A `batch` of None lets the page size follow its duration."""

    rows: int | None = None
    seconds: float | None = None
    batch: int | None = None


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a pass is: rows of all its runs, of about `total`; `here` of this run."""

    done: int
    total: int | None
    here: int
    rejected: int
    seconds: float


Tell: TypeAlias = Callable[[Progress], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How a run ended. `tally` is of the whole pass, `changed` of this run."""

    end: End
    job: str
    tally: Tally
    total: int | None
    here: int
    changed: bool
    resumed: bool
    seconds: float
    examples: tuple[tuple[str, str], ...] = ()


@dataclass(slots=True, kw_only=True)
class Runner:
    """One run over a ledger.

    Args:
        connection: to our database.
        values: the parameters of `plant.terms`.
        dry_run: every statement runs in a read-only transaction and nothing is written anywhere.
    """

    connection: Connection
    schema: str
    source: Source
    values: Mapping[str, Any]
    limits: Limits
    tell: Tell
    dry_run: bool = False
    _clock: Callable[[], float] = time.monotonic
    _size: int = field(init=False, default=_FIRST)

    def run(self, *, issuer: str, who: str, restart: bool, path: Path | None) -> Outcome:
        """Go on where the ledger's job stopped, to the end or to a limit.

        Raises:
            Stopped: see `job.begin`, `Job.keep` and `rejects.opened`.
        """
        self._size = self.limits.batch or _FIRST
        if self.dry_run:
            name = job.name_of(self.source, issuer)
            total = self.source.total()
            return self._go(None, name, Tally(), (), total, Rejects())
        held = job.begin(
            self.connection, self.schema, self.source, issuer=issuer, who=who, restart=restart
        )
        try:
            with rejects.opened(path, go_on=held.resumed) as taken:
                return self._go(held, held.name, held.tally, held.after, held.total, taken)
        except (DBAPIError, OSError, Stopped):
            self._note_failure(held)
            raise

    def _go(  # what a pass is
        self,
        held: Job | None,
        name: str,
        tally: Tally,
        cursor: Cursor,
        total: int | None,
        taken: Rejects,
    ) -> Outcome:
        began, read_before, changes_before = self._clock(), tally.counts["read"], tally.changes
        resumed = held is not None and held.resumed
        end: End = "interrupted"

        def here() -> int:
            return tally.counts["read"] - read_before

        with interrupts.minded() as asked:
            try:
                while not asked.asked:
                    page = self._next(cursor, here())
                    if page is None or self._is_over(here(), self._clock() - began):
                        end = "done" if page is None else "limit"
                        break
                    tally = self._page(page, tally, held, taken, asked)
                    cursor = page.cursor
                    self.tell(
                        Progress(
                            done=tally.counts["read"],
                            total=total,
                            here=here(),
                            rejected=sum(tally.rejected.values()),
                            seconds=self._clock() - began,
                        )
                    )
            except KeyboardInterrupt:
                end = "interrupted"
            with asked.finishing():
                self.connection.rollback()
                if held is not None:
                    tally = self._settle(held, held.saved(self.connection))
                    held.leave(self.connection, "done" if end == "done" else "paused", tally)
        return Outcome(
            end=end,
            job=name,
            tally=tally,
            total=total,
            here=here(),
            changed=not self.dry_run and tally.changes > changes_before,
            resumed=resumed,
            seconds=self._clock() - began,
            examples=tuple(taken.examples),
        )

    def _next(self, cursor: Cursor, here: int) -> Page | None:
        size = self._size
        if self.limits.rows is not None:
            size = max(1, min(size, self.limits.rows - here))
        return self.source.page(cursor, size)

    def _is_over(self, here: int, seconds: float) -> bool:
        limits = self.limits
        return (limits.rows is not None and here >= limits.rows) or (
            limits.seconds is not None and seconds >= limits.seconds
        )

    def _page(
        self, page: Page, tally: Tally, held: Job | None, taken: Rejects, asked: Interrupts
    ) -> Tally:
        """The tally with one page in it, committed with its checkpoint."""
        began = self._clock()
        for attempt in range(1, _TRIES + 1):
            now, rejected = tally.copy(), list[tuple[str, str]]()
            try:
                with asked.finishing():
                    self._open()
                    self._plant(page, now, rejected)
                    if held is None:
                        self.connection.rollback()
                    else:
                        taken.take(rejected)
                        held.keep(self.connection, page.cursor, now)
                        self.connection.commit()
            except DBAPIError as error:
                self.connection.rollback()
                if not _is_transient(error) or attempt == _TRIES:
                    raise
                time.sleep(0.05 * 2**attempt)
                continue
            break
        if held is None:
            taken.take(rejected)
        if self.limits.batch is None:
            self._size = next_size(page.size, self._clock() - began)
        return now

    def _open(self) -> None:
        self.connection.rollback()
        if self.dry_run:
            self.connection.exec_driver_sql(_READ_ONLY)
        self.connection.exec_driver_sql(_UTC)

    def _plant(self, page: Page, tally: Tally, rejected: list[tuple[str, str]]) -> None:
        statement = plant.SURVEY if self.dry_run else plant.PLANT
        try:
            with self.connection.begin_nested():
                relation = page.relation()
                planted = self.connection.exec_driver_sql(
                    in_schema(statement, self.schema).replace("{rows}", relation.sql),
                    {**self.values, **relation.values},
                ).scalar_one()
        except DBAPIError as error:
            if not _is_about_data(error):
                raise
            if page.size == 1:
                tally.counts["read"] += 1
                tally.reject("unreadable")
                rejected.append((page.key, "unreadable"))
                return
            for half in page.halves():
                self._plant(half, tally, rejected)
            return
        tally.add(planted)
        rejected.extend((key, reason) for key, reason in planted["rejects"])

    def _settle(self, held: Job, tally: Tally) -> Tally:
        ended = self.connection.exec_driver_sql(
            in_schema(plant.SETTLE, self.schema), {**self.values, "began": held.began}
        ).scalar_one()
        settled = tally.copy()
        settled.counts["ended"] += ended
        return settled

    def _note_failure(self, held: Job) -> None:
        """Say in the row that the run failed, if the database still takes it."""
        try:
            self.connection.rollback()
            held.fail(self.connection)
        except DBAPIError:
            return


def next_size(size: int, seconds: float) -> int:
    """How many rows the next page has, so that it takes about PAGE_SECONDS."""
    wanted = size * PAGE_SECONDS / max(seconds, 0.001)
    return int(max(_SMALLEST, min(_LARGEST, max(size / 2, min(size * 2, wanted)))))


def _is_about_data(error: DBAPIError) -> bool:
    """Whether a row may be at fault: data, constraints, or more than an index entry holds."""
    state = getattr(error.orig, "sqlstate", None)
    if state is None:
        return isinstance(error.orig, psycopg.DataError)
    return state[:2] in {"22", "23", "54"}


def _is_transient(error: DBAPIError) -> bool:
    """Whether the same page may well pass now: a serialization failure, a deadlock, a lock."""
    state = getattr(error.orig, "sqlstate", None) or ""
    return state[:2] == "40" or state == "55P03"
