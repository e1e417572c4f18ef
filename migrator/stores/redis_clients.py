"""From a Redis URL to a client that cannot hang: every wait is bounded and nothing is retried.

redis-py's defaults blocked one GET for a minute on a frozen server (5 s, ten retries). Here one
operation has one budget, connecting and signing in included. The name's resolution alone is the
system's: it cannot be interrupted in a blocking program.

    redis://  rediss://  unix://           one server
    redis+sentinel://H:P,H:P/MASTER/DB     the master that sentinels name (rediss+sentinel: TLS)
    redis+cluster://H:P,H:P                a cluster (rediss+cluster: TLS)
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field
from typing import Any, Final, Literal, TypeAlias, cast

import redis
import redis.asyncio
from redis.asyncio.cluster import ClusterNode as AsyncClusterNode
from redis.asyncio.cluster import RedisCluster as AsyncRedisCluster
from redis.asyncio.retry import Retry as AsyncRetry
from redis.backoff import NoBackoff
from redis.cluster import RedisCluster
from redis.connection import Connection, SSLConnection, UnixDomainSocketConnection
from redis.retry import Retry
from redis.sentinel import SentinelManagedConnection, SentinelManagedSSLConnection

_Options: TypeAlias = dict[str, Any]
_of: Any = redis  # redis-py's own name for what it left untyped

BlockingClient = redis.Redis | RedisCluster
AsyncClient = redis.asyncio.Redis | AsyncRedisCluster

_FORMS: Final = ("single", "sentinel", "cluster")
_SENTINEL_PORT: Final = 26379
_REDIS_PORT: Final = 6379


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """Where a Redis is, and how to sign in to it.

    `plain` is a URL of redis-py's own kind that carries credentials, database and TLS options.
    """

    form: Literal["single", "sentinel", "cluster"]
    plain: str = field(repr=False)
    nodes: tuple[tuple[str, int], ...] = ()
    service: str = ""

    @property
    def uses_tls(self) -> bool:
        """Whether servers, and sentinels, are spoken to by TLS."""
        return self.plain.startswith("rediss:")


def parse_address(url: str) -> Address:
    """Read a Redis URL. Raises: ValueError, which never quotes it, for it may hold a password."""
    scheme, found, rest = url.partition("://")
    base, _, form = scheme.partition("+")
    if not found or base not in {"redis", "rediss", "unix"} or (form and base == "unix"):
        raise ValueError("not a Redis URL")
    if not form:
        return Address(form="single", plain=url)
    if form not in _FORMS[1:]:
        raise ValueError("a Redis URL is for one server, +sentinel or +cluster")
    main, mark, query = rest.partition("?")
    netloc, _, path = main.partition("/")
    credentials, at, hosts = netloc.rpartition("@")
    service, _, database = path.partition("/") if form == "sentinel" else ("", "", "")
    if form == "sentinel" and not service:
        raise ValueError("a sentinel URL names its master: redis+sentinel://host:port/MASTER/0")
    port = _SENTINEL_PORT if form == "sentinel" else _REDIS_PORT
    nodes = tuple(_node(host, port) for host in hosts.split(",") if host)
    if not nodes:
        raise ValueError("a Redis URL names at least one host")
    return Address(
        form=cast("Literal['sentinel', 'cluster']", form),
        plain=f"{base}://{credentials}{at}localhost/{database}{mark}{query}",
        nodes=nodes,
        service=service,
    )


def _node(text: str, default_port: int) -> tuple[str, int]:
    host, colon, port = text.rpartition(":")
    if not colon or text.endswith("]"):
        host, port = text, str(default_port)
    if not port.isascii() or not port.isdigit():
        raise ValueError("a host of the Redis URL has a port that is no number")
    return host.removeprefix("[").removesuffix("]"), int(port)


# ---- blocking ----------------------------------------------------------------------------------

_until = threading.local()  # `.at`: when the operation this thread is in has to be over


class deadline:  # noqa: N801 - a context manager, spelt as one; a generator costs twice as much
    """Bound everything that blocking clients of ours read or send within the block.

    A socket timeout starts anew with every chunk: a reply that drips in would never be over.
    """

    __slots__ = ("_budget_s",)

    def __init__(self, budget_s: float) -> None:
        self._budget_s = budget_s

    def __enter__(self) -> None:
        _until.at = time.monotonic() + self._budget_s

    def __exit__(self, *_: object) -> None:
        _until.at = None


_NEARLY: Final = 0.8  # so much left is the whole budget: most replies need no change of timeouts


class _BoundedSocket:
    """A socket that never waits past its thread's deadline."""

    __slots__ = ("_sock",)

    def __init__(self, sock: Any) -> None:
        self._sock = sock

    def __getattr__(self, name: str) -> Any:
        return getattr(self._sock, name)

    def recv_into(self, *args: Any) -> int:
        return int(self._within(self._sock.recv_into, *args))

    def recv(self, *args: Any) -> bytes:
        return cast("bytes", self._within(self._sock.recv, *args))

    def sendall(self, *args: Any) -> None:
        self._within(self._sock.sendall, *args)

    def _within(self, act: Any, *args: Any) -> Any:
        at, usual = getattr(_until, "at", None), self._sock.gettimeout()
        if at is None or usual == 0:
            return act(*args)
        left = at - time.monotonic()
        if left <= 0:
            raise TimeoutError
        if usual is not None and _NEARLY * usual <= left:
            return act(*args)
        self._sock.settimeout(left)
        try:
            return act(*args)
        finally:
            self._sock.settimeout(usual)


class _Bounded:
    """Mixed into redis-py's connections: what they connect to is a `_BoundedSocket`."""

    def _connect(self) -> Any:
        return _BoundedSocket(super()._connect())  # type: ignore[misc] # redis-py's own hook


class _Tcp(_Bounded, Connection):
    pass


class _Tls(_Bounded, SSLConnection):
    pass


class _Unix(_Bounded, UnixDomainSocketConnection):
    pass


class _SentinelTcp(_Bounded, SentinelManagedConnection):
    pass


class _SentinelTls(_Bounded, SentinelManagedSSLConnection):
    pass


_BOUNDED: Final = {Connection: _Tcp, SSLConnection: _Tls, UnixDomainSocketConnection: _Unix}
_ASYNC: Final = {
    Connection: redis.asyncio.Connection,
    SSLConnection: redis.asyncio.SSLConnection,
    UnixDomainSocketConnection: redis.asyncio.UnixDomainSocketConnection,
}


def blocking_client(address: Address, *, budget_s: float, connections: int) -> BlockingClient:
    """A client that may be shared between threads. One for a cluster asks it on the spot."""
    options = _options(address, Retry(NoBackoff(), 0), budget_s=budget_s, connections=connections)
    if address.form == "single":
        usual = options.get("connection_class", Connection)
        options["connection_class"] = _BOUNDED[usual]
        return redis.Redis.from_pool(redis.ConnectionPool(**options))
    _without_place(options)
    tls = options["ssl"] = address.uses_tls
    if address.form == "sentinel":
        sentinel = _of.Sentinel(address.nodes, sentinel_kwargs=_to_sentinels(options), **options)
        ours = _SentinelTls if tls else _SentinelTcp
        return cast("redis.Redis", sentinel.master_for(address.service, connection_class=ours))
    # Only where its first node comes as a URL does it take a connection class of ours.
    del options["ssl"]
    options["connection_class"] = _Tls if tls else _Tcp
    (host, port), *others = address.nodes
    place = f"redis://[{host}]:{port}" if ":" in host else f"redis://{host}:{port}"
    nodes = [_of.cluster.ClusterNode(*node) for node in others]
    return RedisCluster(url=place, startup_nodes=nodes, **options)


def close(client: BlockingClient) -> None:
    """Close a client of ours, and those to its sentinels, which its own close forgets."""
    client.close()
    for sentinel in _sentinels_of(client):
        sentinel.close()


# ---- async -------------------------------------------------------------------------------------


def async_client(address: Address, *, budget_s: float, connections: int) -> AsyncClient:
    """A client for the running event loop and no other. Its user bounds each operation."""
    retry = AsyncRetry(NoBackoff(), 0)
    options = _options(address, retry, budget_s=budget_s, connections=connections)
    if address.form == "single":
        options["connection_class"] = _ASYNC[options.get("connection_class", Connection)]
        return redis.asyncio.Redis.from_pool(redis.asyncio.ConnectionPool(**options))
    _without_place(options)
    options["ssl"] = address.uses_tls
    if address.form == "sentinel":
        to_them = _to_sentinels(options)
        sentinel = _of.asyncio.Sentinel(address.nodes, sentinel_kwargs=to_them, **options)
        return cast("redis.asyncio.Redis", sentinel.master_for(address.service))
    nodes = [AsyncClusterNode(*node) for node in address.nodes]
    return AsyncRedisCluster(startup_nodes=nodes, **options)


async def aclose(client: AsyncClient) -> None:
    """Close a client of ours, and those to its sentinels, which its own close forgets."""
    await client.aclose()
    for sentinel in _sentinels_of(client):
        await sentinel.aclose()


# ---- both --------------------------------------------------------------------------------------


def _options(address: Address, retry: object, *, budget_s: float, connections: int) -> _Options:
    """What the URL says, overruled by what must not be otherwise."""
    return {
        **_of.connection.parse_url(address.plain),
        "retry": retry,
        "socket_timeout": budget_s,
        "socket_connect_timeout": budget_s,
        "health_check_interval": 0,
        "protocol": 2,  # every server speaks it, and it needs no greeting
        "decode_responses": False,
        "max_connections": connections,
    }


def _without_place(options: _Options) -> None:
    for name in ("host", "port", "connection_class"):
        options.pop(name, None)


def _to_sentinels(options: _Options) -> _Options:
    """How sentinels themselves are reached: as the servers are, with credentials of their own."""
    theirs = {name: options.pop(f"sentinel_{name}", None) for name in ("username", "password")}
    shared = {name: options[name] for name in options.keys() - {*theirs, "db", "max_connections"}}
    return {**shared, **theirs}


def _sentinels_of(client: BlockingClient | AsyncClient) -> list[Any]:
    manager = getattr(getattr(client, "connection_pool", None), "sentinel_manager", None)
    return list(manager.sentinels) if manager is not None else []
