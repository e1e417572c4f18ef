"""Servers and databases for every test: real ones, ours, on free ports (design section 14).

Each pytest-xdist worker starts one Postgres and one Redis when a test first asks; tests that hurt
a server ask for one of their own (`own_postgres`, `own_redis`). MIGRATOR_TEST_DATABASE_URL and
MIGRATOR_TEST_REDIS_URL put system servers in place of the shared two; the role needs CREATEDB,
and each worker takes the Redis database of its own number.
"""

from __future__ import annotations

import itertools
import os
import signal
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import pytest
import redis

from migrator.cli.demo.binaries import postgres_bin
from migrator.cli.demo.databases import create_database, drop_database
from migrator.cli.demo.servers import Postgres, Redis, embedded_postgres, embedded_redis
from tests.canaries import pytest_runtest_makereport as pytest_runtest_makereport
from tests.counts import pytest_sessionfinish as pytest_sessionfinish
from tests.counts import pytest_terminal_summary as pytest_terminal_summary
from tests.counts import pytest_testnodedown as pytest_testnodedown

# A shell's background job ignores Ctrl-C, and hands that on to what it starts: tests that
# interrupt a command must not depend on how they themselves were started.
signal.signal(signal.SIGINT, signal.default_int_handler)

_LONG_S = 7200


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give long figures their time, where they do not say how long they take themselves."""
    for item in items:
        if item.get_closest_marker("full") and not item.get_closest_marker("timeout"):
            item.add_marker(pytest.mark.timeout(_LONG_S))


_numbers = itertools.count(1)
_run = uuid.uuid4().hex[:8]  # apart from other runs on the same system server


class DatabaseServer(Protocol):
    """A Postgres that tests may create databases on."""

    @property
    def url(self) -> str:
        """Of its maintenance database."""

    def bin(self, name: str) -> Path:
        """The path of a program such as pg_dump."""

    def create_database(self, name: str, template: str | None = None) -> str:
        """Create a database, as a copy of `template` if given, and return its URL."""

    def drop_database(self, name: str) -> None:
        """Drop a database and end whoever is connected to it."""


class CacheServer(Protocol):
    """A Redis that tests may empty."""

    @property
    def url(self) -> str:
        """Of the database this worker uses."""

    def flush(self) -> None:
        """Forget every key this worker can have written."""


@dataclass(frozen=True, slots=True)
class SystemPostgres:
    """The server that MIGRATOR_TEST_DATABASE_URL names."""

    url: str

    def bin(self, name: str) -> Path:
        """The path of a program of the best Postgres found on this machine."""
        return postgres_bin() / name

    def create_database(self, name: str, template: str | None = None) -> str:
        """Create a database, as a copy of `template` if given, and return its URL."""
        return create_database(self.url, name, template)

    def drop_database(self, name: str) -> None:
        """Drop a database and end whoever is connected to it."""
        drop_database(self.url, name)


@dataclass(frozen=True, slots=True)
class SystemRedis:
    """The server that MIGRATOR_TEST_REDIS_URL names."""

    url: str

    def flush(self) -> None:
        """Forget every key of this worker's database, and of no other."""
        with redis.Redis.from_url(self.url) as client:
            client.flushdb()


@pytest.fixture(scope="session")
def postgres() -> Iterator[DatabaseServer]:
    """The Postgres this worker's tests share."""
    if url := os.environ.get("MIGRATOR_TEST_DATABASE_URL"):
        yield SystemPostgres(url)
        return
    with embedded_postgres() as server:
        yield server


@pytest.fixture
def database(postgres: DatabaseServer) -> Iterator[str]:
    """The URL of an empty database that only this test sees."""
    name = _fresh_name()
    yield postgres.create_database(name)
    postgres.drop_database(name)


@pytest.fixture(scope="session")
def migrated_template(postgres: DatabaseServer) -> Iterator[str]:
    """The name of a database with our tables, made by the real `db upgrade` once per worker."""
    from migrator.control import schema  # noqa: PLC0415 - tests of lower layers run without it

    name = _fresh_name()
    schema.upgrade(postgres.create_database(name))
    yield name
    postgres.drop_database(name)


@pytest.fixture
def migrated(postgres: DatabaseServer, migrated_template: str) -> Iterator[str]:
    """The URL of a database with our tables, empty, that only this test sees."""
    name = _fresh_name()
    yield postgres.create_database(name, migrated_template)
    postgres.drop_database(name)


@pytest.fixture(scope="session")
def redis_server() -> Iterator[CacheServer]:
    """The Redis this worker's tests share."""
    if url := os.environ.get("MIGRATOR_TEST_REDIS_URL"):
        worker = os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")
        yield SystemRedis(f"{url.rstrip('/').removesuffix('/0')}/{worker}")
        return
    with embedded_redis() as server:
        yield server


@pytest.fixture
def redis_url(redis_server: CacheServer) -> str:
    """The URL of a Redis with nothing in it."""
    redis_server.flush()
    return redis_server.url


@pytest.fixture
def own_postgres() -> Iterator[Postgres]:
    """A Postgres that only this test sees, to kill, pause and restart."""
    with embedded_postgres() as server:
        yield server


@pytest.fixture
def own_redis() -> Iterator[Redis]:
    """A Redis that only this test sees, to kill, pause and restart."""
    with embedded_redis() as server:
        yield server


def _fresh_name() -> str:
    worker = os.environ.get("PYTEST_XDIST_WORKER", "main")
    return f"test_{_run}_{worker}_{next(_numbers)}"
