"""What the app's own blocklist names ends here too, sessions included, off the request path."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from flask import current_app, g
from flask.testing import FlaskClient
from flask_jwt_extended import JWTManager, decode_token

from migrator import wiring
from tests.apps.flask_jwt_extended.app import database
from tests.apps.flask_jwt_extended.clients import ask, log_in, said
from tests.apps.flask_jwt_extended.deployment import Notebook
from tests.rig import Rig

OFTEN = [{"kind": "callback", "every": "200ms"}]


@pytest.fixture
def client(migrated: str, redis_url: str, tmp_path: Path) -> Iterator[FlaskClient]:
    installed = Notebook(tmp_path, Rig(migrated), redis_url)
    yield installed.app("swap", ledgers=OFTEN).test_client(use_cookies=False)
    wiring.stop()


def eventually(holds: Callable[[], bool], within_s: float = 10) -> None:
    """Wait for what a poll brings."""
    until = time.monotonic() + within_s
    while not holds():
        assert time.monotonic() < until, "it never came"
        threading.Event().wait(0.05)


def principal_of(client: FlaskClient, token: str) -> int:
    """What the shim alone says of a token: this path has no view."""
    return ask(client, token, "/nowhere").status_code


def test_a_logout_through_the_app_ends_the_session_too(client: FlaskClient) -> None:
    token, other = log_in(client)["access_token"], log_in(client)["access_token"]
    session, others = (ask(client, each).headers["Session-Token"] for each in (token, other))
    assert principal_of(client, session) == 404
    assert said(ask(client, token, "/logout", "DELETE"))[0] == 200
    eventually(lambda: principal_of(client, session) == 401)
    eventually(lambda: principal_of(client, token) == 401)
    assert principal_of(client, others) == principal_of(client, other) == 404


def test_a_jwt_that_had_logged_out_before_is_handed_no_session(client: FlaskClient) -> None:
    """The shim meets it first, and verifies it; the app knows better."""
    app = client.application
    token = log_in(client)["access_token"]
    with app.app_context():
        payload = decode_token(token)
        record = "INSERT INTO token_blocklist (jti, type) VALUES (?, 'access')"
        database().execute(record, (payload["jti"],))
    answer = ask(client, token)
    assert said(answer) == (401, {"msg": "Token has been revoked"})
    assert "Session-Token" not in answer.headers
    eventually(lambda: principal_of(client, token) == 401)


def test_the_callback_is_asked_in_the_apps_context_off_the_request_path(
    client: FlaskClient,
) -> None:
    manager: JWTManager = client.application.extensions["flask-jwt-extended"]
    asked: list[tuple[str, str, bool]] = []
    callback = manager._token_in_blocklist_callback

    def noted(header: dict[str, object], payload: dict[str, object]) -> bool:
        thread = threading.current_thread() is threading.main_thread()
        asked.append((current_app.name, str(payload["sub"]), thread))
        g.noted = True
        return bool(callback(header, payload))

    manager.token_in_blocklist_loader(noted)
    try:
        ask(client, log_in(client, "bob")["access_token"])
        eventually(lambda: (client.application.name, "2", False) in asked)
    finally:
        manager.token_in_blocklist_loader(callback)


def test_a_callback_that_fails_ends_nobody_and_is_asked_again(client: FlaskClient) -> None:
    manager: JWTManager = client.application.extensions["flask-jwt-extended"]
    callback, failures = manager._token_in_blocklist_callback, []
    token = log_in(client)["access_token"]
    session = ask(client, token).headers["Session-Token"]

    def failing(_header: object, _payload: object) -> bool:
        failures.append(1)
        raise RuntimeError("the table is locked")

    manager.token_in_blocklist_loader(failing)
    try:
        eventually(lambda: len(failures) > 1)
        assert principal_of(client, session) == 404
    finally:
        manager.token_in_blocklist_loader(callback)
    ask(client, token, "/logout", "DELETE")
    eventually(lambda: principal_of(client, session) == 401)
