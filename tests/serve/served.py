"""`migrator serve` in a process of its own, and an app behind it that knows nothing of us."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final

import uvicorn
from prometheus_client.parser import text_string_to_metric_families

from migrator.cli.demo.processes import kill_group
from tests.apps.deployment import Deployment
from tests.http.servers import ROOT, Answer, Line, Server

CLIENT: Final = "billing"
CLIENT_SECRET: Final = "nUx7f2Lw0QmZt9RbKc4HsYe6"
ORIGIN: Final = "https://front.example"
_START_S: Final = 30.0
_MOVE_S: Final = 10.0


class Serve(Server):
    """A running `migrator serve`."""

    def auth(
        self, *lines: Line, method: str = "GET", uri: str = "/me", host: str = "shop.example"
    ) -> Answer:
        """Ask about a request, as nginx does."""
        told = (("X-Original-Method", method), ("X-Original-URI", uri))
        return self.get("/forward-auth", *told, ("X-Forwarded-Host", host), *lines)

    def metrics(self) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
        """Every sample of `/metrics`."""
        answer = self.get("/metrics")
        assert answer.status == 200
        return {
            (sample.name, frozenset(sample.labels.items())): sample.value
            for family in text_string_to_metric_families(answer.body.decode())
            for sample in family.samples
        }

    def reach(self, phase: str) -> None:
        """Move the rollout, and wait until this process acts under the new phase."""
        self.deployment.rig.move(phase)
        epoch = self.deployment.rig.execute("SELECT epoch FROM migrator.rollout")[0][0]
        deadline = time.monotonic() + _MOVE_S
        while self.metrics().get(("migrator_epoch", frozenset())) != epoch:
            assert time.monotonic() < deadline
            time.sleep(0.02)


@contextmanager
def serving(deployment: Deployment, *arguments: str, until: str = "/readyz") -> Iterator[Serve]:
    """`migrator serve` on a free port, for the length of the block."""
    log = deployment.folder / "serve.log"
    environ = deployment.environ()
    with log.open("wb") as output:
        process = subprocess.Popen(
            [str(Path(sys.executable).parent / "migrator"), "serve", "--port", "0", *arguments],
            cwd=ROOT,
            env={"PATH": os.environ["PATH"], "SERVE_CLIENT_SECRET": CLIENT_SECRET, **environ},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        port = _port(process, log)
        server = Serve("serve", port, process, log, deployment)
        deadline = time.monotonic() + _START_S
        while True:
            with suppress(OSError):
                if server.get(until).status == 200:
                    break
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.05)
        yield server
    finally:
        kill_group(process)


def _port(process: subprocess.Popen[bytes], log: Path) -> int:
    deadline = time.monotonic() + _START_S
    while True:
        said = re.search(r"listening on http://127\.0\.0\.1:(\d+)", log.read_text())
        if said:
            return int(said[1])
        assert process.poll() is None, log.read_text()
        assert time.monotonic() < deadline
        time.sleep(0.05)


App = Callable[[Any, Any, Any], Awaitable[None]]


@contextmanager
def behind(app: App) -> Iterator[str]:
    """An app on a server of its own; its URL."""
    config = uvicorn.Config(app, port=0, log_level="warning", lifespan="off", access_log=False)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    deadline = time.monotonic() + _START_S
    while not server.started:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        thread.join(10)
