"""The cache between: what a Redis holds of sessions, and what is believed of it.

It is never the truth and may lose anything at any time. So nothing here raises, nothing waits past
its budget, and every doubt is answered with None: ask the store. What went wrong is counted
(`faults`), never logged with a value.

Under one key lives an entry (entries.py), written only where nothing is, until its read time plus
the entry's life; or a tombstone, written over anything, for longer than any entry could still live
or any fill be on its way. That is why a racing fill cannot bring a revoked session back: no
interleaving of 1,680 does, where a plain DEL loses 296.

Needs Redis 6.2 (SET with PXAT). Both colours stand side by side; only their clients differ.
"""

from __future__ import annotations

import asyncio
import json
import os
import threading
import time
import weakref
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import Final, TypeVar
from urllib.parse import quote

from migrator.core.interfaces import Found, Tombstone
from migrator.stores import entries, redis_clients
from migrator.stores.faults import Crowded, Health, Place
from migrator.stores.hints import Hints as Hints
from migrator.stores.hints import channel_of
from migrator.stores.redis_clients import (
    AsyncClient,
    BlockingClient,
    async_client,
    blocking_client,
    deadline,
    parse_address,
)

TOMBSTONE_MS: Final = 120_000  # twice the longest life of an entry
_AT_ONCE: Final = 500  # tombstones in one pipeline: some 60 KB
_HINT_KINDS: Final = 100  # a hint is a nudge; the feed itself says everything

_CLOSE_S: Final = 1.0  # for every connection of a cluster; no request waits for it

_T = TypeVar("_T")


def namespace_of(*, environment: str, app: str, database: str, schema: str) -> str:
    """What every key of one deployment begins with; two deployments never share one.

    Args:
        database: by name. Its address is left out: nodes may go different ways to one database.
    """
    parts = (environment, app, database, schema)
    return ":".join(("migrator", *(quote(part, safe="") for part in parts)))


class _Keys:
    """The keys and values of one deployment."""

    __slots__ = ("_entry_ms", "_prefix", "channel")

    def __init__(self, namespace: str, entry_seconds: float) -> None:
        self._prefix = f"{namespace}:s1:"
        self.channel = channel_of(namespace)
        self._entry_ms = int(entry_seconds * 1000)

    def key(self, digest: bytes) -> str:
        return self._prefix + digest.hex()

    def ends_at_ms(self, found: Found) -> int:
        """Absolute: however late the SET arrives, the entry's life is counted from its reading."""
        return int(found.read_at.timestamp() * 1000) + self._entry_ms


def _hint(kinds: Sequence[tuple[str, str]]) -> str:
    return json.dumps(kinds[:_HINT_KINDS], separators=(",", ":"))


def _chunks(digests: Sequence[bytes]) -> list[Sequence[bytes]]:
    return [digests[start : start + _AT_ONCE] for start in range(0, len(digests), _AT_ONCE)]


class BlockingRedis:
    """The cache for blocking programs. Safe between threads, and after a fork.

    Args:
        url: see redis_clients.py.
        namespace: see `namespace_of`.
        budget_s: what one operation may take, connecting included.
        entry_seconds: how long after it was read a session is kept.
        connections: at most so many at once.
    """

    blocks: bool = True

    def __init__(
        self,
        url: str,
        *,
        namespace: str,
        budget_s: float = 0.05,
        entry_seconds: float = 60,
        connections: int = 32,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._address = parse_address(url)
        self._keys = _Keys(namespace, entry_seconds)
        self._budget_s = budget_s
        self._connections = connections
        self._clock = clock
        self._health = Health(clock)
        self._client: BlockingClient | None = None
        self._room = threading.Semaphore(connections)
        self._pid = os.getpid()
        self._inherited: list[BlockingClient | None] = []
        _renew_in_children(self)

    @property
    def faults(self) -> dict[str, int]:
        """How often what went wrong, since this process began."""
        return self._health.faults

    async def get(self, digest: bytes) -> Found | Tombstone | None:
        """What is cached under `digest`; None also when Redis could not be asked."""
        if not self._health.allows():
            return None
        value = self._ask(lambda client: client.get(self._keys.key(digest)))
        if value is None:
            return None
        if not entries.belongs(value, digest):
            self._health.count("crossed")
            self.close()
            return None
        found = entries.decode(digest, value)
        if found is None:
            self._health.count("unreadable")
        return found

    async def fill(self, found: Found) -> None:
        """Keep `found` unless something is there, until its read time plus the entry's life.

        Not where the last question failed: one request waits out one budget, not two.
        """
        value = entries.encode(found)
        if value is None:
            self._health.count("uncachable")
        elif self._health.is_well():
            key, ends_at_ms = self._keys.key(found.digest), self._keys.ends_at_ms(found)
            self._ask(lambda client: client.set(key, value, nx=True, pxat=ends_at_ms))

    async def bury(self, digests: Sequence[bytes]) -> None:
        """Put a tombstone over each digest; tried even while the breaker holds back all else."""
        for number, chunk in enumerate(_chunks(digests)):
            if number and not self._health.allows():
                return
            self._ask(partial(self._bury, chunk))

    async def hint(self, kinds: Sequence[tuple[str, str]]) -> None:
        """Tell other processes what the feed will tell them anyway, sooner."""
        if kinds and self._health.allows():
            self._ask(lambda client: client.publish(self._keys.channel, _hint(kinds)))

    def close(self) -> None:
        """Give up the connections; the next operation makes new ones."""
        client, self._client = self._client, None
        if client is not None and self._pid == os.getpid():
            with suppress(Exception):
                redis_clients.close(client)

    def _bury(self, digests: Sequence[bytes], client: BlockingClient) -> None:
        pipeline = client.pipeline(transaction=False)
        for digest in digests:
            pipeline.set(self._keys.key(digest), entries.tombstone(digest), px=TOMBSTONE_MS)
        pipeline.execute()

    def _ask(self, act: Callable[[BlockingClient], _T]) -> _T | None:
        try:
            client = self._current()
            with Place(self._room, self._budget_s / 2), deadline(self._budget_s):
                try:
                    answer = act(client)
                finally:
                    self._close_again(client)
        except Exception as error:  # noqa: BLE001 - whatever it was, a cache never fails a request
            self._health.failed(error)
            return None
        self._health.breaker.succeeded()
        return answer

    def _close_again(self, client: BlockingClient) -> None:
        """Another thread gave it up meanwhile, and we may have connected it anew."""
        if client is not self._client and self._pid == os.getpid():
            with suppress(Exception):
                redis_clients.close(client)

    def _current(self) -> BlockingClient:
        if self._pid != os.getpid():
            self._renew()
        client = self._client
        if client is None:
            client = self._client = blocking_client(
                self._address, budget_s=self._budget_s, connections=self._connections
            )
        return client

    def _renew(self) -> None:
        # The parent's sockets: kept and never touched, for closing them would end its TLS.
        self._inherited.append(self._client)
        self._client, self._pid = None, os.getpid()
        self._room = threading.Semaphore(self._connections)
        self._health = Health(self._clock)


class AsyncRedis:
    """The cache for asyncio programs, a client for each loop. Arguments as `BlockingRedis`."""

    blocks: bool = False

    def __init__(
        self,
        url: str,
        *,
        namespace: str,
        budget_s: float = 0.05,
        entry_seconds: float = 60,
        connections: int = 32,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._address = parse_address(url)
        self._keys = _Keys(namespace, entry_seconds)
        self._budget_s = budget_s
        self._connections = connections
        self._clock = clock
        self._health = Health(clock)
        # Not by weak reference: a client's transports hold its loop, so the entry would never go.
        self._clients: dict[asyncio.AbstractEventLoop, _OfLoop] = {}
        self._pid = os.getpid()
        self._inherited: list[object] = []
        _renew_in_children(self)

    @property
    def faults(self) -> dict[str, int]:
        """How often what went wrong, since this process began."""
        return self._health.faults

    async def get(self, digest: bytes) -> Found | Tombstone | None:
        """What is cached under `digest`; None also when Redis could not be asked."""
        if not self._health.allows():
            return None
        value = await self._ask(lambda client: client.get(self._keys.key(digest)))
        if value is None:
            return None
        if not entries.belongs(value, digest):
            self._health.count("crossed")
            await self.aclose()
            return None
        found = entries.decode(digest, value)
        if found is None:
            self._health.count("unreadable")
        return found

    async def fill(self, found: Found) -> None:
        """Keep `found` unless something is there, until its read time plus the entry's life."""
        value = entries.encode(found)
        if value is None:
            self._health.count("uncachable")
        elif self._health.is_well():
            key, ends_at_ms = self._keys.key(found.digest), self._keys.ends_at_ms(found)
            await self._ask(lambda client: client.set(key, value, nx=True, pxat=ends_at_ms))

    async def bury(self, digests: Sequence[bytes]) -> None:
        """Put a tombstone over each digest; tried even while the breaker holds back all else."""
        for number, chunk in enumerate(_chunks(digests)):
            if number and not self._health.allows():
                return
            await self._ask(partial(self._bury, chunk))

    async def hint(self, kinds: Sequence[tuple[str, str]]) -> None:
        """Tell other processes what the feed will tell them anyway, sooner."""
        if kinds and self._health.allows():
            await self._ask(lambda client: client.publish(self._keys.channel, _hint(kinds)))

    async def aclose(self) -> None:
        """Give up this loop's connections; the next operation makes new ones."""
        held = self._clients.pop(asyncio.get_running_loop(), None)
        if held is not None and self._pid == os.getpid():
            await held.aclose()

    async def _bury(self, digests: Sequence[bytes], client: AsyncClient) -> None:
        pipeline = client.pipeline(transaction=False)
        for digest in digests:
            pipeline.set(self._keys.key(digest), entries.tombstone(digest), px=TOMBSTONE_MS)
        await pipeline.execute()

    async def _ask(self, act: Callable[[AsyncClient], Awaitable[_T]]) -> _T | None:
        entered = False
        try:
            held = await self._current()
            async with asyncio.timeout(self._budget_s), held.room:
                entered = True
                answer = await held.ask(act)
        except TimeoutError as error:
            self._health.failed(error if entered else Crowded())
            return None
        except Exception as error:  # noqa: BLE001 - whatever it was, a cache never fails a request
            self._health.failed(error)
            return None
        self._health.breaker.succeeded()
        return answer

    async def _current(self) -> _OfLoop:
        if self._pid != os.getpid():
            self._renew()
        loop = asyncio.get_running_loop()
        held = self._clients.get(loop)
        if held is None:
            for closed in [other for other in self._clients if other.is_closed()]:
                del self._clients[closed]
            held = self._clients[loop] = _OfLoop(
                async_client(
                    self._address, budget_s=self._budget_s, connections=self._connections
                ),
                asyncio.Semaphore(self._connections),
            )
            await held.watch(lambda: self._clients.pop(loop, None))
        return held

    def _renew(self) -> None:
        self._inherited.append(self._clients)  # as BlockingRedis: kept and never touched
        self._clients, self._pid = {}, os.getpid()
        self._health = Health(self._clock)


class _OfLoop:
    """A client, closed when its event loop ends.

    A test client makes a loop for each request and never says when it is over. What every runner
    of loops does before closing one is to finish its async generators: so one that was begun here,
    and never asked for a second value, is told.
    """

    __slots__ = ("_closed", "_waiting", "client", "room")

    def __init__(self, client: AsyncClient, room: asyncio.Semaphore) -> None:
        self.client = client
        self.room = room
        self._waiting: AsyncGenerator[None, None] | None = None
        self._closed = False

    async def ask(self, act: Callable[[AsyncClient], Awaitable[_T]]) -> _T:
        """What `act` comes to."""
        try:
            return await act(self.client)
        finally:
            # Another task gave the client up meanwhile, and we may have connected it anew.
            if self._closed:
                with suppress(Exception):
                    await redis_clients.aclose(self.client)

    async def watch(self, forget: Callable[[], object]) -> None:
        """Have the client closed, and `forget` called, at the end of the running loop."""
        self._waiting = self._wait(forget)
        await anext(self._waiting)

    async def aclose(self) -> None:
        """Close the client now."""
        if self._waiting is not None:
            await self._waiting.aclose()

    async def _wait(self, forget: Callable[[], object]) -> AsyncGenerator[None, None]:
        try:
            yield
        finally:
            forget()
            self._closed = True
            with suppress(Exception):
                async with asyncio.timeout(_CLOSE_S):
                    await redis_clients.aclose(self.client)


def _renew_in_children(cache: BlockingRedis | AsyncRedis) -> None:
    """A fork copies locks as they are: one that another thread held is never released there."""
    alive = weakref.ref(cache)

    def renew() -> None:
        if (forked := alive()) is not None:
            forked._renew()  # noqa: SLF001 - the same file's own

    os.register_at_fork(after_in_child=renew)
