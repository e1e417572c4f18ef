"""A deployment to hurt: servers of its own, and a node that reaches both through proxies."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import redis

from migrator import wiring
from migrator.cli.demo.servers import Postgres, Redis, embedded_postgres, embedded_redis
from migrator.control import schema
from migrator.core.app import Sessions
from tests.faults.nodes import Answer, Node, Watched, nodes, present
from tests.faults.proxy import Proxy, proxied
from tests.rig import Rig, sign

# As shipped: the bounds of design section 8 are stated for these.
MEMORY = {"poll_ms": 400, "trust_ms": 900}


@dataclass(frozen=True, slots=True)
class Deployment:
    """Two servers, the way to them, and one node.

    Args:
        rig: reaches both servers directly.
        through: the same deployment through the proxies.
        node: a process that only knows the proxies.
    """

    postgres: Postgres
    redis: Redis
    to_postgres: Proxy
    to_redis: Proxy
    rig: Rig
    through: Rig
    node: Node

    def operator(self, rig: Rig | None = None) -> Sessions:
        """What a command works with; one for each use, as each command is a process of its own."""
        return wiring.operator((rig or self.rig).settings())

    def swapped(self, subject: str) -> tuple[bytes, bytes]:
        """A legacy token and the token it became, by way of the node."""
        legacy = sign(subject).encode()
        answer: Answer = self.node.show(legacy)
        assert answer.token is not None, answer
        assert self.node.show(answer.token).kind == "admitted"
        return legacy, answer.token

    def watched(self, token: bytes, revoke: Callable[[], float], seconds: float = 4.0) -> Bound:
        """How long the node went on admitting `token` after `revoke` was acknowledged."""
        self.node.tell("watch", token=token, seconds=seconds)
        time.sleep(0.05)
        acknowledged = revoke()
        return Bound(acknowledged, self.node.hear())

    def cache(self, token: bytes) -> None:
        """Have an entry of the session in Redis, as another node's request leaves it."""
        gate = wiring.gate(self.rig.settings())
        try:
            assert present(gate, token).kind == "admitted"
        finally:
            wiring.stop()
        assert self.is_cached(token)

    def is_cached(self, token: bytes) -> bool:
        """Whether Redis holds anything of the session, an entry or a tombstone."""
        digest = hashlib.sha256(token).hexdigest()
        with redis.Redis.from_url(self.redis.url) as client:
            return any(client.scan_iter(match=f"*{digest}"))

    def revoke_behind_redis(self, token: bytes) -> float:
        """Revoke where Redis cannot be reached: its entry stays, and no tombstone covers it."""
        unreachable = {"url": "redis://127.0.0.1:1/0"}
        assert wiring.operator(self.rig.settings(redis=unreachable)).end(token) == 1
        assert self.is_cached(token)
        return time.monotonic()

    def heal(self) -> None:
        """Have everything up again, and the node trusting its memory."""
        self.node.thaw()
        self.to_postgres.heal()
        self.to_redis.heal()
        for server in (self.postgres, self.redis):
            if server.is_running:
                server.resume()
            else:
                server.start()
        self.redis.flush()


@dataclass(frozen=True, slots=True)
class Bound:
    """What the node answered, and when it was told that the revocation is in force."""

    acknowledged: float
    watched: Watched

    @property
    def admitted_for_s(self) -> float:
        """Seconds from the acknowledgement to the last request that was still admitted."""
        return max(0.0, (self.watched.admitted_at or 0.0) - self.acknowledged)

    @property
    def refused(self) -> bool:
        """Whether it was refused in the end."""
        return self.watched.refused_at is not None


@contextmanager
def deployment(**tables: Any) -> Iterator[Deployment]:
    """A deployment in `drain`, everything up."""
    with ExitStack() as stack:
        postgres = stack.enter_context(embedded_postgres())
        cache = stack.enter_context(embedded_redis())
        url = postgres.create_database("deployment")
        schema.upgrade(url)
        to_postgres = stack.enter_context(proxied(url, 5432))
        to_redis = stack.enter_context(proxied(cache.url, 6379))
        usual: dict[str, Any] = {"memory": MEMORY, **tables}
        rig = Rig(url, cache.url, **usual)
        through = Rig(to_postgres.url_of(url), to_redis.url_of(cache.url), **usual)
        rig.move("drain")
        (node,) = stack.enter_context(nodes(through.settings()))
        yield Deployment(postgres, cache, to_postgres, to_redis, rig, through, node)
