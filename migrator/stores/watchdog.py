"""What ends a wait on a server that has frozen: its socket is shut from outside.

Nothing else does. Statement, TCP user and keepalive timeouts were tried and left psycopg waiting,
and its own cancelling takes ten seconds (measured).
"""

from __future__ import annotations

import os
import socket
import threading
import time
from contextlib import suppress
from typing import Any

import psycopg

_TICK_S = 0.05
# A watchdog with nothing to watch for so long ends; a process keeps no thread it does not need.
_IDLE_S = 10.0


def shut(connection: psycopg.Connection[Any] | psycopg.AsyncConnection[Any]) -> None:
    """Shut a connection's socket under whoever waits on it: psycopg then raises at once."""
    with suppress(OSError, psycopg.Error), socket.socket(fileno=os.dup(connection.fileno())) as s:
        s.shutdown(socket.SHUT_RDWR)


class Watchdog:
    """One thread that shuts what outstays its budget; nothing else wakes a frozen wait."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._watched: dict[int, tuple[float, psycopg.Connection[Any]]] = {}
        self._busy = threading.Event()
        self._thread: threading.Thread | None = None
        self._ended = False

    def watch(self, connection: psycopg.Connection[Any], deadline: float) -> int:
        """Shut `connection` at `deadline` (monotonic seconds) unless it is released before."""
        key = id(connection)
        with self._lock:
            self._watched[key] = (deadline, connection)
        if self._thread is None or not self._thread.is_alive():
            self._start()
        self._busy.set()
        return key

    def release(self, key: int) -> None:
        """It came back in time."""
        with self._lock:
            self._watched.pop(key, None)

    def end(self) -> None:
        """Let the thread go once nothing is watched; the next `watch` starts another."""
        with self._lock:
            self._ended = True
        self._busy.set()

    def _start(self) -> None:
        with self._lock:
            if self._thread is None or not self._thread.is_alive():
                self._ended = False
                self._thread = threading.Thread(
                    target=self._run, name="migrator-watchdog", daemon=True
                )
                self._thread.start()

    def _run(self) -> None:
        while True:
            was_asked = self._busy.wait(_IDLE_S)
            time.sleep(_TICK_S)
            now = time.monotonic()
            with self._lock:
                late = [key for key, (deadline, _) in self._watched.items() if now >= deadline]
                for key in late:
                    shut(self._watched.pop(key)[1])
                if not self._watched:
                    self._busy.clear()
                    if self._ended or not was_asked:
                        self._thread = None
                        return
