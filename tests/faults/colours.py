"""One node in this process, in either colour: a test asks both in the same words.

The async gate lives on an event loop in a thread of its own, where a task ticks all the while: the
longest gap between two ticks, but for what the machine itself took, is how long it was blocked.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, Protocol, TypeVar

from migrator import wiring
from migrator.core.errors import Unavailable
from migrator.core.gate import AsyncGate, Gate
from migrator.core.presented import Credential, Presented
from migrator.settings import Settings
from tests.faults.nodes import Answer, answer_of, present

_T = TypeVar("_T")
COLOURS: Final = ("blocking", "async")
_ISSUERS: Final = frozenset({"a1", "a2"})
_TICK_S: Final = 0.005


class Asked(Protocol):
    """A gate of either colour."""

    def show(self, token: bytes) -> Answer:
        """Present a credential as a shim does: memory first, then the gate."""
        ...

    def end(self, token: bytes) -> bool:
        """End a session; whether that was acknowledged."""
        ...

    def flush_memory(self) -> None:
        """Forget what is remembered: the next request asks the stores."""
        ...

    def fault_counts(self) -> dict[str, int]:
        """What went wrong with Redis, by name."""
        ...


class Blocking:
    """The gate of a blocking app."""

    def __init__(self, settings: Settings) -> None:
        self._gate: Gate = wiring.gate(settings)
        self._sessions = wiring.sessions(settings)

    def show(self, token: bytes) -> Answer:
        return present(self._gate, token)

    def end(self, token: bytes) -> bool:
        try:
            self._sessions.end(token)
        except Unavailable:
            return False
        return True

    def flush_memory(self) -> None:
        _forget(self._gate)

    def fault_counts(self) -> dict[str, int]:
        return _faults_of(self._gate)


class Waiting:
    """The gate of an async app, on a loop of its own."""

    def __init__(self, settings: Settings, loop: Loop) -> None:
        self._gate: AsyncGate = wiring.async_gate(settings)
        self._sessions = wiring.async_sessions(settings)
        self.loop = loop

    def show(self, token: bytes) -> Answer:
        return self.loop.do(self.showing(token))

    def end(self, token: bytes) -> bool:
        try:
            self.loop.do(self._sessions.end(token))
        except Unavailable:
            return False
        return True

    def flush_memory(self) -> None:
        _forget(self._gate)

    def fault_counts(self) -> dict[str, int]:
        return _faults_of(self._gate)

    async def showing(self, token: bytes) -> Answer:
        """`show`, for who is on the loop already."""
        presented = Presented(header=Credential(token, "header", _ISSUERS))
        try:
            outcome = self._gate.peek(presented) or await self._gate.admit(presented)
        except Unavailable:
            return Answer("unavailable")
        return answer_of(outcome.verdict)


def _forget(gate: Gate | AsyncGate) -> None:
    """Empty memory as a lack of room would: an eviction would also have no cache believed."""
    recent = gate.node.recent
    with recent._lock:
        recent._empty()


def _faults_of(gate: Gate | AsyncGate) -> dict[str, int]:
    metered: Any = gate.cache
    return dict(metered._cache.faults)


class Loop:
    """An event loop in a thread, and how long it was ever blocked."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="loop", daemon=True)
        self._thread.start()
        self.blocked_s = 0.0
        self._ticking = asyncio.run_coroutine_threadsafe(self._tick(), self._loop)

    def do(self, work: Coroutine[Any, Any, _T], within_s: float = 30.0) -> _T:
        """Run a coroutine on it and wait for what it comes to."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(within_s)

    async def _tick(self) -> None:
        # Wall time would blame us for the machine's other work: time that this thread was ready to
        # run, and waited for a processor, is not time that it was blocked.
        task = Path(f"/proc/self/task/{threading.get_native_id()}/schedstat")
        while True:
            began, waited = time.monotonic(), _waited_s(task)
            await asyncio.sleep(_TICK_S)
            gap = time.monotonic() - began - _TICK_S
            if gap > self.blocked_s:
                gap -= _waited_s(task) - waited
                self.blocked_s = max(self.blocked_s, gap)

    def close(self) -> None:
        """Finish its async generators, as every runner does, and end it."""
        self._ticking.cancel()
        self.do(self._loop.shutdown_asyncgens())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


def _waited_s(task: Path) -> float:
    """Seconds that a thread was ready to run and did not; 0 where the system does not tell."""
    try:
        return int(task.read_text().split()[1]) / 1e9
    except (OSError, IndexError):
        return 0.0


@contextmanager
def asked(colour: str, settings: Settings) -> Iterator[Asked]:
    """A gate of that colour, and everything of it gone afterwards."""
    if colour == "blocking":
        try:
            yield Blocking(settings)
        finally:
            wiring.stop()
        return
    loop = Loop()
    try:
        yield Waiting(settings, loop)
    finally:
        wiring.stop()
        loop.close()
