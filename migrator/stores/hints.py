"""How a hint is heard: somebody else's revocation, sooner than the next poll of the feed.

It only ever wakes the pulse. What was revoked is read from the feed itself, so nothing that was
published is believed, and nothing that was lost is missed.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final, cast

from migrator.stores import redis_clients
from migrator.stores.redis_clients import (
    BlockingClient,
    blocking_client,
    deadline,
    parse_address,
)


def channel_of(namespace: str) -> str:
    """Where the hints of one deployment are published."""
    return f"{namespace}:feed"


class Hints:
    """Listens for hints, in the pulse's thread and on a connection of its own.

    A lost hint costs nothing, so nothing here raises, and a connection that fell silent is not
    looked for: the feed is polled anyway.

    Args:
        stop: set to end a wait early.
    """

    _FIRST_PAUSE_S: Final = 1.0
    _LONGEST_PAUSE_S: Final = 10.0
    _DRAINED_AT_ONCE: Final = 1000  # a flood must not keep the pulse from its work

    def __init__(
        self,
        url: str,
        *,
        namespace: str,
        stop: threading.Event,
        budget_s: float = 0.05,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._address = parse_address(url)
        self._channel = channel_of(namespace)
        self._budget_s = budget_s
        self._stop = stop
        self._clock = clock
        self._pubsub: Any = None
        self._client: BlockingClient | None = None
        self._pause_s = self._FIRST_PAUSE_S
        self._retry_at = clock()

    def wait(self, timeout_s: float) -> bool:
        """Wait at most `timeout_s`; True once a hint came, with all that had come by then."""
        ends_at = self._clock() + timeout_s
        try:
            if self._listens():
                return self._receive(ends_at)
        except Exception:  # noqa: BLE001 - whatever it was, hints may be lost
            self._give_up()
        self._stop.wait(max(0.0, ends_at - self._clock()))
        return False

    def close(self) -> None:
        """Give up the connection."""
        pubsub, client = self._pubsub, self._client
        self._pubsub = self._client = None
        with suppress(Exception):
            if pubsub is not None:
                pubsub.close()
        with suppress(Exception):
            if client is not None:
                redis_clients.close(client)

    def _listens(self) -> bool:
        if self._pubsub is not None:
            return True
        if self._clock() < self._retry_at:
            return False
        self._client = blocking_client(self._address, budget_s=self._budget_s, connections=2)
        pubsub = self._pubsub = cast("Any", self._client).pubsub(ignore_subscribe_messages=True)
        with deadline(2 * self._budget_s):
            pubsub.subscribe(self._channel)
        return True

    def _receive(self, ends_at: float) -> bool:
        while (left := ends_at - self._clock()) > 0 and not self._stop.is_set():
            message = self._pubsub.get_message(timeout=left)
            self._pause_s = self._FIRST_PAUSE_S
            if message is not None:
                for _ in range(self._DRAINED_AT_ONCE):
                    if self._pubsub.get_message(timeout=0) is None:
                        break
                return True
        return False

    def _give_up(self) -> None:
        self.close()
        self._retry_at = self._clock() + self._pause_s
        self._pause_s = min(2 * self._pause_s, self._LONGEST_PAUSE_S)
