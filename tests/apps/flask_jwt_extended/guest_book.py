"""A guest book of a few views, one under each decorator, with the migration dropped in."""

# mypy: disable-error-code="untyped-decorator"
# jwt_required is annotated to return Any.

from __future__ import annotations

from typing import Any

from flask import Flask, Response, jsonify
from flask.testing import FlaskClient
from flask_jwt_extended import (
    JWTManager,
    create_access_token,
    current_user,
    get_jwt,
    get_jwt_identity,
    jwt_required,
)

from shims.flask import Migrator, current_principal, session_required
from tests.rig import SWAP_KEY, Rig

SECRET = "what the guest book signs with, and always has"


def guest_book(rig: Rig, *, more: dict[str, Any] | None = None, **config: Any) -> Flask:
    """An app of a few views, one under each decorator; its session tokens come in a header."""
    app = Flask(__name__)
    app.config.update(JWT_SECRET_KEY=SECRET, JWT_COOKIE_CSRF_PROTECT=False)
    app.config.update(config)
    manager = JWTManager(app)
    app.config["MIGRATOR"] = {
        "environment": "test",
        "database": {"url": rig.url},
        "memory": {"poll_ms": 100},
        "swap": {"keys": [{"id": "k1", "secret": SWAP_KEY}]},
        "cookie": {"name": "__Host-sid", "secure": False},
        **(more or {}),
    }
    Migrator(app)

    @manager.user_lookup_loader
    def find(_header: Any, payload: dict[str, Any]) -> str | None:
        name = payload[app.config["JWT_IDENTITY_CLAIM"]]
        return None if name == "nobody" else f"user {name}"

    @app.after_request
    def allow(response: Response) -> Response:
        response.headers["Access-Control-Allow-Origin"] = "https://page.example"
        return response

    @app.route("/old", methods=["GET", "POST"])
    @jwt_required()
    def old() -> Any:
        return {"principal": current_principal.subject if current_principal else None}

    @app.route("/new", methods=["GET", "POST"])
    @session_required()
    def new() -> Any:
        return jsonify(id=get_jwt_identity(), user=str(current_user), type=get_jwt()["type"])

    @app.get("/front")
    @session_required(optional=True)
    def front() -> Any:
        return jsonify(id=get_jwt_identity())

    @app.get("/scoped")
    @session_required(scopes=["write"])
    def scoped() -> str:
        return "written"

    return app


def token_of(client: FlaskClient, subject: str = "ada", **claims: Any) -> str:
    with client.application.app_context():
        token: str = create_access_token(subject, additional_claims=claims)
    return token


def bearer(token: str, scheme: str = "Bearer") -> dict[str, str]:
    return {"Authorization": f"{scheme} {token}"}
