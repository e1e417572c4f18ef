"""A cache of either colour, how to run it, and what it is filled with."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from migrator.core.interfaces import Found
from migrator.core.sessions import Session
from migrator.stores.redis import AsyncRedis, BlockingRedis

COLOURS = ["blocking", "async"]
BUDGET_S = 0.05
# What a test allows beside the budget on a machine that is busy with others. Where a claim is "it
# does not wait at all", hundreds of operations together must fit in it.
SLACK_S = 1.0


class Clock:
    """Real time, and what a test adds to it."""

    def __init__(self) -> None:
        self.ahead_s = 0.0

    def __call__(self) -> float:
        return time.monotonic() + self.ahead_s


@dataclass(slots=True)
class Rig:
    cache: BlockingRedis | AsyncRedis
    run: Callable[[Coroutine[Any, Any, Any]], Any]
    clock: Clock = field(default_factory=Clock)

    def get(self, digest: bytes) -> object:
        return self.run(self.cache.get(digest))

    def fill(self, found: Found) -> None:
        self.run(self.cache.fill(found))

    def bury(self, digests: Sequence[bytes]) -> None:
        self.run(self.cache.bury(digests))

    def timed_get(self, digest: bytes) -> float:
        start = time.monotonic()
        assert self.get(digest) is None
        return time.monotonic() - start


Make = Callable[..., Rig]


def a_found(digest: bytes | None = None) -> Found:
    now = datetime.now(UTC)
    session = Session(
        id=uuid.uuid4(),
        kind="session",
        realm="users",
        subject="1",
        created_at=now,
        expires_at=now + timedelta(days=1),
        origin="login",
    )
    return Found(digest=digest or uuid.uuid4().bytes * 2, session=session, read_at=now)


def key_of(digest: bytes, namespace: str = "t") -> str:
    return f"{namespace}:s1:{digest.hex()}"
