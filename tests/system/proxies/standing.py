"""A site as an operator runs it: an app, `migrator serve` and a real proxy with the shipped file.

The files under playbooks/proxies are used as they are but for addresses. Everything is a process
of its own on a free port, started unprivileged with its state in the test's folder.
"""

from __future__ import annotations

import http.client
import json
import os
import secrets
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from migrator.cli.demo.processes import kill_group
from tests.docs_blocks import blocks
from tests.http.servers import Answer, Line
from tests.rig import Rig

ROOT: Final = Path(__file__).parents[3]
PROXIES: Final = ROOT / "playbooks/proxies"
PAGE: Final = ROOT / "playbooks/55-behind-a-proxy.md"
ACCESS_SECRET: Final = "what the notes have signed access tokens with from the start"
REFRESH_SECRET: Final = "and the other one, for their refresh tokens, from the start"
_START_S: Final = 40.0
_STOP_S: Final = 10.0
_PATH: Final = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/sbin"])


def free_port() -> int:
    """A port of this machine that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def running(
    *argv: str | Path, port: int, log: Path, environ: Mapping[str, str], cwd: Path
) -> Iterator[subprocess.Popen[bytes]]:
    """A program that listens on `port`, for the length of the block."""
    with log.open("ab") as output:
        process = subprocess.Popen(
            [str(each) for each in argv],
            cwd=cwd,
            env={"PATH": _PATH, **environ},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        _await_port(port, process, log)
        yield process
    finally:
        process.terminate()
        with suppress(subprocess.TimeoutExpired):
            process.wait(_STOP_S)
        kill_group(process)


def _await_port(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + _START_S
    while True:
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        assert process.poll() is None, log.read_text()[-3000:]
        assert time.monotonic() < deadline, log.read_text()[-3000:]
        time.sleep(0.02)


@dataclass(frozen=True, slots=True)
class Settings:
    """What `migrator serve` is told: the page's own migrator.toml, and where things are here."""

    folder: Path
    database: str
    redis: str | None = None
    more: Mapping[str, object] = field(default_factory=dict)
    swap_key: str = field(default_factory=lambda: secrets.token_urlsafe(32))

    @property
    def rig(self) -> Rig:
        """The hand that moves the rollout."""
        return Rig(self.database)

    def environ(self) -> dict[str, str]:
        """The variables of the process; writes the settings file."""
        file = self.folder / "migrator.toml"
        file.write_text("".join(block.text + "\n" for block in blocks(PAGE, "toml")))
        (self.folder / "swap.key").write_text(self.swap_key)
        said: dict[str, object] = {
            "MIGRATOR_DATABASE_URL": self.database,
            "MIGRATOR_MEMORY__POLL_MS": 100,
            "MIGRATOR_DATABASE__BUDGET_MS": 2000,  # a busy machine is no outage
            "MIGRATOR_COOKIE__SECURE": "false",  # plain http
            "MIGRATOR_CONFIG": file,
            "JWT_ACCESS_SECRET": ACCESS_SECRET,
            "JWT_REFRESH_SECRET": REFRESH_SECRET,
            **self.more,
        }
        if self.redis is not None:
            said |= {"MIGRATOR_REDIS_URL": self.redis, "MIGRATOR_REDIS__BUDGET_MS": 1000}
        return {name: str(value) for name, value in said.items()}


@dataclass(slots=True)
class Site:
    """What stands, and the way in: `port` is the proxy's."""

    kind: str
    folder: Path
    settings: Settings
    app_port: int
    serve_port: int
    port: int
    closing: ExitStack
    served: ExitStack = field(default_factory=ExitStack)

    @property
    def url(self) -> str:
        """What a browser would be given."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def bare_url(self) -> str:
        """The app itself, past everything."""
        return f"http://127.0.0.1:{self.app_port}"

    def send(
        self, method: str, path: str, *lines: Line, body: bytes = b"", past: bool = False
    ) -> Answer:
        """Send one request exactly as given, through the proxy or `past` it to the app."""
        port = self.app_port if past else self.port
        head = [f"{method} {path} HTTP/1.1", f"Host: 127.0.0.1:{port}", "Connection: close"]
        head += [f"{name}: {value}" for name, value in lines]
        if body:
            head.append(f"Content-Length: {len(body)}")
        with socket.create_connection(("127.0.0.1", port), 20) as wire:
            wire.sendall("\r\n".join([*head, "", ""]).encode("latin-1") + body)
            response = http.client.HTTPResponse(wire, method=method)
            response.begin()
            return Answer(response.status, tuple(response.getheaders()), response.read())

    def get(self, path: str, *lines: Line) -> Answer:
        """Send a GET through the proxy."""
        return self.send("GET", path, *lines)

    def post(self, path: str, content: Any, *lines: Line, past: bool = False) -> Answer:
        """Send a JSON body."""
        body = json.dumps(content).encode()
        said = ("Content-Type", "application/json")
        return self.send("POST", path, said, *lines, body=body, past=past)

    def serve(self) -> None:
        """Start `migrator serve`, again if it was stopped."""
        migrator = Path(sys.executable).with_name("migrator")
        self.served.enter_context(
            running(
                *(migrator, "serve", "--port", str(self.serve_port)),
                *("--upstream", self.bare_url),
                port=self.serve_port,
                log=self.folder / "serve.log",
                environ=self.settings.environ(),
                cwd=self.folder,
            )
        )

    def migrator(self, *arguments: str) -> str:
        """What a command of the operator's prints on its stdout; it must succeed."""
        done = subprocess.run(
            [Path(sys.executable).with_name("migrator"), *arguments],
            cwd=self.folder,
            env={"PATH": _PATH, "MIGRATOR_OPERATOR": "dana", **self.settings.environ()},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_START_S,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def stop_serving(self) -> None:
        """Stop `migrator serve`; the proxy and the app go on."""
        self.served.close()

    def move(self, phase: str, percent: int = 100) -> None:
        """Put the rollout into a phase, and return when `migrator serve` acts by it."""
        rig = self.settings.rig
        rig.move(phase, percent=percent)
        deadline = time.monotonic() + _START_S
        while rig.execute(
            "SELECT 1 FROM migrator.nodes n, migrator.rollout r"
            " WHERE n.lease_until > now() AND n.epoch IS DISTINCT FROM r.epoch"
        ):
            assert time.monotonic() < deadline
            time.sleep(0.02)


@contextmanager
def site(kind: str, settings: Settings, app_port: int) -> Iterator[Site]:
    """A proxy of a kind before an app that runs already, `migrator serve` beside it."""
    serve_port, port = free_port(), free_port()
    with ExitStack() as closing:
        made = Site(kind, settings.folder, settings, app_port, serve_port, port, closing)
        closing.callback(made.stop_serving)
        made.serve()
        argv = {"nginx": _nginx, "caddy": _caddy}[kind](made)
        homes = {"XDG_DATA_HOME": str(made.folder), "XDG_CONFIG_HOME": str(made.folder)}
        log = made.folder / f"{kind}.log"
        closing.enter_context(running(*argv, port=port, log=log, environ=homes, cwd=made.folder))
        yield made


def _addressed(name: str, made: Site, listens: tuple[str, str]) -> str:
    """A shipped file with this site's addresses in the place of its own."""
    text = (PROXIES / name).read_text()
    for old, new in (
        ("127.0.0.1:3000", f"127.0.0.1:{made.app_port}"),
        ("127.0.0.1:8300", f"127.0.0.1:{made.serve_port}"),
        listens,
    ):
        assert old in text, f"{name} no longer says {old}"
        text = text.replace(old, new)
    return text


_NGINX: Final = """
{user}
daemon off;
worker_processes 1;
pid {folder}/nginx.pid;
error_log {folder}/nginx.log info;
events {{ }}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    include {folder}/site.conf;
}}
"""


def _nginx(made: Site) -> list[str | Path]:
    listens = ("listen 8080;", f"listen 127.0.0.1:{made.port};")
    (made.folder / "site.conf").write_text(_addressed("nginx.conf", made, listens))
    main = made.folder / "nginx.conf"
    user = "user root;" if os.geteuid() == 0 else ""  # else its workers could not write here
    main.write_text(_NGINX.format(folder=made.folder, user=user))
    return ["nginx", "-e", made.folder / "nginx.log", "-p", made.folder, "-c", main]


def _caddy(made: Site) -> list[str | Path]:
    file = made.folder / "Caddyfile"
    shipped = _addressed("Caddyfile", made, ("http://:8080", f"http://:{made.port}"))
    file.write_text("{\n\tadmin off\n}\n\n" + shipped)
    return ["caddy", "run", "--config", file, "--adapter", "caddyfile"]
