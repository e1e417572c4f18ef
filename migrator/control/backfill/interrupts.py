"""Ctrl-C during a backfill: after the pages that are under way; if repeated, they are undone."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class Interrupts:
    """What the operator asked for, and whether it may happen now."""

    def __init__(self) -> None:
        self.asked = False
        self.insisted = False
        self._within = False

    @contextmanager
    def finishing(self) -> Iterator[None]:
        """Within this a Ctrl-C only sets `asked`, and a second one `insisted`."""
        self._within = True
        try:
            yield
        finally:
            self._within = False

    def _handle(self, _signum: int, _frame: FrameType | None) -> None:
        self.insisted, self.asked = self.asked, True
        if not self._within:
            raise KeyboardInterrupt


@contextmanager
def minded() -> Iterator[Interrupts]:
    """Handle SIGINT here; only a process's main thread can, elsewhere nothing changes."""
    interrupts = Interrupts()
    if threading.current_thread() is not threading.main_thread():
        yield interrupts
        return
    before = signal.signal(signal.SIGINT, interrupts._handle)  # noqa: SLF001 - its own module's
    try:
        yield interrupts
    finally:
        signal.signal(signal.SIGINT, before)
