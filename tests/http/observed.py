"""An app that answers as its path says, behind the shim of either colour, over a real socket."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, make_server

import uvicorn

from migrator.settings import Settings
from shims.asgi import DualAcceptMiddleware as Asgi
from shims.messages import Message, Receive, Scope, Send
from shims.wsgi import DualAcceptMiddleware as Wsgi

LEADS = "to"  # the query that names where a redirect leads


def said(path: str, query: str) -> tuple[int, list[tuple[str, str]]]:
    """`/…/401` answers 401, and anything without a number 200."""
    last = path.rsplit("/", 1)[-1]
    name, _, to = query.partition("=")
    location = [("Location", to)] if name == LEADS else []
    return int(last) if len(last) == 3 and last.isdigit() else 200, location


async def asgi(scope: Scope, receive: Receive, send: Send) -> None:
    """The app, for ASGI."""
    if scope["type"] == "lifespan":
        while True:
            message: Message = await receive()
            await send({"type": f"{message['type']}.complete"})
            if message["type"] == "lifespan.shutdown":
                return
    status, more = said(scope["path"], scope["query_string"].decode())
    lines = [(name.lower().encode(), value.encode()) for name, value in more]
    start: Message = {"status": status, "headers": [(b"content-length", b"0"), *lines]}
    await send({"type": "http.response.start", **start})
    await send({"type": "http.response.body", "body": b""})


def wsgi(environ: Any, start_response: Callable[..., object]) -> list[bytes]:
    """The app, for WSGI."""
    status, more = said(environ["PATH_INFO"], environ["QUERY_STRING"])
    start_response(f"{status} Said", [("Content-Length", "0"), *more])
    return []


class _Quiet(WSGIRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - its name
        """Say nothing."""


@contextmanager
def serving(colour: str, settings: Settings) -> Iterator[str]:
    """The address of the app behind the shim."""
    serve = _uvicorn if colour == "asgi" else _wsgiref
    with serve(settings) as port:
        yield f"http://127.0.0.1:{port}"


@contextmanager
def _uvicorn(settings: Settings) -> Iterator[int]:
    config = uvicorn.Config(Asgi(asgi, settings), port=0, log_level="critical", access_log=False)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    yield server.servers[0].sockets[0].getsockname()[1]
    server.should_exit = True
    thread.join()


@contextmanager
def _wsgiref(settings: Settings) -> Iterator[int]:
    with make_server("127.0.0.1", 0, Wsgi(wsgi, settings), handler_class=_Quiet) as server:
        thread = threading.Thread(target=lambda: server.serve_forever(0.02), daemon=True)
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join()
