"""What can go wrong with a Redis, by name, and which of it says that it is not there.

The names are the labels of the metrics and what `doctor` prints.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Final, Literal

import redis.exceptions as broken

from migrator.stores.breaker import Breaker

Fault = Literal[
    "timeout",  # no answer within the budget
    "unreachable",  # no connection, or it broke
    "not_allowed",  # the password or the ACL is wrong
    "crowded",  # every connection was taken
    "answered_error",  # read-only, out of memory, older than 6.2
    "unexpected",  # the client raised something else
    "crossed",  # the reply belonged to another question
    "unreadable",  # not an entry of this version
    "uncachable",  # too large, or not to be said in JSON
    "skipped",  # not asked: the breaker is open
]


class Crowded(Exception):
    """No connection became free in time. Redis is not to blame, so it is no outage."""


class Place:
    """One of so many places at once. Raises Crowded where none becomes free in time."""

    __slots__ = ("_room", "_wait_s")

    def __init__(self, room: threading.Semaphore, wait_s: float) -> None:
        self._room = room
        self._wait_s = wait_s

    def __enter__(self) -> None:
        if not self._room.acquire(timeout=self._wait_s):
            raise Crowded

    def __exit__(self, *_: object) -> None:
        self._room.release()


class Health:
    """What one process knows of its Redis: the breaker, and a count of each fault."""

    __slots__ = ("_lock", "breaker", "faults")

    def __init__(self, clock: Callable[[], float]) -> None:
        self.breaker = Breaker(clock)
        self.faults: dict[str, int] = {}
        self._lock = threading.Lock()

    def count(self, fault: Fault, number: int = 1) -> None:
        """Note a fault."""
        with self._lock:
            self.faults[fault] = self.faults.get(fault, 0) + number

    def allows(self) -> bool:
        """Whether to ask Redis now; a no is counted as skipped."""
        if self.breaker.allows():
            return True
        self.count("skipped")
        return False

    def is_well(self) -> bool:
        """Whether the last question was answered; a no is counted as skipped."""
        if self.breaker.is_well:
            return True
        self.count("skipped")
        return False

    def failed(self, error: Exception) -> None:
        """Note that an operation raised `error`."""
        fault = _fault_of(error)
        self.count(fault)
        if fault == "answered_error":
            self.breaker.succeeded()  # it is there and quick, only not willing
        elif fault != "crowded":
            self.breaker.failed()


def _fault_of(error: Exception) -> Fault:
    return next((fault for kind, fault in _FAULTS if isinstance(error, kind)), "unexpected")


_FAULTS: Final[tuple[tuple[type[Exception], Fault], ...]] = (  # the first that fits
    (Crowded, "crowded"),
    (broken.TimeoutError, "timeout"),
    (TimeoutError, "timeout"),
    (broken.AuthenticationError, "not_allowed"),
    (broken.AuthorizationError, "not_allowed"),
    (broken.MaxConnectionsError, "crowded"),
    (broken.ClusterError, "unreachable"),
    (broken.ConnectionError, "unreachable"),
    (OSError, "unreachable"),
    (broken.ResponseError, "answered_error"),
)
