"""One asks for many at once, in both colours, side by side: a cold start costs one read a session.

Whoever comes while somebody asks the same waits for that to end, and looks into memory. What is
not there (memory is not trusted, or the answer was no) is asked for by one of those who waited:
that began after all of them came, so they share its answer. Nobody waits for more than two, nor
longer than the store may take. No lock is held while anybody asks.
"""

from __future__ import annotations

import asyncio
import os
import threading
import time
import weakref
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

from migrator.core.errors import Unavailable

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from migrator.core.sharing import Key

_T = TypeVar("_T")
_R = TypeVar("_R")

# A failure that took longer than this was a wait of its own: whoever waited along has had theirs,
# and must not begin another that outstays the budget.
_SOON_S = 0.05


@dataclass(slots=True, eq=False)
class _Ending:
    """What came of a flight: an answer, an outage, or nothing (its leader was cancelled)."""

    answer: tuple[Any] | None = None
    outage: Unavailable | None = None

    def take(self, waited_s: float) -> tuple[Any, bool] | None:
        """What one who came before it began gets of it; None: it has to ask itself."""
        self.raise_outage(waited_s)
        return None if self.answer is None else (self.answer[0], False)

    def raise_outage(self, waited_s: float) -> None:
        """Fail one who waited as long as the store may take."""
        if self.outage is not None and waited_s > _SOON_S:
            raise Unavailable(self.outage.store, self.outage.why) from self.outage


@dataclass(slots=True, eq=False)
class _Flight(_Ending):
    """One question of a thread."""

    number: int = 0
    landed: threading.Event = field(default_factory=threading.Event)


class BlockingFlights:
    """`sharing.Flights` between threads. Its coroutines never suspend.

    Args:
        within_s: seconds that anybody waits for others, before asking alone.
    """

    def __init__(self, *, within_s: float) -> None:
        self._within_s = within_s
        self._forget()
        _living.add(self)

    def _forget(self) -> None:
        self._lock = threading.Lock()
        self._flying: dict[Key, _Flight] = {}
        self._number = 0

    async def share(
        self, key: Key, ask: Callable[[], Awaitable[_T]], again: Callable[[], _R | None]
    ) -> tuple[_T, bool] | _R:
        """See `Flights.share`."""
        came = time.monotonic()
        number, flight = self._board(key)
        while flight.number != number:  # another's
            flight.landed.wait(max(came + self._within_s - time.monotonic(), 0))
            waited_s = time.monotonic() - came
            if flight.number > number:
                taken = flight.take(waited_s)
                if taken is not None:
                    return taken
                return await ask(), True
            flight.raise_outage(waited_s)
            found = again()
            if found is not None:
                return found
            if waited_s >= self._within_s:
                return await ask(), True
            flight, number = self._board_next(key, number)
        return await self._lead(key, flight, ask), True

    def _board(self, key: Key) -> tuple[int, _Flight]:
        with self._lock:
            self._number += 1
            flight = self._flying.get(key)
            if flight is None:
                flight = self._flying[key] = _Flight(number=self._number)
            return self._number, flight

    def _board_next(self, key: Key, number: int) -> tuple[_Flight, int]:
        with self._lock:
            flight = self._flying.get(key)
            if flight is not None:
                return flight, number
            self._number += 1
            flight = self._flying[key] = _Flight(number=self._number)
            return flight, self._number

    async def _lead(self, key: Key, flight: _Flight, ask: Callable[[], Awaitable[_T]]) -> _T:
        try:
            answer = await ask()
            flight.answer = (answer,)
        except Unavailable as error:
            flight.outage = error
            raise
        finally:
            with self._lock:
                if self._flying.get(key) is flight:
                    del self._flying[key]
            flight.landed.set()
        return answer

    def flying(self) -> int:
        """How many questions are under way."""
        return len(self._flying)


@dataclass(slots=True, eq=False)
class _LoopFlight(_Ending):
    """One question of a task."""

    number: int = 0
    landed: asyncio.Future[None] = field(default_factory=asyncio.Future)


class _Sky:
    """The flights of one event loop."""

    def __init__(self) -> None:
        self.flying: dict[Key, _LoopFlight] = {}
        self.number = 0

    def next(self) -> int:
        self.number += 1
        return self.number


class AsyncFlights:
    """`sharing.Flights` between the tasks of each event loop; promises what the other does."""

    def __init__(self, *, within_s: float) -> None:
        self._within_s = within_s
        self._forget()
        _living.add(self)

    def _forget(self) -> None:
        self._skies: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, _Sky] = (
            weakref.WeakKeyDictionary()
        )

    async def share(
        self, key: Key, ask: Callable[[], Awaitable[_T]], again: Callable[[], _R | None]
    ) -> tuple[_T, bool] | _R:
        """See `Flights.share`."""
        loop = asyncio.get_running_loop()
        sky = self._skies.get(loop)
        if sky is None:
            sky = self._skies[loop] = _Sky()
        came, number = loop.time(), sky.next()
        while (flight := sky.flying.get(key)) is not None:
            await asyncio.wait(
                (flight.landed,), timeout=max(came + self._within_s - loop.time(), 0)
            )
            waited_s = loop.time() - came
            if flight.number > number:
                return flight.take(waited_s) or (await ask(), True)
            flight.raise_outage(waited_s)
            found = again()
            if found is not None:
                return found
            if waited_s >= self._within_s:
                return await ask(), True
        flight = sky.flying[key] = _LoopFlight(number=sky.next())
        return await self._lead(sky, key, flight, ask), True

    async def _lead(
        self, sky: _Sky, key: Key, flight: _LoopFlight, ask: Callable[[], Awaitable[_T]]
    ) -> _T:
        try:
            answer = await ask()
            flight.answer = (answer,)
        except Unavailable as error:
            flight.outage = error
            raise
        finally:
            if sky.flying.get(key) is flight:
                del sky.flying[key]
            if not flight.landed.done():
                flight.landed.set_result(None)
        return answer

    def flying(self) -> int:
        """How many questions are under way."""
        return sum(len(sky.flying) for sky in self._skies.values())


_living: weakref.WeakSet[BlockingFlights | AsyncFlights] = weakref.WeakSet()


def _forget_all() -> None:
    # Whoever led in the parent does not land in its child.
    for flights in list(_living):
        flights._forget()  # noqa: SLF001 - our own classes, in their own file


os.register_at_fork(after_in_child=_forget_all)
