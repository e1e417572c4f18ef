"""A notebook on Flask and Flask-JWT-Extended, as its documentation teaches: nothing of us in it.

Tokens travel in headers, or in cookies with double submit, as `JWT_TOKEN_LOCATION` says. Those
that logged out are kept in a table by their jti; an access cookie that is nearly over is renewed
on the way out; passwords are changed with a fresh token only.
"""

# mypy: disable-error-code="untyped-decorator"
# jwt_required is annotated to return Any.

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from hashlib import pbkdf2_hmac
from hmac import compare_digest
from typing import Any

from flask import Flask, Response, current_app, g, jsonify, request
from flask_jwt_extended import (
    JWTManager,
    create_access_token,
    create_refresh_token,
    current_user,
    get_jwt,
    get_jwt_identity,
    jwt_required,
    set_access_cookies,
    set_refresh_cookies,
    unset_jwt_cookies,
)

SCHEMA = """
CREATE TABLE users (id INTEGER PRIMARY KEY, name TEXT UNIQUE, password BLOB, role TEXT);
CREATE TABLE notes (id INTEGER PRIMARY KEY, owner INTEGER, text TEXT);
CREATE TABLE token_blocklist (id INTEGER PRIMARY KEY, jti TEXT, type TEXT, created_at TEXT);
CREATE INDEX token_blocklist_jti ON token_blocklist (jti);
"""
RENEWED_WHEN_LEFT = timedelta(minutes=30)

jwt = JWTManager()


def database() -> sqlite3.Connection:
    if "database" not in g:
        g.database = sqlite3.connect(current_app.config["DATABASE"], isolation_level=None)
        g.database.row_factory = sqlite3.Row
    connection: sqlite3.Connection = g.database
    return connection


def hashed(password: str, name: str) -> bytes:
    return pbkdf2_hmac("sha256", password.encode(), name.encode(), 1000)


def create_app(config: Mapping[str, Any]) -> Flask:
    app = Flask(__name__)
    app.config.from_mapping(config)
    jwt.init_app(app)
    _open(app)
    if "cookies" in app.config["JWT_TOKEN_LOCATION"]:
        _keep_cookies(app)
    else:
        _hand_out(app)
    _add_views(app)
    return app


@jwt.user_identity_loader
def identity_of(user: sqlite3.Row) -> str:
    return str(user["id"])


@jwt.additional_claims_loader
def claims_of(user: sqlite3.Row) -> dict[str, Any]:
    return {"role": user["role"], "name": user["name"]}


@jwt.user_lookup_loader
def user_of(_header: Any, payload: dict[str, Any]) -> sqlite3.Row | None:
    found: sqlite3.Row | None = (
        database().execute("SELECT * FROM users WHERE id = ?", (payload["sub"],)).fetchone()
    )
    return found


@jwt.token_in_blocklist_loader
def is_logged_out(_header: Any, payload: dict[str, Any]) -> bool:
    query = "SELECT id FROM token_blocklist WHERE jti = ?"
    return database().execute(query, (payload["jti"],)).fetchone() is not None


@jwt.expired_token_loader
def say_expired(_header: Any, payload: dict[str, Any]) -> Any:
    # The client refreshes on this code, and shows the login on any other.
    return jsonify(msg="Token has expired", code="token_expired", type=payload["type"]), 401


def _open(app: Flask) -> None:
    with sqlite3.connect(app.config["DATABASE"]) as connection:
        if not connection.execute("SELECT 1 FROM sqlite_master").fetchone():
            connection.executescript(SCHEMA)
            connection.executemany(
                "INSERT INTO users (name, password, role) VALUES (?, ?, ?)",
                [
                    (name, hashed(f"{name}'s password", name), role)
                    for name, role in (("ann", "admin"), ("bob", "writer"), ("cem", "writer"))
                ],
            )
    connection.close()

    @app.teardown_appcontext
    def close(_: Any) -> None:
        if (connection := g.pop("database", None)) is not None:
            connection.close()


def _log_in() -> sqlite3.Row | None:
    body = request.get_json()
    query = "SELECT * FROM users WHERE name = ?"
    user: sqlite3.Row | None = database().execute(query, (body["name"],)).fetchone()
    if user is None or not compare_digest(
        user["password"], hashed(body["password"], body["name"])
    ):
        return None
    return user


def _log_out() -> None:
    payload = get_jwt()
    database().execute(
        "INSERT INTO token_blocklist (jti, type, created_at) VALUES (?, ?, ?)",
        (payload["jti"], payload["type"], datetime.now(UTC).isoformat()),
    )


def _hand_out(app: Flask) -> None:
    """Tokens in JSON bodies, presented in a header."""

    @app.post("/login")
    def login() -> Any:
        user = _log_in()
        if user is None:
            return jsonify(msg="Bad name or password"), 401
        return jsonify(
            access_token=create_access_token(identity=user, fresh=True),
            refresh_token=create_refresh_token(identity=user),
        )

    @app.post("/refresh")
    @jwt_required(refresh=True)
    def refresh() -> Any:
        return jsonify(access_token=create_access_token(identity=current_user, fresh=False))

    @app.delete("/logout")
    @jwt_required(verify_type=False)
    def logout() -> Any:
        _log_out()
        return jsonify(msg=f"{get_jwt()['type'].capitalize()} token revoked")


def _keep_cookies(app: Flask) -> None:
    """Tokens in cookies, renewed on the way out while they are in use."""

    @app.post("/login")
    def login() -> Any:
        user = _log_in()
        if user is None:
            return jsonify(msg="Bad name or password"), 401
        response = jsonify(msg="logged in")
        set_access_cookies(response, create_access_token(identity=user, fresh=True))
        set_refresh_cookies(response, create_refresh_token(identity=user))
        return response

    @app.post("/refresh")
    @jwt_required(refresh=True)
    def refresh() -> Any:
        response = jsonify(msg="refreshed")
        set_access_cookies(response, create_access_token(identity=current_user))
        return response

    @app.post("/logout")
    @jwt_required()
    def logout() -> Any:
        _log_out()
        response = jsonify(msg="logged out")
        unset_jwt_cookies(response)
        return response

    @app.after_request
    def renew(response: Response) -> Response:
        try:
            ends_at = get_jwt()["exp"]
            if (
                request.path != "/logout"
                and ends_at < (datetime.now(UTC) + RENEWED_WHEN_LEFT).timestamp()
            ):
                set_access_cookies(response, create_access_token(identity=current_user))
        except (RuntimeError, KeyError):
            return response
        return response


def _add_views(app: Flask) -> None:
    @app.get("/me")
    @jwt_required()
    def me() -> Any:
        return jsonify(id=get_jwt_identity(), name=current_user["name"], role=get_jwt()["role"])

    @app.get("/")
    @jwt_required(optional=True)
    def front() -> Any:
        return jsonify(hello=current_user["name"] if get_jwt_identity() else "stranger")

    @app.put("/password")
    @jwt_required(fresh=True)
    def change_password() -> Any:
        name, password = current_user["name"], request.get_json()["password"]
        query = "UPDATE users SET password = ? WHERE id = ?"
        database().execute(query, (hashed(password, name), current_user["id"]))
        return jsonify(msg="changed")

    @app.get("/users")
    @jwt_required()
    def users() -> Any:
        if get_jwt()["role"] != "admin":
            return jsonify(msg="Admins only"), 403
        rows = database().execute("SELECT name FROM users ORDER BY id").fetchall()
        return jsonify([row["name"] for row in rows])

    @app.get("/notes")
    @jwt_required()
    def notes() -> Any:
        query = "SELECT id, text FROM notes WHERE owner = ? ORDER BY id"
        rows = database().execute(query, (current_user["id"],)).fetchall()
        return jsonify([dict(row) for row in rows])

    @app.post("/notes")
    @jwt_required()
    def note() -> Any:
        query = "INSERT INTO notes (owner, text) VALUES (?, ?)"
        values = (current_user["id"], request.get_json()["text"])
        return jsonify(id=database().execute(query, values).lastrowid), 201

    @app.delete("/notes/<int:note_id>")
    @jwt_required()
    def forget(note_id: int) -> Any:
        query = "DELETE FROM notes WHERE id = ? AND owner = ?"
        gone = database().execute(query, (note_id, current_user["id"])).rowcount
        return ("", 204) if gone else (jsonify(msg="No such note"), 404)
