"""A WSGI app behind the bridge, as PEP 3333 has it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from io import BytesIO
from typing import Any

import pytest

from migrator.settings import Settings
from shims.wsgi import DualAcceptMiddleware as Wsgi
from tests.bridge.app import LegacyApp
from tests.bridge.conftest import handed


class Parts:
    """An iterable that a server would close."""

    def __init__(self, *parts: bytes | Exception) -> None:
        self._parts = iter(parts)
        self.closed = 0

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        part = next(self._parts)
        if isinstance(part, Exception):
            raise part
        return part

    def close(self) -> None:
        self.closed += 1


class Line:
    """One request to a WSGI app, as a server makes it."""

    def __init__(self, app: Any, settings: Settings) -> None:
        self._app = Wsgi(app, settings)
        self.said: list[Any] = []
        self.written: list[bytes] = []

    def ask(self, path: str, token: str | None = None, method: str = "GET") -> bytes:
        environ: dict[str, Any] = {
            "REQUEST_METHOD": method,
            "PATH_INFO": path,
            "SCRIPT_NAME": "",
            "QUERY_STRING": "",
            "wsgi.input": BytesIO(),
        }
        if token is not None:
            environ["HTTP_AUTHORIZATION"] = f"Bearer {token}"
        parts = self._app(environ, self._start)
        try:
            self.written.extend(parts)
        finally:
            if hasattr(parts, "close"):
                parts.close()
        return b"".join(self.written)

    def _start(self, status: str, headers: Any, exc_info: Any = None, /) -> Any:
        self.said.append((status, dict(headers), exc_info))
        return self.written.append


def _json(length: int | None = None) -> list[tuple[str, str]]:
    lines = [("Content-Type", "application/json")]
    return lines if length is None else [*lines, ("Content-Length", str(length))]


@pytest.mark.parametrize("path", ["/login", "/me", "/file"])
@pytest.mark.parametrize("fails", [False, True])
def test_the_apps_iterable_is_closed_once(settings: Settings, path: str, *, fails: bool) -> None:
    token = handed(settings)
    parts = Parts(b"{", LookupError("app") if fails else b"}")

    def app(_environ: Any, start_response: Any) -> Any:
        start_response("200 OK", _json(None if path == "/file" else 2))
        return parts

    line = Line(app, settings)
    if fails:
        with pytest.raises(LookupError):
            line.ask(path, token)
    else:
        assert line.ask(path, token) == b"{}"
    assert parts.closed == 1


def test_what_an_app_writes_goes_out_as_it_is_written(settings: Settings) -> None:
    token = handed(settings)
    seen: list[int] = []
    line: Line

    def app(environ: Any, start_response: Any) -> Any:
        write = start_response("200 OK", [("Content-Type", "text/plain")])
        shown = environ["HTTP_AUTHORIZATION"].partition(" ")[2].encode()
        for part in (b"one ", shown[:50], shown[50:], b" two"):
            write(part)
            seen.append(len(b"".join(line.written)))
        return [b" three"]

    line = Line(app, settings)
    assert line.ask("/me", token) == b"one %b two three" % token.encode()
    assert seen == [4, 4, 4 + len(token), 8 + len(token)]


def test_what_an_app_writes_at_a_login_is_judged_first(settings: Settings) -> None:
    pair = json.dumps(LegacyApp().pair("ada")).encode()

    def app(_environ: Any, start_response: Any) -> Any:
        write = start_response("200 OK", _json())
        write(pair[:90])
        write(pair[90:])
        return []

    body = Line(app, settings).ask("/login", method="POST")
    assert json.loads(body)["access"].startswith("sess_")


def test_an_error_takes_the_place_of_what_was_held(settings: Settings) -> None:
    def app(_environ: Any, start_response: Any) -> Any:
        write = start_response("200 OK", _json())
        write(b"half")
        error = LookupError("app")
        start_response("500 Oh", [("Content-Type", "text/plain")], (LookupError, error, None))
        return [b"sorry"]

    line = Line(app, settings)
    assert line.ask("/login", method="POST") == b"sorry"
    assert [(status, why is not None) for status, _, why in line.said] == [("500 Oh", True)]


def test_a_generator_may_say_its_status_late(settings: Settings) -> None:
    def app(_environ: Any, start_response: Any) -> Any:
        start_response("200 OK", _json())
        yield json.dumps(LegacyApp().pair("ada")).encode()

    body = Line(app, settings).ask("/login", method="POST")
    assert json.loads(body)["access"].startswith("sess_")
