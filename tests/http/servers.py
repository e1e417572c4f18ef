"""Real servers in processes of their own, and requests written to their sockets byte by byte."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from migrator.cli.demo.processes import kill_group
from tests.apps.deployment import Deployment

ROOT: Final = Path(__file__).parents[2]
_START_S: Final = 40.0
_STOP_S: Final = 20.0

_UVICORN: Final = ("uvicorn", "--factory", "tests.http.served:fastapi_app", "--no-access-log")
# Headers longer than any credential must reach the shim: its answer is what is tested.
_ROOM: Final = ("--limit-request-field_size", "16384")
_GUNICORN: Final = ("gunicorn", "tests.http.served:flask_app()", "-w", "2", *_ROOM)
ARGUMENTS: Final[dict[str, tuple[str, ...]]] = {
    "uvicorn h11": (*_UVICORN, "--http", "h11", "--port", "{port}"),
    "uvicorn httptools": (*_UVICORN, "--http", "httptools", "--port", "{port}"),
    "gunicorn": (*_GUNICORN, "-b", "127.0.0.1:{port}"),
    "gunicorn notebook": (
        *("gunicorn", "tests.apps.flask_jwt_extended.served:notebook()", "-w", "2"),
        *("-b", "127.0.0.1:{port}"),
    ),
    "uvicorn bridged": (
        *("uvicorn", "--factory", "tests.bridge.served:asgi", "--no-access-log"),
        *("--http", "h11", "--port", "{port}"),
    ),
    "gunicorn bridged": ("gunicorn", "tests.bridge.served:wsgi()", "-b", "127.0.0.1:{port}"),
    "gunicorn preloaded": (*_GUNICORN, "-b", "127.0.0.1:{port}", "--preload"),
}

Line = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Answer:
    """One response, its header lines as they came."""

    status: int
    lines: tuple[Line, ...]
    body: bytes

    def all(self, name: str) -> list[str]:
        """The values of every line called `name`."""
        return [value for key, value in self.lines if key.lower() == name.lower()]

    def get(self, name: str) -> str | None:
        """The value of the one line called `name`; None where there is none."""
        values = self.all(name)
        assert len(values) < 2, values
        return values[0] if values else None

    @property
    def json(self) -> Any:
        """The body, read."""
        return json.loads(self.body)


@dataclass(frozen=True, slots=True)
class Server:
    """A server that runs."""

    name: str
    port: int
    process: subprocess.Popen[bytes]
    log: Path
    deployment: Deployment

    def send(self, method: str, path: str, *lines: Line, body: bytes = b"") -> Answer:
        """Send one request exactly as given, on a connection of its own."""
        with self.connect() as wire:
            wire.sendall(self.request(method, path, *lines, body=body))
            response = http.client.HTTPResponse(wire, method=method)
            response.begin()
            return Answer(response.status, tuple(response.getheaders()), response.read())

    def get(self, path: str, *lines: Line) -> Answer:
        """Send a GET."""
        return self.send("GET", path, *lines)

    def post(self, path: str, content: object, *lines: Line) -> Answer:
        """Send a POST with a JSON body."""
        body = json.dumps(content).encode()
        return self.send("POST", path, ("Content-Type", "application/json"), *lines, body=body)

    def request(self, method: str, path: str, *lines: Line, body: bytes = b"") -> bytes:
        """The bytes of a request."""
        head = [f"{method} {path} HTTP/1.1", "Host: shop.example", "Connection: close"]
        head += [f"{name}: {value}" for name, value in lines]
        if body:
            head.append(f"Content-Length: {len(body)}")
        return "\r\n".join([*head, "", ""]).encode("latin-1") + body

    def connect(self) -> socket.socket:
        """A connection to it."""
        return socket.create_connection(("127.0.0.1", self.port), 20)

    def stop(self) -> int:
        """SIGTERM, as an orchestrator sends it; the exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(_STOP_S)


@contextmanager
def serving(
    name: str, deployment: Deployment, arguments: Sequence[str] | None = None
) -> Iterator[Server]:
    """A server that answers, for the length of the block; one of ARGUMENTS unless said how."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    log = deployment.folder / f"{name}.log"
    argv = [argument.format(port=port) for argument in arguments or ARGUMENTS[name]]
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", *argv],
            cwd=ROOT,
            env={"PATH": os.environ["PATH"], **deployment.environ()},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    server = Server(name, port, process, log, deployment)
    try:
        _await_answer(server)
        yield server
    finally:
        if process.poll() is None:
            with suppress(subprocess.TimeoutExpired):
                server.stop()
        kill_group(process)


def _await_answer(server: Server) -> None:
    deadline = time.monotonic() + _START_S
    while True:
        with suppress(OSError):
            if server.get("/").status == 200:
                return
        said = server.log.read_text()[-3000:]
        assert server.process.poll() is None, said
        assert time.monotonic() < deadline, said
        time.sleep(0.05)


def bearer(token: str) -> Line:
    """The usual header."""
    return ("Authorization", f"Bearer {token}")
