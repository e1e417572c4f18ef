"""One run over a ledger: who works, how fast, until when, and what is said of it at the end.

The work is done by the threads of `worker.py`, which meet on a `board.Board`; the database is
where it is hard, so threads are enough. This thread looks about twice a second: at what is asked
of the job from another terminal, at the health of the database, at the clock.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from migrator.control.backfill import health, interrupts, job, plant, rejects
from migrator.control.backfill.board import Board, End, Progress, Tell
from migrator.control.backfill.interrupts import Interrupts
from migrator.control.backfill.job import Job
from migrator.control.backfill.pacing import Knobs, Limits, next_size
from migrator.control.backfill.ranges import Range, Ranges
from migrator.control.backfill.rejects import Rejects
from migrator.control.backfill.rows import Source, Splittable
from migrator.control.backfill.tally import Tally
from migrator.control.backfill.worker import Worker
from migrator.core.errors import Stopped
from migrator.stores.queries import in_schema

__all__ = ["End", "Limits", "Outcome", "Progress", "Runner", "Tell", "next_size"]

LOOK_SECONDS: Final = 0.5
_LOST: Final = 3  # so many workers' connections may break in a run


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How a run ended. `tally` is of the whole pass, `changed` of this run.

    Args:
        why: why it ended before the end, where the end alone does not say.
    """

    end: End
    job: str
    tally: Tally
    total: int | None
    here: int
    changed: bool
    resumed: bool
    seconds: float
    examples: tuple[tuple[str, str], ...] = ()
    why: str | None = None
    workers: int = 1


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
    _threads: list[threading.Thread] = field(init=False, default_factory=list)
    _backends: dict[int, Connection] = field(init=False, default_factory=dict)
    _lost: int = field(init=False, default=0)

    def run(self, *, issuer: str, who: str, restart: bool, path: Path | None) -> Outcome:
        """Go on where the ledger's job stopped, to the end or to a limit.

        Raises:
            Stopped: see `job.begin`, `Job.look`, `Ranges.keep` and `rejects.opened`.
        """
        if self.dry_run:
            name, total = job.name_of(self.source, issuer), self.source.total()
            board, taken = self._board(Tally(), total), Rejects()
            with interrupts.minded() as asked, asked.finishing():
                self._start(board, None, taken, 1)
                while board.working:
                    board.wait(LOOK_SECONDS)
                    self._heed(board, asked)
            return self._outcome(board, name, board.tally, taken, None)
        held = job.begin(
            self.connection,
            self.schema,
            self.source,
            issuer=issuer,
            who=who,
            restart=restart,
            knobs=self.limits.knobs.as_json(),
        )
        ranges = Ranges(self.schema, held)
        ranges.take(self.connection)
        try:
            with rejects.opened(path, go_on=held.resumed) as taken:
                return self._go(held, ranges, taken)
        except (DBAPIError, OSError, Stopped):
            self._note_failure(held)
            raise

    def _board(self, before: Tally, total: int | None) -> Board:
        return Board(
            limits=self.limits,
            knobs=self.limits.knobs,
            before=before,
            total=total,
            tell=self.tell,
            clock=self._clock,
        )

    def _go(self, held: Job, ranges: Ranges, taken: Rejects) -> Outcome:
        if not ranges.are_laid(self.connection):
            ranges.lay(self.connection, self.source)
        before = ranges.total(self.connection)
        self.connection.rollback()
        board = self._board(before, held.total)
        with interrupts.minded() as asked, asked.finishing():
            try:
                self._watch(board, held, ranges, taken, asked)
            finally:
                self._end(board)
            if board.failure is not None:
                raise board.failure
            self.connection.rollback()
            tally = ranges.total(self.connection)
            ended = held.settled + self._settle(held)
            tally.counts["ended"] += ended
            state = "done" if board.end is None else "paused"
            held.leave(self.connection, state, tally, settled=ended)
        return self._outcome(board, held.name, tally, taken, held)

    def _outcome(
        self, board: Board, name: str, tally: Tally, taken: Rejects, held: Job | None
    ) -> Outcome:
        ended = 0 if held is None else tally.counts["ended"] - board.before.counts["ended"]
        return Outcome(
            end=board.end or "done",
            job=name,
            tally=tally,
            total=board.total,
            here=board.here,
            changed=held is not None
            and (board.tally.changes > 0 or ended > held.settled + board.tally.counts["ended"]),
            resumed=held is not None and held.resumed,
            seconds=board.seconds,
            examples=tuple(taken.examples),
            why=board.why,
            workers=board.knobs.workers,
        )

    # ---- while it is going on ------------------------------------------------------------------

    def _watch(
        self, board: Board, held: Job, ranges: Ranges, taken: Rejects, asked: Interrupts
    ) -> None:
        sick = 0
        with self._another() as connection:
            while True:
                detail = held.look(connection, _said(board))
                verdict, held_up = self._seen(connection)
                sick = sick + 1 if verdict.hard else 0
                if sick >= health.PATIENCE:
                    board.stop("limit", verdict.hard[0])
                if detail.get("asked") == "pause":
                    board.stop("paused", f"asked for by {detail.get('asked_by')}")
                knobs = Knobs.of(detail.get("knobs", {}))
                board.set_pace(knobs, slower=verdict.soft, held_up=(*held_up, *verdict.hard))
                if board.waiting_on and board.is_late:
                    board.stop("limit")
                if not board.is_over and not (held_up or verdict.hard):
                    self._start(board, ranges, taken, self._wanted(knobs, ranges, connection))
                self._heed(board, asked)
                if not board.working and (board.is_over or not ranges.left(connection)):
                    return
                connection.rollback()
                board.wait(LOOK_SECONDS)
                if not board.working and not board.is_over:
                    time.sleep(LOOK_SECONDS if board.waiting_on else 0)

    def _seen(self, connection: Connection) -> tuple[health.Verdict, tuple[str, ...]]:
        ours = list(self._backends)
        verdict = health.judge(health.look(connection, self.schema, ours), self.limits.health)
        window = self.limits.window
        if window is None:
            return verdict, ()
        now: datetime = connection.exec_driver_sql("SELECT clock_timestamp()").scalar_one()
        if window.is_open(now):
            return verdict, ()
        return verdict, (f"the window {window}: it opens at {window.next_open(now):%d %b %H:%M}",)

    def _wanted(self, knobs: Knobs, ranges: Ranges, connection: Connection) -> int:
        """How many workers there is work for."""
        if not isinstance(self.source, Splittable):
            return 1  # one reader only
        return min(knobs.workers, ranges.left(connection))

    def _start(self, board: Board, ranges: Ranges | None, taken: Rejects, wanted: int) -> None:
        self._threads = [thread for thread in self._threads if thread.is_alive()]
        running = {thread.name for thread in self._threads}
        for index in range(wanted):
            name = f"backfill-{index}"
            if name in running:
                continue
            board.joined()
            thread = threading.Thread(
                target=self._work, name=name, args=(index, board, ranges, taken), daemon=True
            )
            self._threads.append(thread)
            thread.start()

    def _work(self, index: int, board: Board, ranges: Ranges | None, taken: Rejects) -> None:
        worker: Worker | None = None
        try:
            # The first has the connection that the ledger was opened with; some need that one.
            with self._another() if index else _borrowed(self.connection) as connection:
                pid = connection.exec_driver_sql("SELECT pg_backend_pid()").scalar_one()
                connection.rollback()
                self._backends[pid] = connection
                worker = Worker(
                    index=index,
                    connection=connection,
                    schema=self.schema,
                    source=self.source,
                    values=self.values,
                    ranges=ranges,
                    board=board,
                    taken=taken,
                )
                try:
                    worker.run()
                finally:
                    del self._backends[pid]
        except DBAPIError as error:
            # Another takes over the range of a worker whose connection broke: not of the first,
            # whose connection all depends on, and not again and again.
            self._lost += 1
            if board.end is None and (
                not index or not error.connection_invalidated or self._lost > _LOST
            ):
                board.fail(error)
            elif ranges is not None and worker is not None and worker.held is not None:
                self._orphaned(ranges, worker.held, board)
        except BaseException as error:  # noqa: BLE001 - whatever it is, the runner raises it
            board.fail(error)
        finally:
            board.left()

    def _orphaned(self, ranges: Ranges, held: Range, board: Board) -> None:
        """Give back what a worker held that can no longer say so itself."""
        try:
            with self._another() as connection:
                ranges.give_back(connection, held.number)
        except DBAPIError as error:
            board.fail(error)

    def _heed(self, board: Board, asked: Interrupts) -> None:
        """Ctrl-C: after the page; once more: now."""
        if asked.asked:
            board.stop("interrupted")
        if asked.insisted:
            for connection in list(self._backends.values()):
                with suppress(Exception):
                    connection.connection.driver_connection.cancel_safe()  # type: ignore[union-attr]

    def _end(self, board: Board) -> None:
        if board.working and not board.is_over:
            board.stop("interrupted")
        for thread in self._threads:
            thread.join()

    def _settle(self, held: Job) -> int:
        ended: int = self.connection.exec_driver_sql(
            in_schema(plant.SETTLE, self.schema), {**self.values, "began": held.began}
        ).scalar_one()
        return ended

    def _note_failure(self, held: Job) -> None:
        """Say in the row that the run failed, if the database still takes it."""
        with suppress(DBAPIError):
            self.connection.rollback()
            held.fail(self.connection)

    @contextmanager
    def _another(self) -> Iterator[Connection]:
        with self.connection.engine.connect() as connection:
            yield connection


@contextmanager
def _borrowed(connection: Connection) -> Iterator[Connection]:
    try:
        yield connection
    finally:
        if not connection.invalidated:
            connection.rollback()


def _said(board: Board) -> Mapping[str, Any]:
    progress = board.progress()
    return {
        "waiting_on": list(progress.waiting_on),
        "pace": {
            "rows_per_second": None if progress.rate is None else round(progress.rate),
            "workers": board.working,
        },
    }
