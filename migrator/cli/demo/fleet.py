"""The app's server: uvicorn with two workers, in processes of their own that never outlive us."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from migrator.cli.demo import processes
from migrator.cli.demo.app import SHIM_VARIABLE
from migrator.cli.demo.deployment import WORKERS, Deployment

_START_SECONDS = 60.0
_STOP_SECONDS = 10.0
_POLL_SECONDS = 0.05


class FleetNotStarted(Exception):
    """The app did not come up; the message ends with the last lines of its log."""


def free_port() -> int:
    """A port of loopback that nobody listens on just now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@asynccontextmanager
async def fleet(deployment: Deployment, *, port: int, shim: bool) -> AsyncIterator[None]:
    """The app on `port` for the length of the block, with or without the shim.

    Raises:
        FleetNotStarted: it did not answer in time.
    """
    warden = processes.Warden(end_signal=signal.SIGTERM)
    process: subprocess.Popen[bytes] | None = None
    try:
        process = _spawn(deployment, port=port, shim=shim)
        warden.guard(process.pid)
        await _answering(process, deployment, port=port)
        yield
    finally:
        if process is not None:
            _end(process)
            warden.guard(0)
        warden.dismiss()


def _spawn(deployment: Deployment, *, port: int, shim: bool) -> subprocess.Popen[bytes]:
    variables = deployment.variables()
    if shim:
        variables[SHIM_VARIABLE] = "1"
    argv = [sys.executable, "-m", "uvicorn", "migrator.cli.demo.app:make", "--factory"]
    argv += ["--host", "127.0.0.1", "--port", str(port), "--workers", str(WORKERS)]
    argv += ["--log-level", "warning", "--no-access-log", "--no-server-header"]
    argv += ["--timeout-keep-alive", "120", "--timeout-graceful-shutdown", "2"]
    argv += ["--timeout-worker-healthcheck", "120"]  # a busy machine is no dead worker
    with deployment.app_log.open("ab") as output:
        return subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd=deployment.directory,
            env=variables,
            start_new_session=True,  # Ctrl-C at the terminal is for us to act on
        )


async def _answering(
    process: subprocess.Popen[bytes], deployment: Deployment, *, port: int
) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while True:
        if process.poll() is not None or time.monotonic() > deadline:
            raise FleetNotStarted(f"the app did not start:\n{deployment.app_log_tail()}")
        with contextlib.suppress(OSError):
            # The supervisor listens before a worker serves, so an answer is waited for.
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(b"GET /login HTTP/1.1\r\nHost: demo\r\nConnection: close\r\n\r\n")
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_START_SECONDS):
                    answer = await reader.read(16)
            writer.close()
            if answer.startswith(b"HTTP/1.1 200"):
                return
        await asyncio.sleep(_POLL_SECONDS)


def _end(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
    try:
        process.wait(_STOP_SECONDS)
    except subprocess.TimeoutExpired:
        processes.kill_tree(process.pid)
        process.wait()
