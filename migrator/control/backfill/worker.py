"""One of those that plant: range after range, page after page, each page one transaction.

A page that fails is halved until the row that fails is alone; that one is rejected, the others
are planted. Nothing is lost silently and nothing is done twice.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, Final

import psycopg
from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from migrator.control.backfill import plant
from migrator.control.backfill.board import Board
from migrator.control.backfill.pacing import FIRST, next_size
from migrator.control.backfill.ranges import Range, Ranges
from migrator.control.backfill.rejects import Rejects
from migrator.control.backfill.rows import Cursor, Page, Source, Splittable
from migrator.control.backfill.tally import Tally
from migrator.stores.queries import in_schema

_TRIES: Final = 5
_READ_ONLY = "SET TRANSACTION READ ONLY"
# A page and its checkpoint are one transaction: a crash of the server that loses the one loses the
# other, and the next run plants it again. What a run says it has done is written after a last
# commit that waits for the disk, and with it all before. The memory is for one page's rows.
_OPEN = (
    "SET LOCAL TIME ZONE 'UTC'; SET LOCAL synchronous_commit = off; SET LOCAL work_mem = '64MB'"
)


@dataclass(slots=True, kw_only=True)
class Worker:
    """One worker of a run.

    Args:
        index: the first `Knobs.workers` of them may work.
        values: the parameters of `plant.terms`.
        ranges: None: a rehearsal, of the whole ledger, which writes nothing.
    """

    index: int
    connection: Connection
    schema: str
    source: Source
    values: Mapping[str, Any]
    ranges: Ranges | None
    board: Board
    taken: Rejects
    held: Range | None = None
    _size: int = field(init=False, default=FIRST)

    def run(self) -> None:
        """Work until there is no range left, or until the board says otherwise."""
        while self.board.turn(self.index):
            held = self._claim()
            if held is None:
                return
            self.held = held
            try:
                with self._part(held.up_to) as source:
                    is_done = self._through(source, held)
            except DBAPIError as error:
                if not error.connection_invalidated:
                    self._give_back(held)
                raise
            if not is_done:
                self._give_back(held)
            self.held = None
            if self.ranges is None:
                return

    def _give_back(self, held: Range) -> None:
        self.connection.rollback()
        if self.ranges is not None:
            self.ranges.give_back(self.connection, held.number)

    def _claim(self) -> Range | None:
        if self.ranges is None:
            return Range(number=0, tally=Tally())
        return self.ranges.claim(self.connection)

    @contextmanager
    def _part(self, up_to: Cursor) -> Iterator[Source]:
        # A ledger that only one can read has one range, and its end is its own.
        if self.ranges is None or not isinstance(self.source, Splittable):
            yield self.source
            return
        with self.source.part(self.connection, up_to) as part:
            yield part

    def _through(self, source: Source, held: Range) -> bool:
        """Plant a range; False: somebody said stop before its end."""
        board = self.board
        while board.turn(self.index):
            began = time.monotonic()
            page, is_limit = self._next(source, held.after)
            if page is None:
                self._finish(held)
                return True
            if is_limit or (board.here and board.is_late):
                board.refund(0 if is_limit else page.size)
                board.stop("limit")
                return False
            held = self._page(page, held)
            board.rest(time.monotonic() - began)
        return False

    def _next(self, source: Source, after: Cursor) -> tuple[Page | None, bool]:
        """The next page; and whether the limit of rows is met, so that it is only a look."""
        wanted = self.board.knobs.batch or self._size
        room = self.board.reserve(wanted)
        page = source.page(after, room or 1)
        if room:
            self.board.refund(room - (0 if page is None else page.size))
        return page, not room

    def _finish(self, held: Range) -> None:
        if self.ranges is None:
            self.connection.rollback()
            return
        self.connection.rollback()
        self.ranges.keep(self.connection, held, held.after, held.tally, done=True)
        self.connection.commit()

    def _page(self, page: Page, held: Range) -> Range:
        """The range with one page more, committed with its checkpoint."""
        began = time.monotonic()
        for attempt in range(1, _TRIES + 1):
            found, rejected = Tally(), list[tuple[str, str]]()
            now = held.tally.copy()
            try:
                self._open()
                self._plant(page, found, rejected)
                now.include(found)
                if self.ranges is None:
                    self.connection.rollback()
                else:
                    self.taken.take(rejected)
                    self.ranges.keep(self.connection, held, page.cursor, now, done=False)
                    self.connection.commit()
            except DBAPIError as error:
                if self.connection.invalidated:
                    raise
                self.connection.rollback()
                if not _is_transient(error) or attempt == _TRIES:
                    raise
                time.sleep(0.05 * 2**attempt)
                continue
            break
        if self.ranges is None:
            self.taken.take(rejected)
        self._size = next_size(page.size, time.monotonic() - began)
        self.board.count(found)
        return replace(held, after=page.cursor, tally=now)

    def _open(self) -> None:
        self.connection.rollback()
        if self.ranges is None:
            self.connection.exec_driver_sql(_READ_ONLY)
        self.connection.exec_driver_sql(_OPEN)

    def _plant(self, page: Page, tally: Tally, rejected: list[tuple[str, str]]) -> None:
        statement = plant.SURVEY if self.ranges is None else plant.PLANT
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
            if page.size <= 1:
                tally.counts["read"] += 1
                tally.reject("unreadable")
                rejected.append((page.key, "unreadable"))
                return
            for half in page.halves():
                self._plant(half, tally, rejected)
            return
        tally.add(planted)
        rejected.extend((key, reason) for key, reason in planted["rejects"])


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
