"""When a cache that does not answer is left alone, and when it is tried again.

It knows nothing of Redis: who asks it says what went wrong. Three failures in a row open it for a
second; then one probe at a time is let through, and each probe that fails doubles the pause, up to
two seconds. So a frozen Redis costs three timeouts and then one now and again, not one a request.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Final

FAILURES: Final = 3  # in a row: one lost packet is not an outage
FIRST_PAUSE_S: Final = 1.0
# Short, since Postgres may be the next to die, and then the cache is all there is.
LONGEST_PAUSE_S: Final = 2.0


class Breaker:
    """Lets calls through while they succeed. Safe between threads; takes no lock while closed."""

    __slots__ = ("_clock", "_failures", "_lock", "_open_until", "_pause_s", "_probing")

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._failures = 0
        self._open_until: float | None = None
        self._pause_s = FIRST_PAUSE_S
        self._probing = False

    @property
    def is_open(self) -> bool:
        """Whether calls are being held back, but for probes."""
        return self._open_until is not None

    @property
    def is_well(self) -> bool:
        """Whether the last call succeeded, as far as is known."""
        return self._open_until is None and not self._failures

    def allows(self) -> bool:
        """Whether to try now. A yes while open makes the caller the probe."""
        if self._open_until is None:
            return True
        with self._lock:
            if self._open_until is None:
                return True
            now = self._clock()
            if now < self._open_until:
                return False
            # A probe whose caller was cancelled never reports, so its turn ends by itself.
            self._open_until = now + self._pause_s
            self._probing = True
            return True

    def succeeded(self) -> None:
        """It answered: everybody may ask again."""
        if self._open_until is None and not self._failures:
            return
        with self._lock:
            self._failures = 0
            self._open_until = None
            self._pause_s = FIRST_PAUSE_S
            self._probing = False

    def failed(self) -> None:
        """It did not answer."""
        with self._lock:
            if self._open_until is None:
                self._failures += 1
                if self._failures >= FAILURES:
                    self._open_until = self._clock() + self._pause_s
            elif self._probing:  # else a straggler, sent before it opened, that proves nothing new
                self._probing = False
                self._pause_s = min(2 * self._pause_s, LONGEST_PAUSE_S)
                self._open_until = self._clock() + self._pause_s
