"""Real Postgres and Redis of our own, for the demo and the tests: started here, gone when we are.

This file owns how the two servers are configured, started, hurt and stopped. Where their
programs come from is `binaries.py`; that nothing outlives us is `processes.py`. Production never
imports it.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from migrator.cli.demo import databases, processes
from migrator.cli.demo.binaries import (
    Account,
    ServerMissing,
    lend_postgres,
    memory_directory,
    postgres_account,
    postgres_bin,
    redis_server,
    scratch_directory,
)

__all__ = [
    "Postgres",
    "Redis",
    "ServerMissing",
    "ServerNotStarted",
    "embedded_postgres",
    "embedded_redis",
]

_START_SECONDS = 30.0
_STOP_SECONDS = 15.0
_POLL_SECONDS = 0.01
_NO_RETRY = Retry(NoBackoff(), 0)
_PORT_ATTEMPTS = 5  # a free port may be taken between our looking and the server's binding


class ServerNotStarted(Exception):
    """A server did not come up; the message ends with the last lines of its log."""


class _Server:
    """What both share: a scratch directory, a warden, one process and all below it."""

    def __init__(
        self, *, account: Account, end_signal: signal.Signals, in_memory: bool = False
    ) -> None:
        self.directory = scratch_directory(account)
        self._account = account
        self._in_memory = memory_directory(account) if in_memory else None
        self._warden = processes.Warden(
            self.directory, *filter(None, [self._in_memory]), end_signal=end_signal
        )
        self._process: subprocess.Popen[bytes] | None = None
        atexit.register(self.close)

    @property
    def pid(self) -> int:
        """Of the server's first process. Raises RuntimeError while it is stopped."""
        if self._process is None:
            message = "the server is stopped"
            raise RuntimeError(message)
        return self._process.pid

    @property
    def is_running(self) -> bool:
        """Whether the server's first process exists (paused or not)."""
        return self._process is not None and self._process.poll() is None

    def kill(self) -> None:
        """SIGKILL the server and all it forked, at one moment; the data stays for `start`."""
        if self._process is not None:
            if self.is_running:
                processes.kill_tree(self._process.pid)
            self._reap()

    def pause(self) -> None:
        """SIGSTOP the server and all it forked: connections hang, none is refused."""
        processes.freeze(self.pid)

    def resume(self) -> None:
        """Let a paused server go on."""
        processes.thaw(self.pid)

    def _end(self, number: signal.Signals) -> None:
        if self._process is None:
            return
        if self.is_running:
            processes.thaw(self._process.pid)
            self._process.send_signal(number)
        try:
            self._process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            processes.kill_tree(self._process.pid)
        self._reap()

    def _reap(self) -> None:
        # Until it is reaped the number cannot be reused, so the warden never signals a stranger.
        if self._process is not None:
            self._warden.guard(0)
            self._process.wait()
            self._process = None

    def _spawn(self, argv: list[str], *, log: Path, is_ready: Callable[[int], bool]) -> None:
        if self._process is not None:
            message = "the server is already started"
            raise RuntimeError(message)
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C at the terminal is for us to act on
                **_surroundings(self._account, self.directory),
            )
        self._warden.guard(self._process.pid)
        deadline = time.monotonic() + _START_SECONDS
        while not is_ready(self._process.pid):
            if self._process.poll() is not None or time.monotonic() > deadline:
                processes.kill_tree(self._process.pid)
                self._reap()
                message = f"{Path(argv[0]).name} did not start:\n{_tail(log)}"
                raise ServerNotStarted(message)
            time.sleep(_POLL_SECONDS)

    def _close(self, number: signal.Signals) -> None:
        if self._warden.is_ours:
            self._end(number)
            self._warden.dismiss()
            atexit.unregister(self.close)

    def close(self) -> None:
        """Stop the server for good and remove its directory."""
        raise NotImplementedError


class Postgres(_Server):
    """A Postgres server on a port and a Unix socket of its own, trusting whoever can reach it."""

    def __init__(
        self,
        *,
        fsync: bool = False,
        synchronous_commit: str = "on",
        max_connections: int = 200,
        log_min_messages: str = "warning",
        settings: Mapping[str, str] | None = None,
    ) -> None:
        """Make the cluster and start it.

        Args: `settings` are further lines of postgresql.conf, by name; with `fsync` off the data
        survives a kill, not a loss of power, and is kept in memory where the machine has room
        (a database is then cloned in 10 ms instead of 300).
        Raises: ServerMissing, ServerNotStarted.
        """
        super().__init__(
            account=postgres_account(), end_signal=signal.SIGQUIT, in_memory=not fsync
        )
        self.data_dir = (self._in_memory or self.directory) / "data"
        self.socket_dir = self.directory
        self.port = 0
        self._settings = {
            "fsync": "on" if fsync else "off",
            "full_page_writes": "on" if fsync else "off",
            "synchronous_commit": synchronous_commit,
            "max_connections": str(max_connections),
            "log_min_messages": log_min_messages,
            "listen_addresses": "127.0.0.1",
            "unix_socket_permissions": "0777",
            "shared_buffers": "32MB",
            "max_wal_size": "256MB",
            "dynamic_shared_memory_type": "mmap",  # nothing left in /dev/shm after a SIGKILL
            "timezone": "UTC",
            "log_timezone": "UTC",
            **(settings or {}),
        }
        try:
            self._bin = lend_postgres(
                postgres_bin(), account=self._account, scratch=self.directory
            )
            self._initialise()
            _first_start(self)
        except BaseException:
            self.close()
            raise

    @property
    def url(self) -> str:
        """Of the database `postgres`, for SQLAlchemy."""
        return f"postgresql+psycopg://postgres@127.0.0.1:{self.port}/postgres"

    def bin(self, name: str) -> Path:
        """The path of a program that belongs to this server, such as pg_dump."""
        return self._bin / name

    def start(self) -> None:
        """Start again on the same port and data; returns when connections are accepted."""
        options = {
            **self._settings,
            "port": str(self.port),
            "unix_socket_directories": str(self.socket_dir),
        }
        argv = [str(self.bin("postgres")), "-D", str(self.data_dir)]
        argv += [f"--{name}={value}" for name, value in options.items()]
        self._spawn(argv, log=self.directory / "postgres.log", is_ready=self._accepts)

    def stop(self) -> None:
        """Shut down in order, ending open connections; the data stays for `start`."""
        self._end(signal.SIGINT)

    def close(self) -> None:
        """Stop the server for good and remove its data."""
        if self._warden.is_ours and not self.is_running and self._pid_file.exists():
            # Killed: only a start takes away the shared memory segment that a SIGKILL leaves.
            self._reap()
            with contextlib.suppress(ServerNotStarted):
                self.start()
        self._close(signal.SIGQUIT)

    def create_database(self, name: str, template: str | None = None) -> str:
        """Create a database, as a copy of `template` if given, and return its URL."""
        by_files = self._settings["fsync"] == "off"
        return databases.create_database(self.url, name, template, by_files=by_files)

    def drop_database(self, name: str) -> None:
        """Drop a database and end whoever is connected to it."""
        databases.drop_database(self.url, name)

    def _initialise(self) -> None:
        self.data_dir.mkdir(mode=0o700)
        self._account.own(self.data_dir)
        self._account.own(self.directory)  # for its sockets
        argv = [str(self.bin("initdb")), "-D", str(self.data_dir), "-U", "postgres"]
        argv += ["--no-sync", "--auth=trust", "-E", "UTF8", "--locale=C", "--no-instructions"]
        with subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            start_new_session=True,
            **_surroundings(self._account, self.directory),
        ) as initdb:
            self._warden.guard(initdb.pid)
            _, complaint = initdb.communicate()
            self._warden.guard(0)
        if initdb.returncode:
            message = f"initdb failed:\n{complaint[-2000:].decode(errors='replace')}"
            raise ServerNotStarted(message)

    def _accepts(self, pid: int) -> bool:
        """Whether postmaster.pid is this process's own and says ready (its 8th line)."""
        with contextlib.suppress(FileNotFoundError):
            lines = self._pid_file.read_text().split("\n")
            return lines[0] == str(pid) and lines[7:] != [] and lines[7].strip() == "ready"
        return False

    @property
    def _pid_file(self) -> Path:
        return self.data_dir / "postmaster.pid"


class Redis(_Server):
    """A Redis server on a port and a Unix socket of its own; it forgets all when stopped."""

    def __init__(self, *, settings: Mapping[str, str] | None = None) -> None:
        """Start it; `settings` are further directives, by name.

        Raises: ServerMissing, ServerNotStarted.
        """
        super().__init__(account=Account(), end_signal=signal.SIGTERM)
        self.socket = self.directory / "redis.sock"
        self.port = 0
        self._settings = {"save": "", "appendonly": "no", **(settings or {})}
        try:
            self._program = redis_server()
            _first_start(self)
        except BaseException:
            self.close()
            raise

    @property
    def url(self) -> str:
        """Of database 0, over TCP."""
        return f"redis://127.0.0.1:{self.port}/0"

    def start(self) -> None:
        """Start again on the same port, empty; returns when it answers."""
        options = {
            **self._settings,
            "port": str(self.port),
            "bind": "127.0.0.1",
            "unixsocket": str(self.socket),
            "dir": str(self.directory),
        }
        argv = [str(self._program)]
        for name, value in options.items():
            argv += [f"--{name}", value]
        self._spawn(argv, log=self.directory / "redis.log", is_ready=self._accepts)

    def stop(self) -> None:
        """Shut down in order."""
        self._end(signal.SIGTERM)

    def close(self) -> None:
        """Stop the server for good and remove its directory."""
        self._close(signal.SIGTERM)

    def flush(self) -> None:
        """Forget every key of every database."""
        with redis.Redis.from_url(self.url) as client:
            client.flushall()

    def _accepts(self, pid: int) -> bool:
        # Asked over the socket and by its pid: on the port another server could be answering.
        with redis.Redis(unix_socket_path=str(self.socket), retry=_NO_RETRY) as client:
            try:
                return int(client.info("server")["process_id"]) == pid
            except redis.ConnectionError:
                return False


@contextmanager
def embedded_postgres(
    *,
    fsync: bool = False,
    synchronous_commit: str = "on",
    max_connections: int = 200,
    log_min_messages: str = "warning",
    settings: Mapping[str, str] | None = None,
) -> Iterator[Postgres]:
    """A Postgres of our own for the length of the block. Arguments and errors as `Postgres`."""
    with contextlib.closing(
        Postgres(
            fsync=fsync,
            synchronous_commit=synchronous_commit,
            max_connections=max_connections,
            log_min_messages=log_min_messages,
            settings=settings,
        )
    ) as server:
        yield server


@contextmanager
def embedded_redis(*, settings: Mapping[str, str] | None = None) -> Iterator[Redis]:
    """A Redis of our own for the length of the block. Arguments and errors as `Redis`."""
    with contextlib.closing(Redis(settings=settings)) as server:
        yield server


def _first_start(server: Postgres | Redis) -> None:
    for attempt in range(1, _PORT_ATTEMPTS + 1):
        server.port = _free_port()
        try:
            server.start()
        except ServerNotStarted:
            if attempt == _PORT_ATTEMPTS:
                raise
        else:
            return


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _surroundings(account: Account, directory: Path) -> dict[str, Any]:
    """Who, where and with which variables a server's program runs: none of ours but PATH."""
    environment = {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C"}
    return {"cwd": directory, "env": environment, **account.popen_options()}


def _tail(log: Path) -> str:
    return log.read_text(errors="replace")[-2000:]
