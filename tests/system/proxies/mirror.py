"""An app that answers with the request it got: what of a client's arrives behind a proxy.

`/status/NNN` answers with that status, `/away` redirects to another origin, everything else with
200 and cookies of its own. A thread of the test's process; nothing in it knows of any migration.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Final

_BODILESS: Final = (204, 304)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def _answer(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        path = self.path.partition("?")[0]
        status = int(path.removeprefix("/status/")) if path.startswith("/status/") else 200
        lines = [[name, value] for name, value in self.headers.items()]
        body = json.dumps({"method": self.command, "path": self.path, "lines": lines}).encode()
        if status in _BODILESS:
            body = b""
        self.send_response(302 if path == "/away" else status)
        if path == "/away":
            self.send_header("Location", "https://elsewhere.example/")
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Cache-Control", "public, max-age=60")
        self.send_header("Vary", "Accept-Language")
        self.send_header("Set-Cookie", "theme=dark; Path=/")
        self.send_header("Set-Cookie", "locale=en; Path=/; Expires=Wed, 01 Jan 2031 00:00:00 GMT")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def __getattr__(self, name: str) -> Callable[[], None]:
        if name.startswith("do_"):  # whatever the method
            return self._answer
        raise AttributeError(name)

    def log_message(self, *_: object) -> None:
        """Nothing: the test looks at the answers."""


@contextmanager
def mirror() -> Iterator[int]:
    """The port of a mirror, for the length of the block."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield int(server.server_address[1])
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
