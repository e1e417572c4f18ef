"""One database, our stores and gates over it in both colours, and the bare clients beside them."""

from __future__ import annotations

import asyncio
from contextlib import ExitStack
from typing import Any

import psycopg
from psycopg_pool import AsyncConnectionPool, ConnectionPool

from migrator.core.gate import AsyncGate, Gate
from migrator.stores.drivers import AsyncDriver, BlockingDriver, conninfo
from migrator.stores.memory_cache import NoCache
from migrator.stores.postgres import Postgres
from tests.bench import parts

SCHEMA = "migrator"
_BUDGET_S = 5.0
_PREPARED: dict[str, Any] = {"autocommit": True, "prepare_threshold": 2}


class Database:
    """What the cases ask; all of it is closed with the stack."""

    def __init__(self, url: str, runner: asyncio.Runner, stack: ExitStack) -> None:
        self.runner = runner
        self.settings = parts.settings(url)
        self._stack = stack
        self._info: dict[str, Any] = {**conninfo(url), **_PREPARED}
        drivers = BlockingDriver(url, budget_s=_BUDGET_S), AsyncDriver(url, budget_s=_BUDGET_S)
        for driver in drivers:
            stack.callback(driver.close)
        self.store, self.async_store = (Postgres(driver, SCHEMA) for driver in drivers)

    def gate(self) -> Gate:
        """A gate without Redis that never believes its memory."""
        cache = NoCache(blocks=True)
        return parts.flow(Gate, self.settings, store=self.store, cache=cache, node=parts.node())

    def async_gate(self) -> AsyncGate:
        """The same, async."""
        cache = NoCache(blocks=False)
        return parts.flow(
            AsyncGate, self.settings, store=self.async_store, cache=cache, node=parts.node()
        )

    def connection(self) -> psycopg.Connection[Any]:
        """A connection of psycopg's own."""
        return self._stack.enter_context(psycopg.connect(**self._info))

    def pool(self) -> ConnectionPool[psycopg.Connection[Any]]:
        """A pool of psycopg_pool's own."""
        pool = ConnectionPool("", kwargs=self._info, min_size=1, open=True)
        return self._stack.enter_context(pool)

    def async_connection(self) -> psycopg.AsyncConnection[Any]:
        """A connection of psycopg's own."""
        made = self.runner.run(psycopg.AsyncConnection.connect(**self._info))
        self._stack.callback(lambda: self.runner.run(made.close()))
        return made

    def async_pool(self) -> AsyncConnectionPool[psycopg.AsyncConnection[Any]]:
        """A pool of psycopg_pool's own."""
        pool = AsyncConnectionPool("", kwargs=self._info, min_size=1, open=False)
        self.runner.run(pool.open())
        self._stack.callback(lambda: self.runner.run(pool.close()))
        return pool
