"""Postgres connections in both colours, side by side: the only place where they differ.

A driver runs a script of statements in one round trip, within a budget. Its own pool, and not a
library's, for four reasons that were each met: a frozen Postgres hangs psycopg until its socket is
shut from outside; an outage must end for us when it ends for Postgres, not after a back-off; an
app's tests bring a new event loop for each request; a prefork server forks with us loaded.

Statements are written so that running a script twice equals running it once; that is why one that
died with a connection from the pool is run again on a new one.
"""

from __future__ import annotations

import asyncio
import os
import threading
import time
import weakref
from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING, Any, TypeAlias

import psycopg
from psycopg.conninfo import conninfo_to_dict
from sqlalchemy.engine import make_url

from migrator.core.errors import Unavailable
from migrator.core.flow import run
from migrator.stores.connections import (
    TO_CONNECT,
    AsyncConnection,
    Connection,
    require_no_doubt,
)
from migrator.stores.watchdog import Watchdog, shut

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

Row: TypeAlias = tuple[Any, ...]
Step: TypeAlias = "tuple[str, Mapping[str, object] | None]"

# psycopg prepares a statement on its n-th run; ours are few and run all day.
_PREPARE_AFTER = 2
_STORE = "postgres"


def conninfo(url: str) -> dict[str, Any]:
    """What libpq needs to connect, from a `postgresql+psycopg://` URL or any libpq form."""
    if "://" not in url:
        return dict(conninfo_to_dict(url))
    plain = make_url(url).set(drivername="postgresql")
    return dict(conninfo_to_dict(plain.render_as_string(hide_password=False)))


class BlockingDriver:
    """Postgres for a blocking app. Its coroutines never suspend.

    Args:
        url: of the database.
        budget_s: seconds that a script may take, waiting for a connection included.
        room: connections at most.
    """

    blocks = True

    def __init__(self, url: str, *, budget_s: float, room: int = 10) -> None:
        self._conninfo = conninfo(url)
        self._budget_s = budget_s
        self._room = room
        self._forget()
        _reset_after_fork(self)

    def _forget(self) -> None:
        self._idle: deque[Connection] = deque()
        few = _few(self._room)
        self._slots = threading.BoundedSemaphore(self._room - few)
        self._few_slots = threading.BoundedSemaphore(few)
        self._watchdog = Watchdog()

    async def run(self, *steps: Step, by_anyone: bool = False) -> list[list[Row]]:
        """The rows of each statement, all sent in one round trip.

        Args:
            by_anyone: a token that nobody vouched for causes this; such scripts share a part of
                the room, so that well-formed garbage cannot take all of it.

        Raises:
            Unavailable: the database could not be asked within the budget.
        """
        deadline = time.monotonic() + self._budget_s
        slots = self._few_slots if by_anyone else self._slots
        if not slots.acquire(timeout=self._budget_s):
            raise Unavailable(_STORE, "every connection is in use")
        try:
            return self._run(steps, deadline)
        finally:
            slots.release()

    def _run(self, steps: Sequence[Step], deadline: float) -> list[list[Row]]:
        while True:
            pooled = self._pooled()
            connection = pooled or self._connect(deadline)
            key = self._watchdog.watch(connection, deadline)
            doubts = connection.doubts
            try:
                rows = _pipelined(connection, steps)
            except psycopg.Error as error:
                self._watchdog.release(key)
                _discard(connection)
                if pooled is not None and _is_lost(error) and time.monotonic() < deadline:
                    continue
                raise _unavailable(error) from error
            except BaseException:
                self._watchdog.release(key)
                _discard(connection)
                raise
            self._watchdog.release(key)
            self._idle.append(connection)
            require_no_doubt(connection, doubts, steps)
            return rows

    def _pooled(self) -> Connection | None:
        with suppress(IndexError):
            return self._idle.pop()
        return None

    def _connect(self, deadline: float) -> Connection:
        # libpq's own timeout is two seconds at the least, so the wait is ours: a thread connects,
        # and closes what nobody waits for any more.
        attempt = _Attempt(self._conninfo)
        return attempt.within(deadline - time.monotonic())

    def close(self) -> None:
        """Close every idle connection."""
        while (connection := self._pooled()) is not None:
            _discard(connection)
        self._watchdog.end()

    def __del__(self) -> None:
        self.close()


class _Attempt:
    """One connection being made in a thread of its own."""

    def __init__(self, info: Mapping[str, Any]) -> None:
        self._info = info
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._given_up = False
        self._made: Connection | None = None
        self._error: psycopg.Error | None = None
        threading.Thread(target=self._make, name="migrator-connect", daemon=True).start()

    def within(self, seconds: float) -> Connection:
        self._ended.wait(max(seconds, 0))
        with self._lock:
            if self._made is not None:
                return self._made
            self._given_up = True
        if self._error is not None:
            raise _unavailable(self._error) from self._error
        raise Unavailable(_STORE, "no connection within the budget")

    def _make(self) -> None:
        try:
            made = Connection.connect(
                **{**TO_CONNECT, **self._info},
                autocommit=True,
                prepare_threshold=_PREPARE_AFTER,
            )
            made.listen()
        except psycopg.Error as error:
            self._error = error
            self._ended.set()
            return
        with self._lock:
            if self._given_up:
                made.close()
            else:
                self._made = made
        self._ended.set()


class AsyncDriver:
    """Postgres for an async app; promises what `BlockingDriver` does, and suspends."""

    blocks = False

    def __init__(self, url: str, *, budget_s: float, room: int = 10) -> None:
        self._conninfo = conninfo(url)
        self._budget_s = budget_s
        self._room = room
        self._forget()
        _reset_after_fork(self)

    def _forget(self) -> None:
        self._pools: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, _LoopPool] = (
            weakref.WeakKeyDictionary()
        )

    async def run(self, *steps: Step, by_anyone: bool = False) -> list[list[Row]]:
        """See `BlockingDriver.run`."""
        loop = asyncio.get_running_loop()
        pool = self._pools.get(loop)
        if pool is None:
            self._let_go_of_closed_loops()
            pool = self._pools[loop] = _LoopPool(self._room)
        deadline = loop.time() + self._budget_s
        slots = pool.few_slots if by_anyone else pool.slots
        try:
            async with asyncio.timeout_at(deadline):
                await slots.acquire()
        except TimeoutError:
            raise Unavailable(_STORE, "every connection is in use") from None
        try:
            return await self._run(pool, steps, loop, deadline)
        finally:
            slots.release()

    def _let_go_of_closed_loops(self) -> None:
        for loop in [loop for loop in self._pools if loop.is_closed()]:
            self._pools.pop(loop).close()

    async def _run(
        self,
        pool: _LoopPool,
        steps: Sequence[Step],
        loop: asyncio.AbstractEventLoop,
        deadline: float,
    ) -> list[list[Row]]:
        while True:
            pooled = pool.idle.pop() if pool.idle else None
            connection = pooled or await self._connect(deadline)
            alarm = loop.call_at(deadline, shut, connection)
            doubts = connection.doubts
            try:
                rows = await _pipelined_shielded(connection, steps)
            except psycopg.Error as error:
                alarm.cancel()
                await connection.close()
                if pooled is not None and _is_lost(error) and loop.time() < deadline:
                    continue
                raise _unavailable(error) from error
            except BaseException:
                # Cancelled half-way: what is on the wire belongs to nobody, so the line is cut.
                alarm.cancel()
                shut(connection)
                await connection.close()
                raise
            alarm.cancel()
            pool.idle.append(connection)
            require_no_doubt(connection, doubts, steps)
            return rows

    async def _connect(self, deadline: float) -> AsyncConnection:
        try:
            async with asyncio.timeout_at(deadline):
                made = await AsyncConnection.connect(
                    **{**TO_CONNECT, **self._conninfo},
                    autocommit=True,
                    prepare_threshold=_PREPARE_AFTER,
                )
        except TimeoutError:
            raise Unavailable(_STORE, "no connection within the budget") from None
        except psycopg.Error as error:
            raise _unavailable(error) from error
        made.listen()
        return made

    def close(self) -> None:
        """Close every idle connection, of whichever loop; nothing has to be awaited for that."""
        for pool in list(self._pools.values()):
            pool.close()


class _LoopPool:
    """The connections of one event loop."""

    def __init__(self, room: int) -> None:
        self.idle: deque[AsyncConnection] = deque()
        few = _few(room)
        self.slots = asyncio.Semaphore(room - few)
        self.few_slots = asyncio.Semaphore(few)

    def close(self) -> None:
        while self.idle:
            with suppress(psycopg.Error):
                run(self.idle.pop().close())  # it only looks async: nothing in it suspends

    def __del__(self) -> None:
        self.close()  # its loop is gone, and nobody is left to await one


def _few(room: int) -> int:
    return max(1, room // 3) if room > 1 else 0


def _pipelined(connection: psycopg.Connection[Any], steps: Sequence[Step]) -> list[list[Row]]:
    if len(steps) == 1:
        return [_rows(connection.execute(*steps[0], binary=True))]
    with connection.pipeline():
        cursors = [connection.execute(*step, binary=True) for step in steps]
    return [_rows(cursor) for cursor in cursors]


async def _pipelined_shielded(
    connection: psycopg.AsyncConnection[Any], steps: Sequence[Step]
) -> list[list[Row]]:
    # Cancelled itself, psycopg asks the server to cancel over a new connection, and waits for it
    # seconds where the server is frozen. So the line is cut first, and then it has nobody to ask.
    work = asyncio.ensure_future(_pipelined_async(connection, steps))
    try:
        return await asyncio.shield(work)
    except asyncio.CancelledError:
        shut(connection)
        await asyncio.wait((work,))
        if not work.cancelled():
            work.exception()
        raise


async def _pipelined_async(
    connection: psycopg.AsyncConnection[Any], steps: Sequence[Step]
) -> list[list[Row]]:
    if len(steps) == 1:
        cursor = await connection.execute(*steps[0], binary=True)
        return [await cursor.fetchall() if cursor.description else []]
    async with connection.pipeline():
        cursors = [await connection.execute(*step, binary=True) for step in steps]
    return [await cursor.fetchall() if cursor.description else [] for cursor in cursors]


def _rows(cursor: psycopg.Cursor[Row]) -> list[Row]:
    return cursor.fetchall() if cursor.description else []


def _discard(connection: psycopg.Connection[Any]) -> None:
    with suppress(psycopg.Error):
        connection.close()


def _is_lost(error: psycopg.Error) -> bool:
    """Whether the connection died, not the statement: restarts and failovers do that."""
    return isinstance(error, psycopg.OperationalError) and (
        error.sqlstate is None or error.sqlstate.startswith(("57P", "08"))
    )


def _unavailable(error: psycopg.Error) -> Unavailable:
    # The class and code only: a message may quote parameters or the connection string.
    return Unavailable(_STORE, f"{type(error).__name__} {error.sqlstate or ''}".strip())


_living: weakref.WeakSet[BlockingDriver | AsyncDriver] = weakref.WeakSet()


def _reset_after_fork(driver: BlockingDriver | AsyncDriver) -> None:
    _living.add(driver)


def _forget_all() -> None:
    # A child must not speak on its parent's sockets. They are dropped unclosed: a goodbye on them
    # would end the parent's sessions.
    for driver in list(_living):
        _inherited.append(driver.__dict__.copy())
        driver._forget()  # noqa: SLF001 - our own class, in its own file


_inherited: list[dict[str, Any]] = []
os.register_at_fork(after_in_child=_forget_all)
