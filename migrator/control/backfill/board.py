"""Where the workers of one run meet: how far it is, whether to go on, and how fast.

Workers ask here before each page and count here after it; the runner writes here what it saw. No
database is known here.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, Literal, TypeAlias

from migrator.control.backfill.pacing import Knobs, Limits
from migrator.control.backfill.tally import Tally

End: TypeAlias = Literal["done", "limit", "paused", "interrupted"]

# The rate is of the last while, so that it tells of now and an hour's pause does not weigh on it.
_RATE_SECONDS: Final = 30.0
_REST_SECONDS: Final = 2.0  # at most, between two pages of a worker that is to go slower


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a pass is: rows of all its runs, of about `total`; `here` of this run.

    Args:
        rate: rows a second, lately; None: too early to tell.
        eta_s: in about how many seconds it is done; None while it waits, or where nobody knows.
        waiting_on: why no page begins, or begins later, in words.
    """

    done: int
    total: int | None
    here: int
    rejected: int
    seconds: float
    rate: float | None = None
    eta_s: float | None = None
    waiting_on: tuple[str, ...] = ()


Tell: TypeAlias = Callable[[Progress], None]


@dataclass(slots=True, kw_only=True)
class Board:
    """The state of a run.

    Args:
        before: what earlier runs of this pass have counted.
        clock: seconds that never go back.
    """

    limits: Limits
    knobs: Knobs
    before: Tally
    total: int | None
    tell: Tell
    clock: Callable[[], float] = time.monotonic
    end: End | None = None
    why: str | None = None
    failure: BaseException | None = None
    tally: Tally = field(default_factory=Tally)
    working: int = 0
    _reserved: int = 0
    _slower: tuple[str, ...] = ()
    _held_up: tuple[str, ...] = ()
    _began: float = field(init=False)
    _pages: deque[tuple[float, int]] = field(default_factory=deque)
    _changed: threading.Condition = field(default_factory=threading.Condition)

    def __post_init__(self) -> None:
        """Start the clock."""
        self._began = self.clock()

    @property
    def seconds(self) -> float:
        """How long this run goes on."""
        return self.clock() - self._began

    @property
    def here(self) -> int:
        """Rows of this run."""
        return self.tally.counts["read"]

    @property
    def is_late(self) -> bool:
        """Whether `Limits.seconds` are over."""
        return self.limits.seconds is not None and self.seconds >= self.limits.seconds

    # ---- for the runner ------------------------------------------------------------------------

    def stop(self, end: End, why: str | None = None) -> None:
        """No page begins any more; the first reason stays."""
        with self._changed:
            if self.end is None:
                self.end, self.why = end, why
            self._changed.notify_all()

    def fail(self, error: BaseException) -> None:
        """Nothing goes on: the run is to end with this error."""
        with self._changed:
            self.failure = self.failure or error
            self._changed.notify_all()

    def set_pace(self, knobs: Knobs, *, slower: tuple[str, ...], held_up: tuple[str, ...]) -> None:
        """Take over what is asked for, and say so where waiting began or is over."""
        with self._changed:
            said = self.waiting_on
            self.knobs, self._slower, self._held_up = knobs, slower, held_up
            if self.waiting_on != said:
                self._pages.clear()
                self.tell(self.progress())
            self._changed.notify_all()

    def wait(self, seconds: float) -> None:
        """Until something has changed, or so long."""
        with self._changed:
            if self.working:
                self._changed.wait(seconds)

    def joined(self) -> None:
        """One more worker."""
        with self._changed:
            self.working += 1

    @property
    def waiting_on(self) -> tuple[str, ...]:
        """Why no page begins, or begins later."""
        return (*self._held_up, *self._slower)

    @property
    def is_over(self) -> bool:
        """Whether no page begins any more."""
        return self.end is not None or self.failure is not None

    # ---- for the workers -----------------------------------------------------------------------

    def turn(self, index: int) -> bool:
        """Wait for the turn of a worker; False: it is to leave, and to give back what it holds."""
        with self._changed:
            while self._held_up and not self.is_over and index < self.knobs.workers:
                self._changed.wait(1)
            return not self.is_over and index < self.knobs.workers

    def rest(self, worked: float) -> None:
        """Between two pages, as long as was asked for and as the database needs."""
        seconds = self.knobs.sleep_ms / 1000
        if self._slower:
            seconds = max(seconds, min(worked, _REST_SECONDS))
        if seconds:
            with self._changed:
                self._changed.wait_for(lambda: self.is_over, seconds)

    def reserve(self, wanted: int) -> int:
        """How many rows may be read next; 0: `Limits.rows` are spoken for."""
        with self._changed:
            if self.limits.rows is not None:
                wanted = max(0, min(wanted, self.limits.rows - self._reserved))
            self._reserved += wanted
            return wanted

    def refund(self, rows: int) -> None:
        """Give back what was reserved and not there."""
        with self._changed:
            self._reserved -= rows

    def count(self, found: Tally) -> None:
        """Count a page that is committed, and tell of it."""
        with self._changed:
            self.tally.include(found)
            self._pages.append((self.clock(), self.here))
            while self._pages[0][0] < self.clock() - _RATE_SECONDS and len(self._pages) > 2:
                self._pages.popleft()
            self.tell(self.progress())

    def left(self) -> None:
        """One worker less."""
        with self._changed:
            self.working -= 1
            self._changed.notify_all()

    def progress(self) -> Progress:
        """How far it is by now."""
        done, rate = self.before.counts["read"] + self.here, self._rate()
        eta = None
        if rate and self.total is not None and done < self.total and not self._held_up:
            eta = (self.total - done) / rate
        return Progress(
            done=done,
            total=self.total,
            here=self.here,
            rejected=self.before.rejections + self.tally.rejections,
            seconds=self.seconds,
            rate=rate,
            eta_s=eta,
            waiting_on=self.waiting_on,
        )

    def _rate(self) -> float | None:
        if not self._pages:
            return None
        first = self._pages[0] if len(self._pages) > 1 else (self._began, 0)
        last = self._pages[-1]
        return (last[1] - first[1]) / max(last[0] - first[0], 0.001)
