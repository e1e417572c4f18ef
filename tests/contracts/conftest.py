"""Every contract is kept by each of these stores."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from migrator.core.flow import run
from migrator.stores.drivers import AsyncDriver, BlockingDriver
from migrator.stores.memory import MemoryStore
from migrator.stores.postgres import Postgres
from tests.contracts.worlds import InMemory, InPostgres, World


@pytest.fixture(params=["memory", "blocking postgres", "async postgres"])
def world(request: pytest.FixtureRequest) -> Iterator[World]:
    if request.param == "memory":
        memory = MemoryStore()
        yield World(memory, InMemory(memory), run)
        return
    url = request.getfixturevalue("migrated")
    # A budget for a busy machine: what is claimed here is not how fast it is.
    if request.param == "blocking postgres":
        blocking = BlockingDriver(url, budget_s=20)
        yield World(Postgres(blocking, "migrator"), InPostgres(url), run)
        blocking.close()
        return
    with asyncio.Runner() as runner:
        driver = AsyncDriver(url, budget_s=20)
        yield World(Postgres(driver, "migrator"), InPostgres(url), runner.run)
        driver.close()
