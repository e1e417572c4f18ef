"""Small WSGI servers, for commands that ask an address."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from socketserver import ThreadingMixIn
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from migrator import wiring


class _Quiet(WSGIRequestHandler):
    def log_message(self, *_: object) -> None:
        """Nothing."""


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True


@contextmanager
def serving() -> Iterator[Callable[[Any], str]]:
    """What serves an app until the block is left, and gives its address."""
    servers: list[WSGIServer] = []

    def served(app: Any) -> str:
        server = make_server("127.0.0.1", 0, app, _Server, _Quiet)
        servers.append(server)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        return f"http://127.0.0.1:{server.server_port}/me"

    try:
        yield served
    finally:
        for server in servers:
            server.shutdown()
            server.server_close()
        wiring.stop()


def silent(_: Any, start_response: Any) -> list[bytes]:
    """An app that answers anybody."""
    start_response("200 OK", [("Content-Type", "application/json")])
    return [b"{}"]
