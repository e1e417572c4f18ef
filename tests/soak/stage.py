"""Where a soak takes place: two servers, the way to them, four workers, an operator's hand.

Half of the workers reach Postgres and Redis through proxies (`behind`), so that a fault can strike
some and not others: the interesting revocations are those that one node cannot hear of.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from migrator import wiring
from migrator.cli.demo.servers import Postgres, Redis, embedded_postgres, embedded_redis
from migrator.control import schema
from migrator.core.app import Sessions
from migrator.settings import Settings
from tests.faults.proxy import Proxy, proxied
from tests.rig import ISSUER, Rig
from tests.soak.workers import PlainNode, Server, Worker

OPERATOR: Final = "operator"
BEHIND: Final = ("uvicorn-behind", "gunicorn-behind")
# Small, so that it is full soon, and what a process holds stops growing.
_ROOM: Final = 3_000
LEEWAY: Final = "1s"


@dataclass(slots=True)
class Stage:
    """Everything that takes part.

    Args:
        secret: what the legacy app signs with.
    """

    postgres: Postgres
    redis: Redis
    to_postgres: Proxy
    to_redis: Proxy
    rig: Rig
    secret: str
    servers: list[Server]
    node: PlainNode
    operator: Sessions

    @property
    def workers(self) -> list[Worker]:
        """All that answer."""
        return [*self.servers, self.node]

    def server(self, name: str) -> Server:
        """The server of that name."""
        return next(one for one in self.servers if one.name == name)


@contextmanager
def standing(folder: Path, **broken: Any) -> Iterator[Stage]:
    """A stage in `drain`, everything up.

    Args:
        broken: tables of settings laid over the plain node's, for the test of the test.
    """
    secret, swap_key = secrets.token_urlsafe(40), secrets.token_urlsafe(32)
    with ExitStack() as stack:
        postgres = stack.enter_context(embedded_postgres(log_min_messages="fatal"))
        cache = stack.enter_context(embedded_redis())
        url = postgres.create_database("soak")
        schema.upgrade(url)
        to_postgres = stack.enter_context(proxied(url, 5432))
        to_redis = stack.enter_context(proxied(cache.url, 6379))

        def tables(database: str, redis: str) -> dict[str, Any]:
            return {
                "environment": "test",
                "app": "soak",
                "expected_nodes": 5,
                "database": {"url": database},
                "redis": {"url": redis},
                "memory": {"entries": _ROOM},
                "swap": {"keys": [{"id": "k1", "secret": swap_key}], "min_remaining": "2s"},
                "cookie": {"secure": False},
                "routes": {"login": ["/login"], "refresh": ["/refresh"], "logout": ["/logout"]},
                "issuers": [{**ISSUER, "keys": [secret], "leeway": LEEWAY}],
            }

        direct = tables(url, cache.url)
        behind = tables(to_postgres.url_of(url), to_redis.url_of(cache.url))
        Rig(url).move("drain")
        servers = []
        for name, its, blocking in (
            ("uvicorn", direct, False),
            ("uvicorn-behind", behind, False),
            ("gunicorn-behind", behind, True),
        ):
            server = Server(name, its, folder, blocking=blocking)
            stack.callback(server.close)
            servers.append(server)
        own = {**direct}
        for name, table in broken.items():
            own[name] = {**own[name], **table}
        node = PlainNode("node", Settings.build(own))
        stack.callback(node.close)
        operator = wiring.operator(Settings.build(direct))
        yield Stage(
            postgres,
            cache,
            to_postgres,
            to_redis,
            Rig(url, cache.url),
            secret,
            servers,
            node,
            operator,
        )
