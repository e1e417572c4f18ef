"""A hit in Redis against one GET by bare redis-py, in both colours."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from itertools import cycle
from typing import Any

import redis
import redis.asyncio

from migrator.core.flow import run
from migrator.core.gate import AsyncGate, Gate
from migrator.stores.memory import MemoryStore
from migrator.stores.redis import AsyncRedis, BlockingRedis
from tests.bench import parts
from tests.bench.timing import Case, Group, awaiting, blocking

KNOWN = 256
_NAMESPACE = "migrator:bench"


def groups(url: str, runner: asyncio.Runner, stack: ExitStack) -> Iterator[Group]:
    """The groups over one Redis; what they open is closed with the stack."""
    cached = _Cached(url, stack)
    yield _blocking(url, cached, stack)
    yield _async(url, cached, runner, stack)


class _Cached:
    """Sessions in Redis, written again before each round: an entry lives a minute."""

    def __init__(self, url: str, stack: ExitStack) -> None:
        self._client = stack.enter_context(redis.Redis.from_url(url))
        self._cache = BlockingRedis(url, namespace=_NAMESPACE, budget_s=5)
        stack.callback(self._cache.close)
        self.logins = parts.logins(KNOWN)
        self.renew()
        # The very keys and values that the cache reads: bare clients fetch the same.
        self.keys = self._client.keys("*")

    def renew(self) -> None:
        """As if every session had been read from Postgres just now."""
        self._client.flushdb()
        at = parts.now()
        for login in self.logins:
            run(self._cache.fill(replace(login.found, read_at=at)))

    @property
    def digests(self) -> Iterator[bytes]:
        """Of the sessions, for ever."""
        return cycle([login.found.digest for login in self.logins])

    @property
    def presented(self) -> Iterator[Any]:
        """Requests with their tokens, for ever."""
        return cycle([login.presented for login in self.logins])


def _blocking(url: str, cached: _Cached, stack: ExitStack) -> Group:
    bare = stack.enter_context(redis.Redis.from_url(url))
    cache = BlockingRedis(url, namespace=_NAMESPACE, budget_s=5)
    stack.callback(cache.close)
    gate = parts.flow(Gate, parts.settings(), store=MemoryStore(), cache=cache, node=parts.node())
    return Group(
        "redis",
        "A session from Redis, memory not trusted (blocking)",
        [
            Case("redis-py GET, default client", blocking(bare.get, cycle(cached.keys))),
            Case(
                "BlockingRedis.get: GET, checked and decoded",
                blocking(lambda digest: _some(run(cache.get(digest))), cached.digests),
                "<= 1.3",
            ),
            Case("Gate.admit, whole flow", blocking(gate.admit, cached.presented)),
        ],
        renew=cached.renew,
    )


def _async(url: str, cached: _Cached, runner: asyncio.Runner, stack: ExitStack) -> Group:
    bare = redis.asyncio.Redis.from_url(url)
    cache = AsyncRedis(url, namespace=_NAMESPACE, budget_s=5)
    stack.callback(lambda: runner.run(_end(bare, cache)))
    gate = parts.flow(
        AsyncGate,
        parts.settings(),
        store=MemoryStore(blocks=False),
        cache=cache,
        node=parts.node(),
    )

    async def get(digest: bytes) -> None:
        _some(await cache.get(digest))

    return Group(
        "redis-async",
        "A session from Redis, memory not trusted (async)",
        [
            Case(
                "redis.asyncio GET, default client", awaiting(runner, bare.get, cycle(cached.keys))
            ),
            Case(
                "AsyncRedis.get: GET, checked and decoded",
                awaiting(runner, get, cached.digests),
                "<= 1.3",
            ),
            Case("AsyncGate.admit, whole flow", awaiting(runner, gate.admit, cached.presented)),
        ],
        renew=cached.renew,
    )


async def _end(bare: redis.asyncio.Redis, cache: AsyncRedis) -> None:
    await bare.aclose()
    await cache.aclose()


def _some(found: object) -> None:
    if found is None:
        raise AssertionError("not a hit")
