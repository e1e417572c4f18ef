"""A TCP proxy that does to a connection what networks do: lag, silence, half-open, reset.

And what bad servers and bad proxies do: accept and say nothing, greet with something else, deliver
byte by byte, or give one connection the reply that another was waiting for.

It runs in a thread of its own, so that blocking and async clients are hurt alike. What it does
can be changed at any moment and holds for connections already open as well.
"""

from __future__ import annotations

import asyncio
import socket
import struct
import threading
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager, suppress
from typing import Any, TypeVar
from urllib.parse import urlsplit, urlunsplit

_T = TypeVar("_T")
_CHUNK_BYTES = 65_536
# Linger for no time: closing then sends RST and not FIN.
_RESET = struct.pack("ii", 1, 0)
# How long one reply is held for another to be exchanged with.
_HOLD_S = 0.2


class Proxy:
    """Stands before a server; `url_of` gives the address that leads through it."""

    def __init__(self, host: str, port: int) -> None:
        self._target = (host, port)
        self._latency_s = 0.0
        self._flows = True
        self._refuses = False
        self._greeting: bytes | None = None
        self._slice_s = 0.0
        self._bytes_per_s = 0.0
        self._swaps = False
        self._held: tuple[bytes, asyncio.Future[bytes]] | None = None
        self.swapped = 0
        self._lines: set[_Line] = set()
        self._loop = asyncio.new_event_loop()
        self._may_flow = asyncio.Event()
        self._may_flow.set()
        self._thread = threading.Thread(target=self._loop.run_forever, name="proxy", daemon=True)
        self._thread.start()
        self._server = self._do(asyncio.start_server(self._serve, "127.0.0.1", 0))
        self.port: int = self._server.sockets[0].getsockname()[1]

    def url_of(self, url: str) -> str:
        """The same address, through here."""
        parts = urlsplit(url)
        who, at, _ = parts.netloc.rpartition("@")
        return urlunsplit(parts._replace(netloc=f"{who}{at}127.0.0.1:{self.port}"))

    def lag(self, seconds: float) -> None:
        """Let every chunk take so long, each way."""
        self._latency_s = seconds

    def black_hole(self) -> None:
        """Deliver nothing, close nothing: what a pulled cable or a dropping firewall does."""
        self._call(self._may_flow.clear)

    def half_open(self) -> None:
        """Swallow all that open connections carry, for ever; new ones are served."""

        def deafen() -> None:
            for line in self._lines:
                line.swallows = True

        self._call(deafen)

    def reset(self) -> None:
        """Reset open connections; new ones are served."""
        self._call(self._reset_all)

    def refuse(self) -> None:
        """Reset open connections and every new one: the server cannot be reached."""

        def cut() -> None:
            self._refuses = True
            self._reset_all()

        self._call(cut)

    def slice(self, pause_s: float) -> None:
        """Deliver replies one byte at a time, so long apart."""
        self._slice_s = pause_s

    def narrow(self, bytes_per_s: float) -> None:
        """Carry no more than so many bytes a second, each way."""
        self._bytes_per_s = bytes_per_s

    def greet(self, words: bytes) -> None:
        """Say this to every new connection, and carry nothing: b"" accepts and never answers."""
        self._greeting = words

    def swap_replies(self) -> None:
        """Exchange replies that two connections wait for at one time; `swapped` counts them."""
        self._swaps = True

    def leads_to(self, host: str, port: int) -> None:
        """Lead new connections to another server, as an address that moves in a failover."""
        self._target = (host, port)

    def heal(self) -> None:
        """Carry everything again; what a black hole held back arrives now."""

        def mend() -> None:
            self._refuses = False
            self._may_flow.set()

        self._latency_s = self._slice_s = self._bytes_per_s = 0.0
        self._greeting, self._swaps = None, False
        self._call(mend)

    @property
    def lines(self) -> int:
        """How many connections are open."""
        return len(self._lines)

    def close(self) -> None:
        """Reset everything and stop."""

        async def end() -> None:
            self._server.close()
            self._reset_all()
            others = asyncio.all_tasks() - {asyncio.current_task()}
            for task in others:
                task.cancel()
            await asyncio.gather(*others, return_exceptions=True)

        self._do(end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _reset_all(self) -> None:
        for line in list(self._lines):
            line.reset()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._refuses:
            _reset(writer)
            return
        if self._greeting is not None:
            await self._say(self._greeting, reader, writer)
            return
        try:
            onward = await asyncio.open_connection(*self._target)
        except OSError:
            _reset(writer)
            return
        line = _Line(writer, onward[1])
        self._lines.add(line)
        try:
            with suppress(asyncio.CancelledError):  # the proxy closes
                await asyncio.gather(
                    self._pump(reader, onward[1], line),
                    self._pump(onward[0], writer, line, replies=True),
                )
        finally:
            self._lines.discard(line)
            line.reset()

    async def _say(
        self, words: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        line = _Line(writer)
        self._lines.add(line)
        try:
            with suppress(OSError, asyncio.CancelledError):
                writer.write(words)
                while await reader.read(_CHUNK_BYTES):
                    pass
        finally:
            self._lines.discard(line)
            line.reset()

    async def _pump(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        line: _Line,
        *,
        replies: bool = False,
    ) -> None:
        with suppress(OSError):
            while chunk := await reader.read(_CHUNK_BYTES):
                if self._latency_s:
                    await asyncio.sleep(self._latency_s)
                if self._bytes_per_s:
                    await asyncio.sleep(len(chunk) / self._bytes_per_s)
                if replies and self._swaps:
                    chunk = await self._exchanged(chunk)
                await self._may_flow.wait()
                if not line.swallows:
                    await self._deliver(chunk, writer, replies=replies)
            await self._may_flow.wait()
            if not line.swallows:
                writer.close()

    async def _deliver(self, chunk: bytes, writer: asyncio.StreamWriter, *, replies: bool) -> None:
        if not (replies and self._slice_s):
            writer.write(chunk)
            await writer.drain()
            return
        for place in range(len(chunk)):
            writer.write(chunk[place : place + 1])
            await writer.drain()
            await asyncio.sleep(self._slice_s)

    async def _exchanged(self, chunk: bytes) -> bytes:
        if self._held is not None:
            (other, waiting), self._held = self._held, None
            waiting.set_result(chunk)
            self.swapped += 1
            return other
        waiting = self._loop.create_future()
        self._held = (chunk, waiting)
        try:
            return await asyncio.wait_for(waiting, _HOLD_S)
        except TimeoutError:
            self._held = None
            return chunk

    def _call(self, act: Callable[[], object]) -> None:
        async def soon() -> None:
            act()

        self._do(soon())

    def _do(self, work: Coroutine[Any, Any, _T]) -> _T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(10)


class _Line:
    """One connection: both its sides."""

    def __init__(self, *writers: asyncio.StreamWriter) -> None:
        self._writers = writers
        self.swallows = False

    def reset(self) -> None:
        for writer in self._writers:
            _reset(writer)


def _reset(writer: asyncio.StreamWriter) -> None:
    held = writer.get_extra_info("socket")
    with suppress(OSError):
        held.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
    writer.transport.abort()


@contextmanager
def proxied(url: str, default_port: int) -> Iterator[Proxy]:
    """A proxy before the server of this URL."""
    parts = urlsplit(url)
    proxy = Proxy(parts.hostname or "127.0.0.1", parts.port or default_port)
    try:
        yield proxy
    finally:
        proxy.close()
