"""HTTP as the simulated users speak it: one pool of kept connections, and one per worker."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import httpx

from migrator.cli.demo.app import WORKER_HEADER
from migrator.cli.demo.deployment import WORKERS
from migrator.cli.demo.judge import Scores

_CONNECTIONS = 64
_CONNECTIONS_EACH = 1  # a second one might lead to another worker
_TIMEOUT_SECONDS = 30.0
_ATTEMPTS = 400  # of finding a connection to each worker; the kernel deals them out as it likes
_PAUSE_SECONDS = 0.02


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """An answer, and when it was asked for and got, in Unix time."""

    status: int
    body: Mapping[str, Any]
    headers: httpx.Headers
    sent_at: float
    got_at: float

    @property
    def worker(self) -> int:
        """The process id of the worker it comes from."""
        return int(self.headers.get(WORKER_HEADER, 0))

    @property
    def is_login_screen(self) -> bool:
        """Whether a browser would show one now."""
        return self.status == 401 or (
            self.status == 303 and self.headers.get("location") == "/login"
        )


class Site:
    """The app, seen from outside."""

    def __init__(self, url: str, scores: Scores) -> None:
        self.url = url
        self.scores = scores
        self._transport = _transport(_CONNECTIONS)
        # httpx's pool lets waiting requests race for a free connection, and on a busy machine some
        # never win; turns are dealt out in order.
        self._turns = asyncio.Semaphore(_CONNECTIONS // 2)
        self._anyone = self.browser()

    def browser(self) -> httpx.AsyncClient:
        """A client with a cookie jar of its own, on the connections all share."""
        return httpx.AsyncClient(
            base_url=self.url,
            transport=self._transport,
            timeout=_TIMEOUT_SECONDS,
            trust_env=False,
        )

    async def ask(
        self,
        method: str,
        path: str,
        *,
        agent: str,
        token: str | None = None,
        json: Mapping[str, object] | None = None,
        headers: Mapping[str, str] | None = None,
        client: httpx.AsyncClient | None = None,
    ) -> Reply:
        """Send a request and return its answer; "not now" and lost connections are tried again.

        A 503 is no logout: a client keeps its credential and comes back, as the answer asks.
        """
        asked = {"User-Agent": agent, **(headers or {})}
        if token is not None:
            asked["Authorization"] = f"Bearer {token}"
        client = client or self._anyone
        if client is self._anyone:
            client.cookies.clear()
        while True:
            try:
                async with self._turns:
                    sent_at = time.time()
                    response = await client.request(method, path, json=json, headers=asked)
            except httpx.TransportError:
                self.scores.lost_connections += 1
                await asyncio.sleep(_PAUSE_SECONDS)
                continue
            self.scores.requests += 1
            if response.status_code == 503:
                self.scores.not_now += 1
                await asyncio.sleep(float(response.headers.get("retry-after", "1")))
                continue
            if response.status_code >= 400 and response.status_code != 401:
                self.scores.errors[response.status_code] += 1
                self.scores.note(f"{agent} at {path}: status {response.status_code}")
            return _reply(response, sent_at)

    async def close(self) -> None:
        """Let go of every connection."""
        await self._transport.aclose()


class Wires:
    """A connection to each worker, so that a question can be put to every one of them."""

    def __init__(self, clients: list[httpx.AsyncClient], scores: Scores) -> None:
        self._clients = clients
        self._scores = scores

    async def ask(self, token: str, *, agent: str) -> list[Reply]:
        """Every worker's answer to `token`."""
        headers = {"User-Agent": agent, "Authorization": f"Bearer {token}"}
        return [await self._ask(client, headers) for client in self._clients]

    async def _ask(self, client: httpx.AsyncClient, headers: Mapping[str, str]) -> Reply:
        while True:
            sent_at = time.time()
            try:
                response = await client.get("/me", headers=headers)
            except httpx.TransportError:
                self._scores.lost_connections += 1
                await asyncio.sleep(_PAUSE_SECONDS)
                continue
            self._scores.requests += 1
            if response.status_code != 503:
                return _reply(response, sent_at)
            self._scores.not_now += 1
            await asyncio.sleep(float(response.headers.get("retry-after", "1")))


@asynccontextmanager
async def wires(site: Site) -> AsyncIterator[Wires]:
    """A connection to each worker for the length of the block."""
    found: dict[int, httpx.AsyncClient] = {}
    try:
        for _ in range(_ATTEMPTS):
            client = httpx.AsyncClient(
                base_url=site.url,
                transport=_transport(_CONNECTIONS_EACH),
                timeout=_TIMEOUT_SECONDS,
                trust_env=False,
            )
            response = await client.get("/login")
            worker = int(response.headers[WORKER_HEADER])
            if worker in found:
                await client.aclose()
                await asyncio.sleep(_PAUSE_SECONDS)
            else:
                found[worker] = client
            if len(found) == WORKERS:
                break
        else:
            raise RuntimeError(f"only {len(found)} of {WORKERS} workers ever answered")
        yield Wires([*found.values()], site.scores)
    finally:
        for client in found.values():
            await client.aclose()


def _transport(connections: int) -> httpx.AsyncHTTPTransport:
    limits = httpx.Limits(
        max_connections=connections, max_keepalive_connections=connections, keepalive_expiry=90
    )
    # Nothing here is TLS; reading the machine's certificates for each client costs 20 ms.
    return httpx.AsyncHTTPTransport(verify=False, limits=limits, trust_env=False)


def _reply(response: httpx.Response, sent_at: float) -> Reply:
    body = response.json() if response.content and response.status_code != 303 else {}
    return Reply(
        status=response.status_code,
        body=body if isinstance(body, dict) else {},
        headers=response.headers,
        sent_at=sent_at,
        got_at=time.time(),
    )
