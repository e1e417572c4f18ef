"""The notebook over the bridge under gunicorn: two workers, long answers, files."""

# mypy: disable-error-code="untyped-decorator"
# jwt_required is annotated to return Any.

from __future__ import annotations

import secrets
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import tomlkit
from flask import Flask, Response
from flask_jwt_extended import jwt_required
from werkzeug.test import EnvironBuilder
from werkzeug.wsgi import FileWrapper

from migrator import wiring
from shims.flask import Migrator
from tests.apps.deployment import Deployment
from tests.apps.flask_jwt_extended.app import create_app
from tests.apps.flask_jwt_extended.clients import log_in
from tests.apps.flask_jwt_extended.deployment import Notebook
from tests.apps.flask_jwt_extended.served import WORKER, add_long_pages
from tests.http.servers import Server, bearer, serving
from tests.rig import Rig

PICTURE = secrets.token_bytes(300_000)
LETTER = "It was a bright cold day in April. " * 50


@dataclass(frozen=True)
class Surroundings(Deployment):
    """The notebook's, with what its operator writes in a file."""

    secret: str = field(default_factory=lambda: secrets.token_hex(32))

    def environ(self) -> dict[str, str]:
        """The variables of its processes; the settings file is written."""
        usual = Notebook(self.folder, self.rig, self.redis).settings()
        swap = {"keys": [{"id": "k1", "secret": "env:NOTEBOOK_SWAP_KEY"}]}
        file = self.folder / "migrator.toml"
        file.write_text(tomlkit.dumps(usual | {"swap": swap, "bridge": {}}))
        return {
            "NOTEBOOK_DATABASE": str(self.folder / "notebook.sqlite"),
            "NOTEBOOK_SECRET": self.secret,
            "NOTEBOOK_SWAP_KEY": self.swap_key,
            "MIGRATOR_CONFIG": str(file),
        }


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "picture.png").write_bytes(PICTURE)
    (tmp_path / "letter.txt").write_text(LETTER)
    return tmp_path


@pytest.fixture
def served(migrated: str, redis_url: str, folder: Path) -> Iterator[Server]:
    surroundings = Surroundings(folder, migrated, redis_url)
    surroundings.rig.move("drain")
    with serving("gunicorn notebook", surroundings) as server:
        yield server


def session(server: Server) -> str:
    answer = server.post("/login", {"name": "ann", "password": "ann's password"})
    token = str(answer.json["access_token"])
    assert token.startswith("sess_")
    return token


def test_two_workers_serve_one_session_and_its_long_answers(served: Server) -> None:
    token, other = session(served), session(served)
    asked = [served.get("/me", bearer(token)) for _ in range(2)]
    until = time.monotonic() + 20
    while len({answer.get(WORKER) for answer in asked}) < 2:
        asked.append(served.get("/me", bearer(token)))
        assert time.monotonic() < until, "one worker answers everything"
    assert {answer.status for answer in asked} == {200}
    assert {answer.body for answer in asked} == {asked[0].body}

    picture = served.get("/files/picture.png", bearer(token))
    assert (picture.body, picture.get("Content-Length")) == (PICTURE, str(len(PICTURE)))
    etag = ("If-None-Match", str(picture.get("ETag")))
    assert served.get("/files/picture.png", bearer(token), etag).status == 304
    part = served.get("/files/picture.png", bearer(token), ("Range", "bytes=10-29"))
    assert (part.status, part.body) == (206, PICTURE[10:30])
    head = served.send("HEAD", "/files/picture.png", bearer(token))
    assert (head.status, head.body) == (200, b"")
    assert served.get("/files/letter.txt", bearer(token)).body == LETTER.encode()
    assert served.get("/export", bearer(token)).body == f"owner,1\n{token}\n".encode()

    assert served.send("DELETE", "/logout", bearer(token)).status == 200
    bound = time.monotonic() + 2  # each worker hears of it within its poll
    refused: set[str | None] = set()
    while len(refused) < 2:
        answer = served.get("/me", bearer(token))
        if answer.status == 401:
            refused.add(answer.get(WORKER))
        assert time.monotonic() < bound + 10, "one worker never refused"
        assert answer.status == 401 or time.monotonic() < bound
    assert served.get("/me", bearer(other)).status == 200
    assert "Traceback" not in served.log.read_text()


# As WSGI passes them.


@dataclass
class Passing:
    """What a generator of the app has made by now, and whether it was closed."""

    made: list[str] = field(default_factory=list)
    closed: int = 0


@pytest.fixture
def app(migrated: str, folder: Path) -> Iterator[Flask]:
    notebook = Notebook(folder, Rig(migrated))
    notebook.rig.move("drain")
    app = create_app(
        {"DATABASE": str(folder / "notebook.sqlite"), "JWT_SECRET_KEY": notebook.secret}
    )
    app.config["MIGRATOR"] = notebook.settings() | {"bridge": {}}
    add_long_pages(app, folder)
    Migrator(app)
    yield app
    wiring.stop()


def opened(app: Flask, path: str, **environ: Any) -> tuple[Any, str]:
    """The app's iterable for a request with a session, as a server gets it; its token."""
    token = log_in(app.test_client())["access_token"]
    builder = EnvironBuilder(path, headers=[("Authorization", f"Bearer {token}")])
    said: list[str] = []

    def start_response(status: str, _headers: object, _exc_info: object = None) -> Any:
        said.append(status)
        return lambda _part: None

    parts = app.wsgi_app(dict(builder.get_environ(), **environ), start_response)
    assert said == ["200 OK"], "said before the first part is asked for"
    return parts, token


def test_a_file_is_left_to_the_server_to_send(app: Flask) -> None:
    picture, _ = opened(app, "/files/picture.png", **{"wsgi.file_wrapper": FileWrapper})
    assert isinstance(picture, FileWrapper)
    assert b"".join(picture) == PICTURE
    picture.close()


def test_a_stream_is_passed_on_part_by_part_and_closed(app: Flask) -> None:
    passing = Passing()

    def parts() -> Iterator[str]:
        for number in ("one", "two", "three"):
            passing.made.append(number)
            yield number + "\n"

    @app.get("/slow")
    @jwt_required()
    def slow() -> Response:
        response = Response(parts(), mimetype="text/plain")

        @response.call_on_close
        def closed() -> None:
            passing.closed += 1

        return response

    stream, _ = opened(app, "/slow")
    iterator = iter(stream)
    assert next(iterator) == b"one\n"
    assert passing.made == ["one"]
    stream.close()  # the client went away
    assert (passing.made, passing.closed) == (["one"], 1)


def test_an_echo_in_a_stream_is_the_clients_own_token(app: Flask) -> None:
    stream, token = opened(app, "/export")
    assert b"".join(stream) == f"owner,1\n{token}\n".encode()
    stream.close()
