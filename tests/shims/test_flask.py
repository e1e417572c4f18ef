"""The Flask extension on apps that verify nothing themselves: its own decorator decides."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import flask
import pytest
from flask.testing import FlaskClient

from migrator import wiring
from migrator.core.errors import BadSettings
from migrator.core.flow import SubjectState
from migrator.settings import Settings
from shims.flask import (
    Migrator,
    ScopeMissing,
    current_principal,
    current_session,
    session_required,
    sessions,
)
from tests.rig import ISSUER, SWAP_KEY, Rig, sign, sign_refresh


@pytest.fixture
def rig(migrated: str) -> Iterator[Rig]:
    rig = Rig(migrated)
    rig.move("swap")
    yield rig
    wiring.stop()


def tables(rig: Rig, **more: Any) -> dict[str, Any]:
    issuer = ISSUER | {"claims": {"subject": "sub", "family": "sid", "scopes": "scope"}}
    return {
        "environment": "test",
        "app": "acme",
        "database": {"url": rig.url},
        "memory": {"poll_ms": 100},
        "swap": {"keys": [{"id": "k1", "secret": SWAP_KEY}]},
        "cookie": {"name": "__Host-sid", "secure": False},
        "routes": {"login": ["/login"], "refresh": ["/refresh"], "logout": ["/logout"]},
        "issuers": [issuer],
        **more,
    }


def made(config: Any = None, migrator: Migrator | None = None) -> flask.Flask:
    """An app as a factory makes it."""
    app = flask.Flask(__name__)
    if config is not None:
        app.config["MIGRATOR"] = config
    (migrator or Migrator()).init_app(app)

    @app.get("/me")
    @session_required()
    def me() -> dict[str, Any]:
        assert current_principal
        return {
            "subject": current_principal.subject,
            "via": current_principal.via,
            "session": str(current_session.id) if current_session else None,
        }

    @app.route("/write", methods=["GET", "POST"])
    @session_required(scopes=["read", "write"])
    def write() -> str:
        return "written"

    @app.get("/front")
    @session_required(optional=True)
    def front() -> str:
        return current_principal.subject if current_principal else "stranger"

    @app.post("/login")
    def login() -> dict[str, Any]:
        issued = sessions.login("ada", scopes=["read"], legacy=lambda: sign("ada"))
        return {"token": issued.token, "kind": issued.kind}

    @app.post("/refresh")
    def refresh() -> dict[str, Any]:
        presented = flask.request.get_json()["refresh"]
        return {"token": sessions.exchange(presented, legacy=lambda: sign("ada")).token}

    @app.post("/logout")
    @session_required()
    def logout() -> tuple[str, int]:
        assert current_session
        sessions.end(current_session.id)
        return "", 204

    return app


def bearer(token: object) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


@pytest.fixture
def client(rig: Rig) -> FlaskClient:
    return made(tables(rig)).test_client(use_cookies=False)


def test_a_view_sees_who_is_asking_by_jwt_and_by_session(client: FlaskClient) -> None:
    first = client.get("/me", headers=bearer(sign("ada")))
    session = first.get_json()["session"]
    assert first.get_json() == {"subject": "ada", "via": "legacy", "session": session}
    second = client.get("/me", headers=bearer(first.headers["Session-Token"]))
    assert second.get_json() == {"subject": "ada", "via": "session", "session": session}


def test_whoever_is_nobody_is_asked_to_log_in(client: FlaskClient) -> None:
    answer = client.get("/me")
    assert (answer.status_code, answer.get_json()) == (401, {"error": "invalid_token"})
    assert answer.headers["WWW-Authenticate"] == "Bearer"
    assert client.get("/me", headers={"Authorization": "Basic eDp5"}).status_code == 401
    assert client.get("/me", headers={"Remote-User": "ada"}).status_code == 401


def test_an_optional_view_takes_nobody_and_somebody_but_no_bad_token(client: FlaskClient) -> None:
    assert client.get("/front").text == "stranger"
    assert client.get("/front", headers=bearer(sign("ada"))).text == "ada"
    forged = sign("ada", secret="a secret of somebody else entirely, and long")
    assert client.get("/front", headers=bearer(forged)).status_code == 401


def test_missing_scopes_are_forbidden_and_named(client: FlaskClient) -> None:
    some = sign("ada", claims={"scope": "read"})
    answer = client.get("/write", headers=bearer(some))
    assert (answer.status_code, answer.get_json()) == (403, {"error": "insufficient_scope"})
    challenge = 'Bearer error="insufficient_scope", scope="write"'
    assert answer.headers["WWW-Authenticate"] == challenge
    every = sign("ada", claims={"scope": "read write"})
    token = client.get("/write", headers=bearer(every)).headers["Session-Token"]
    assert client.get("/write", headers=bearer(token)).text == "written"
    assert client.get("/write").status_code == 401


def test_preflight_requests_pass(client: FlaskClient) -> None:
    assert client.options("/write").status_code == 200


def test_an_app_may_word_its_refusals_itself(rig: Rig) -> None:
    app = made(tables(rig))

    @app.errorhandler(ScopeMissing)
    def say(error: ScopeMissing) -> tuple[str, int]:
        return f"you lack {', '.join(sorted(error.missing))}", 418

    answer = app.test_client().get("/write", headers=bearer(sign("ada")))
    assert (answer.status_code, answer.text) == (418, "you lack read, write")


def test_login_refresh_and_logout_speak_with_the_sessions(rig: Rig, client: FlaskClient) -> None:
    assert client.post("/login").get_json()["kind"] == "session"
    token = client.post("/login").get_json()["token"]
    assert client.get("/me", headers=bearer(token)).status_code == 200
    refreshed = client.post("/refresh", json={"refresh": sign_refresh("ada")}).get_json()["token"]
    assert client.get("/me", headers=bearer(refreshed)).status_code == 200
    assert client.post("/logout", headers=bearer(token)).status_code == 204
    assert client.get("/me", headers=bearer(token)).status_code == 401
    assert client.get("/me", headers=bearer(refreshed)).status_code == 200


def test_a_refused_exchange_is_answered_as_the_shim_answers(client: FlaskClient) -> None:
    answer = client.post("/refresh", json={"refresh": sign_refresh("ada", lasts_s=-120)})
    assert answer.status_code == 401
    assert answer.get_json() == {"error": "invalid_token", "reason": "expired"}


def test_an_outage_is_not_a_logout(rig: Rig) -> None:
    nowhere = {"url": "postgresql+psycopg://nobody@127.0.0.1:1/none", "budget_ms": 100}
    client = made(tables(rig, database=nowhere)).test_client()
    for answer in (client.get("/me", headers=bearer(sign("ada"))), client.post("/login")):
        assert answer.status_code == 503
        assert answer.headers["Retry-After"] == "1"
        assert answer.get_json() == {"error": "temporarily_unavailable"}


def test_a_session_cookie_does_not_count_on_another_sites_request(rig: Rig) -> None:
    app = made(tables(rig))
    token = app.test_client().get("/me", headers=bearer(sign("ada"))).headers["Session-Token"]
    client = app.test_client(use_cookies=False)
    cookie = {"Cookie": f"sid={token}"}
    assert client.get("/me", headers=cookie).status_code == 200
    crossing = {"Sec-Fetch-Site": "cross-site"}
    answer = client.post("/logout", headers=cookie | crossing)
    assert (answer.status_code, answer.get_json()) == (403, {"error": "csrf"})
    assert client.post("/logout", headers=cookie | {"Origin": "http://evil"}).status_code == 403
    own = {"Sec-Fetch-Site": "same-origin"}
    assert client.post("/logout", headers=cookie | own).status_code == 204


def test_settings_are_tables_a_path_settings_or_found(
    rig: Rig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "migrator.toml"
    file.write_text(
        f'environment = "test"\napp = "acme"\n[database]\nurl = "{rig.url}"\n'
        '[swap]\nkeys = [{ id = "k1", secret = "env:ACME_SWAP" }]\n'
        '[[issuers]]\nid = "a1"\nalgorithms = ["HS256"]\nkeys = ["env:ACME_JWT"]\n'
        "[issuers.purpose]\nrequire = { token_type = [] }\n"
    )
    monkeypatch.setenv("ACME_SWAP", SWAP_KEY)
    monkeypatch.setenv("ACME_JWT", ISSUER["keys"][0])
    monkeypatch.setenv("MIGRATOR_CONFIG", str(file))
    for config in (tables(rig), str(file), file, Settings.build(tables(rig)), None):
        client = made(config).test_client()
        assert client.get("/front", headers=bearer(sign("ada"))).text == "ada"


@pytest.mark.parametrize("config", [{"databases": {}}, {}, 7])
def test_an_app_that_cannot_be_run_with_does_not_start(config: Any) -> None:
    with pytest.raises(BadSettings):
        made(config)


def test_one_cookie_name_is_not_given_twice(rig: Rig) -> None:
    """Without its prefix the session cookie would be called `session`, as Flask's own is."""
    with pytest.raises(BadSettings) as raised:
        made(tables(rig, cookie={"secure": False}))
    assert [problem.id for problem in raised.value.problems] == ["flask.cookie-name"]


def test_a_second_init_changes_nothing(rig: Rig) -> None:
    migrator = Migrator()
    app = made(tables(rig), migrator)
    shim = app.wsgi_app
    migrator.init_app(app)
    Migrator(app)
    assert app.wsgi_app is shim


def test_one_extension_serves_several_apps_each_with_its_settings(rig: Rig) -> None:
    migrator = Migrator()
    other = tables(rig, swap={**tables(rig)["swap"], "header": "X-New-Token"})
    apps = [made(tables(rig), migrator), made(other, migrator)]
    one, two = (app.test_client().get("/me", headers=bearer(sign("ada"))) for app in apps)
    assert "Session-Token" in one.headers
    assert "X-New-Token" in two.headers
    with apps[0].app_context():
        assert migrator.sessions.list("ada")


def test_outside_of_an_app_with_it_nobody_is_asked(rig: Rig) -> None:
    app = flask.Flask(__name__)
    with app.app_context(), pytest.raises(RuntimeError, match="no Migrator"):
        sessions.list("ada")


def test_making_an_app_starts_nothing(rig: Rig) -> None:
    before = set(threading.enumerate())  # another test's watchdog may still be on its way out

    def started() -> list[str]:
        return [each.name for each in threading.enumerate() if each not in before]

    app = made(tables(rig))
    assert started() == []
    app.test_client().get("/front")
    assert any("migrator" in name for name in started())


def test_the_hook_is_asked_in_the_apps_context(rig: Rig) -> None:
    asked = []

    def resolve(subject: str, realm: str) -> SubjectState | None:
        asked.append((flask.current_app.name, subject, realm))
        return SubjectState(active=subject != "bob", scopes=frozenset({"read", "write"}))

    client = made(tables(rig), Migrator(resolve_subject=resolve)).test_client()
    assert client.get("/write", headers=bearer(sign("ada"))).text == "written"
    assert client.get("/front", headers=bearer(sign("bob"))).status_code == 401
    assert asked == [(__name__, "ada", "users"), (__name__, "bob", "users")]
