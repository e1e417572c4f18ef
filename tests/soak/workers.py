"""The workers of a soak: real servers and plain nodes, asked alike, hurt alike.

Each worker says what became of a request in the words of history.py, and which process answered.
"""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import closing, suppress
from dataclasses import dataclass
from multiprocessing.connection import wait as wait_readable
from pathlib import Path
from typing import Any, Final, Protocol

from migrator.cli.demo import processes
from migrator.settings import Settings
from tests.faults.nodes import Node
from tests.soak.history import Kind
from tests.soak.served import PID, VARIABLE

ROOT: Final = Path(__file__).parents[2]
_START_S: Final = 60.0
_PATIENCE_S: Final = 20.0
_UNAVAILABLE: Final = 503


@dataclass(frozen=True, slots=True)
class Said:
    """What became of a request.

    Args:
        token: one that was handed out or issued.
        sort: of an issued token.
    """

    kind: Kind
    pid: int | None = None
    reason: str | None = None
    subject: str | None = None
    token: str | None = None
    sort: str | None = None


class Worker(Protocol):
    """Something that runs the shim."""

    name: str

    def show(self, token: str) -> Said:
        """Present a credential on an ordinary route."""

    def exchange(self, token: str) -> Said:
        """Present one at the refresh route."""

    def pids(self) -> list[int]:
        """The processes that answer."""


class Server:
    """A web server on a port of its own, which it has again after a restart."""

    def __init__(self, name: str, tables: dict[str, Any], folder: Path, *, blocking: bool) -> None:
        self.name = name
        self._tables = tables
        self._log = folder / f"{name}.log"
        self._blocking = blocking
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self._port = int(probe.getsockname()[1])
        self._wires = threading.local()
        self._opened: list[http.client.HTTPConnection] = []
        self.start()

    def start(self) -> None:
        """Start it; returns when it answers."""
        with self._log.open("ab") as output:
            self._process = subprocess.Popen(
                [sys.executable, "-m", *self._argv()],
                cwd=ROOT,
                env={"PATH": os.environ["PATH"], VARIABLE: json.dumps(self._tables)},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self.await_answer()

    def _argv(self) -> list[str]:
        if self._blocking:
            how = "-w 2 -k gthread --threads 6 --keep-alive 75 --graceful-timeout 2"
            return ["gunicorn", "tests.soak.served:wsgi()", *how.split(), "-b", self._address]
        how = "--factory --no-access-log --timeout-keep-alive 75 --log-level warning --port"
        return ["uvicorn", "tests.soak.served:asgi", *how.split(), str(self._port)]

    @property
    def _address(self) -> str:
        return f"127.0.0.1:{self._port}"

    def await_answer(self) -> None:
        """Wait until it answers, and until all its processes are there."""
        deadline = time.monotonic() + _START_S
        while True:
            wire = http.client.HTTPConnection(self._address, timeout=5)
            with suppress(OSError, http.client.HTTPException), closing(wire):
                wire.request("GET", "/seen")
                with wire.getresponse() as response:
                    answered = response.status < _UNAVAILABLE
                if answered and len(self.pids()) == (2 if self._blocking else 1):
                    return
            if self._process.poll() is not None or time.monotonic() > deadline:
                message = f"{self.name} does not answer:\n{self._log.read_text()[-3000:]}"
                raise RuntimeError(message)
            time.sleep(0.05)

    def pids(self) -> list[int]:
        """The processes that answer."""
        if not self._blocking:
            return [self._process.pid]
        return sorted(processes.descendants(self._process.pid))

    def kill(self) -> None:
        """SIGKILL it; with more than one process the first of them, whose master starts anew."""
        pids = self.pids()
        os.kill(pids[0], signal.SIGKILL)
        if self._blocking:
            while pids[0] in self.pids():
                time.sleep(0.01)
            return
        self._process.wait()

    def restore(self) -> None:
        """Have it whole again after `kill`."""
        if self._blocking:
            self.await_answer()
        else:
            self.start()

    def freeze(self) -> None:
        """SIGSTOP what answers."""
        for pid in self.pids():
            os.kill(pid, signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on."""
        for pid in self.pids():
            os.kill(pid, signal.SIGCONT)

    def close(self) -> None:
        """Hang up; SIGTERM, then whatever it takes."""
        for wire in self._opened:
            wire.close()
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(10)
        processes.kill_group(self._process)

    # Requests.

    def show(self, token: str) -> Said:
        """Present a credential on an ordinary route."""
        status, body, lines = self._send("GET", "/seen", token)
        if status == 200 and body.get("subject") is None:
            return Said("passed", _pid(lines))
        said = _judged(status, body, lines)
        return Said(
            said.kind, said.pid, said.reason, body.get("subject"), lines.get("session-token")
        )

    def exchange(self, token: str) -> Said:
        """Present one at the refresh route."""
        return self._issued("/refresh", {"token": token})

    def login(self, subject: str) -> Said:
        """Log in."""
        return self._issued("/login", {"subject": subject})

    def logout(self, token: str) -> Said:
        """Log out."""
        status, body, lines = self._send("POST", "/logout", token, {})
        said = _judged(status, body, lines)
        # In `cutover` a JWT is stripped before the app's logout sees it: then nothing is ended.
        return Said("passed", said.pid) if body.get("ended") == 0 else said

    def end_others(self, token: str) -> Said:
        """Log out everywhere else."""
        return _judged(*self._send("POST", "/others", token, {}))

    def end_all(self, subject: str) -> Said:
        """Log out everywhere."""
        return _judged(*self._send("POST", "/all", None, {"subject": subject}))

    def _issued(self, path: str, body: dict[str, str]) -> Said:
        status, answer, lines = self._send("POST", path, None, body)
        said = _judged(status, answer, lines)
        token, sort = answer.get("token"), answer.get("kind")
        known = token if isinstance(token, str) else None
        return Said(said.kind, said.pid, said.reason, None, known, sort)

    def _send(
        self, method: str, path: str, token: str | None, body: dict[str, str] | None = None
    ) -> tuple[int, dict[str, Any], dict[str, str]]:
        wire = getattr(self._wires, "wire", None)
        if wire is None:
            wire = http.client.HTTPConnection(self._address, timeout=_PATIENCE_S)
            self._wires.wire = wire
            self._opened.append(wire)
        if wire.sock is not None and wait_readable([wire.sock], 0):
            wire.close()  # hung up on while it was idle: by a kill, long ago
        headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        try:
            wire.request(method, path, None if body is None else json.dumps(body), headers)
            answer = wire.getresponse()
            content = answer.read()
        except (OSError, http.client.HTTPException):
            wire.close()
            self._wires.wire = None
            return 0, {}, {}
        lines = {name.lower(): value for name, value in answer.getheaders()}
        try:
            return answer.status, json.loads(content or b"{}"), lines
        except ValueError:
            return answer.status, {"reason": f"not JSON, {answer.status}"}, lines


def _judged(status: int, body: dict[str, Any], lines: dict[str, str]) -> Said:
    if status == 0:
        return Said("lost")
    pid = _pid(lines)
    if status == _UNAVAILABLE:
        return Said("unavailable", pid)
    if status == 200:
        return Said("admitted", pid)
    return Said("refused", pid, str(body.get("reason", status)))


def _pid(lines: dict[str, str]) -> int | None:
    return int(lines["x-worker"]) if PID.lower() in lines else None


class PlainNode:
    """A process that joins the gate for itself; a new one takes its place when it is killed."""

    def __init__(self, name: str, settings: Settings) -> None:
        self.name = name
        self._settings = settings
        self._turn = threading.Lock()
        self.start()

    def start(self) -> None:
        """Start it; returns when it is ready."""
        node = Node(self._settings)
        node.ask("ready")
        with self._turn:
            self._node = node

    def pids(self) -> list[int]:
        """The process."""
        pid = self._node.process.pid
        return [] if pid is None else [pid]

    def kill(self) -> None:
        """SIGKILL."""
        self._node.process.kill()
        self._node.process.join()

    def restore(self) -> None:
        """Another takes its place."""
        old = self._node
        self.start()
        old.close()

    def freeze(self) -> None:
        """SIGSTOP."""
        self._node.freeze()

    def thaw(self) -> None:
        """Let it go on."""
        self._node.thaw()

    def close(self) -> None:
        """End it."""
        self._node.close()

    def show(self, token: str) -> Said:
        """Present a credential as a shim does."""
        return self._ask("show", token)

    def exchange(self, token: str) -> Said:
        """Present one as an app's refresh route does."""
        return self._ask("exchange", token)

    def _ask(self, what: str, token: str) -> Said:
        with self._turn:
            node = self._node
            try:
                answer = node.ask(what, token=token.encode())
            except (EOFError, OSError):
                return Said("lost")
            except AssertionError as error:
                if "issued a JWT" not in str(error):
                    raise
                return Said("admitted", node.process.pid)  # it is still the app's to refresh
        handed = None if answer.token is None else answer.token.decode()
        reason = _WORDS.get(answer.reason, answer.reason)
        return Said(answer.kind, node.process.pid, reason, answer.subject, handed, "session")


def _words() -> dict[str | None, str]:
    from migrator.core.reasons import Reason, word  # noqa: PLC0415 - used once

    return {reason.value: word(reason) for reason in Reason}


_WORDS: Final = _words()
