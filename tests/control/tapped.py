"""Commands as processes of their own, and a tap on what they say to Postgres.

The tap reads the protocol as it passes: each Query or Parse message is a statement. It can kill
the command with SIGKILL before or right after statement number N goes out, and it can hold the
statement that moves the rollout back until another command has come to the same point.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Literal
from urllib.parse import urlsplit, urlunsplit

ROOT = Path(__file__).parents[2]
When = Literal["before", "after"]


@dataclass(frozen=True)
class Ended:
    """How a command ended: its exit code (negative: the signal) and all it said."""

    code: int
    said: str


class Commands:
    """Starts commands quickly: a warm process forks each of them."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._zygote = subprocess.Popen(
            [sys.executable, "-m", "tests.control.zygote"],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._numbers = iter(range(1_000_000))

    def start(self, args: Sequence[str], env: Mapping[str, str]) -> Running:
        """Start one; the one before it has to be over."""
        out = self._directory / f"{id(self)}-{next(self._numbers)}.out"
        line = json.dumps({"argv": [*args], "env": {**_usual(), **env}, "out": str(out)})
        self._stdin.write(line + "\n")
        self._stdin.flush()
        return Running(int(self._stdout.readline()), out, self._stdout)

    def close(self) -> None:
        self._stdin.close()
        self._zygote.wait(10)
        self._stdout.close()

    @property
    def _stdin(self) -> IO[str]:
        assert self._zygote.stdin is not None
        return self._zygote.stdin

    @property
    def _stdout(self) -> IO[str]:
        assert self._zygote.stdout is not None
        return self._zygote.stdout


@dataclass(frozen=True)
class Running:
    """A command that runs."""

    pid: int
    out: Path
    answers: IO[str]

    def wait(self) -> Ended:
        code = int(self.answers.readline())
        return Ended(code, self.out.read_text() if self.out.exists() else "")


def _usual() -> dict[str, str]:
    kept = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR")
    return {name: os.environ[name] for name in kept if name in os.environ}


class Tap:
    """A proxy before Postgres that sees each statement before the server does."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._target = (parts.hostname or "127.0.0.1", parts.port or 5432)
        self._parts = parts
        self._server = socket.create_server(("127.0.0.1", 0))
        self._lock = threading.Lock()
        self._forget()
        self._thread = threading.Thread(target=self._accept, name="tap", daemon=True)
        self._thread.start()

    def url_of(self, url: str) -> str:
        """The same database, through here."""
        parts = urlsplit(url)
        who, at, _ = parts.netloc.rpartition("@")
        port = self._server.getsockname()[1]
        return urlunsplit(parts._replace(netloc=f"{who}{at}127.0.0.1:{port}"))

    def _forget(self) -> None:
        self.statements: list[str] = []
        self._kill_at: tuple[int, When] | None = None
        self._pid: int | None = None
        self._known = threading.Event()
        self._hold: Callable[[], None] | None = None

    def arm(self, at: int | None = None, when: When = "before") -> None:
        """Count from one again, and kill the command at statement `at`."""
        with self._lock:
            self._forget()
            self._kill_at = None if at is None else (at, when)

    def aim(self, pid: int) -> None:
        """Whom to kill; statements wait until that is known."""
        self._pid = pid
        self._known.set()

    def hold_moves(self, until: Callable[[], None]) -> None:
        """Call `until` before the statement that moves the rollout goes out, once."""
        with self._lock:
            self._hold = until

    def close(self) -> None:
        with suppress(OSError):  # wakes `accept`
            self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()
        self._thread.join(5)

    def _accept(self) -> None:
        while True:
            try:
                here, _ = self._server.accept()
            except OSError:
                return
            there = socket.create_connection(self._target)
            for each in (here, there):
                each.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            threading.Thread(target=self._listen, args=(here, there), daemon=True).start()
            threading.Thread(target=_carry, args=(there, here), daemon=True).start()

    def _listen(self, here: socket.socket, there: socket.socket) -> None:
        """Carry what the command says, message by message."""
        with suppress(OSError, EOFError):
            _startup(here, there)
            while True:
                kind = _exactly(here, 1)
                length = _exactly(here, 4)
                body = _exactly(here, struct.unpack("!I", length)[0] - 4)
                if kind in {b"Q", b"P"} and self._ends(body):
                    break
                there.sendall(kind + length + body)
                if kind in {b"Q", b"S"}:
                    self._ends_after()
        for each in (here, there):
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()

    def _ends(self, body: bytes) -> bool:
        statement = body.replace(b"\0", b" ").decode("utf-8", "replace").strip()
        with self._lock:
            self.statements.append(statement)
            number, hold = len(self.statements), self._hold
            if hold is not None and ".rollout SET" in statement:
                self._hold = None
            else:
                hold = None
        if hold is not None:
            hold()
        if self._kill_at == (number, "before"):
            self._kill()
            return True
        return False

    def _ends_after(self) -> None:
        if self._kill_at is not None and self._kill_at[1] == "after":
            with self._lock:
                over = len(self.statements) >= self._kill_at[0]
            if over:
                self._kill()

    def _kill(self) -> None:
        assert self._known.wait(10)
        assert self._pid is not None
        with suppress(ProcessLookupError):
            os.kill(self._pid, signal.SIGKILL)


def _startup(here: socket.socket, there: socket.socket) -> None:
    """The first messages have no type: requests for encryption, then the startup itself."""
    while True:
        length = _exactly(here, 4)
        body = _exactly(here, struct.unpack("!I", length)[0] - 4)
        there.sendall(length + body)
        if struct.unpack("!I", body[:4])[0] == 0x0003_0000 or body[:2] == b"\0\3":
            return


def _exactly(peer: socket.socket, size: int) -> bytes:
    parts = []
    while size:
        part = peer.recv(size)
        if not part:
            raise EOFError
        parts.append(part)
        size -= len(part)
    return b"".join(parts)


def _carry(source: socket.socket, target: socket.socket) -> None:
    with suppress(OSError):
        while chunk := source.recv(65_536):
            target.sendall(chunk)
    with suppress(OSError):
        target.shutdown(socket.SHUT_RDWR)


@contextmanager
def commands(directory: Path) -> Iterator[Commands]:
    """A warm starter of commands."""
    starter = Commands(directory)
    try:
        yield starter
    finally:
        starter.close()


@contextmanager
def tapped(url: str) -> Iterator[Tap]:
    """A tap before the server of this URL."""
    tap = Tap(url)
    try:
        yield tap
    finally:
        tap.close()
