"""A small shop on Flask with PyJWT by hand, with the migration dropped in."""

from __future__ import annotations

import os
import time
import uuid
from hashlib import pbkdf2_hmac
from hmac import compare_digest
from typing import Any

import jwt
from flask import Flask, abort, request

from migrator.core.app import Issued
from migrator.core.errors import Refused, Unavailable
from migrator.wiring import sessions as sessions_of
from shims.wsgi import DualAcceptMiddleware

ACCESS_SECONDS = 15 * 60
REFRESH_SECONDS = 14 * 86_400
PASSWORDS = {
    name: pbkdf2_hmac("sha256", f"{name}'s password".encode(), name.encode(), 1000)
    for name in ("ann", "bob", "cem", "dia")
}


def bearer() -> str:
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not token:
        abort(401)
    return token


def create_app() -> Flask:
    app = Flask(__name__)
    app.wsgi_app = DualAcceptMiddleware(app.wsgi_app)  # type: ignore[method-assign] # Flask's way
    app.register_error_handler(Refused, lambda _: ({"detail": "log in again"}, 401))
    app.register_error_handler(Unavailable, lambda _: ({}, 503, {"Retry-After": "1"}))
    sessions = sessions_of()
    secret = os.environ["JWT_SECRET"]
    logged_out: set[str] = set()
    items: dict[str, dict[str, str]] = {}

    def signed(user: str, sid: str, kind: str, seconds: int) -> str:
        now = int(time.time())
        claims = {"sub": user, "sid": sid, "token_type": kind, "iat": now, "exp": now + seconds}
        return jwt.encode({**claims, "jti": uuid.uuid4().hex}, secret, algorithm="HS256")

    def pair(user: str, sid: str | None = None) -> dict[str, str]:
        sid = sid or uuid.uuid4().hex
        return {
            "access": signed(user, sid, "access", ACCESS_SECONDS),
            "refresh": signed(user, sid, "refresh", REFRESH_SECONDS),
        }

    def claims_of(token: str, kind: str) -> dict[str, Any]:
        try:
            claims: dict[str, Any] = jwt.decode(token, secret, algorithms=["HS256"])
        except jwt.InvalidTokenError:
            abort(401)
        if claims.get("token_type") != kind or claims.get("sid") in logged_out:
            abort(401)
        return claims

    def answer(issued: Issued) -> Any:
        pair_of_one = dict.fromkeys(("access", "refresh"), issued.token)
        return pair_of_one if issued.kind == "session" else issued.token

    def renewed(refresh_token: str) -> dict[str, str]:
        claims = claims_of(refresh_token, "refresh")
        return pair(claims["sub"], claims["sid"])

    def current_user() -> str:
        if principal := request.environ["migrator.principal"]:
            return str(principal.subject)
        return str(claims_of(bearer(), "access")["sub"])

    def own_item(item_id: str) -> dict[str, str]:
        user = current_user()
        if item_id not in items:
            abort(404)
        if items[item_id]["owner"] != user:
            abort(403)
        return items[item_id]

    @app.post("/login")
    def login() -> Any:
        body = request.get_json()
        name, password = body["username"], body["password"]
        known = PASSWORDS.get(name, b"")
        if not compare_digest(
            known, pbkdf2_hmac("sha256", password.encode(), name.encode(), 1000)
        ):
            abort(401)
        return answer(sessions.login(name, legacy=lambda: pair(name)))

    @app.post("/refresh")
    def refresh() -> Any:
        token = request.get_json()["refresh"]
        return answer(sessions.exchange(token, legacy=lambda: renewed(token)))

    @app.post("/logout")
    def logout() -> Any:
        current_user()
        sessions.end(bearer())
        return "", 204

    @app.get("/me")
    def me() -> Any:
        return {"user": current_user()}

    @app.get("/")
    def front_page() -> Any:
        return {"items": len(items)}

    @app.get("/items")
    def listed() -> Any:
        user = current_user()
        return [item for item in items.values() if item["owner"] == user]

    @app.post("/items")
    def created() -> Any:
        item = {
            "id": uuid.uuid4().hex,
            "name": request.get_json()["name"],
            "owner": current_user(),
        }
        items[item["id"]] = item
        return item, 201

    @app.get("/items/<item_id>")
    def shown(item_id: str) -> Any:
        return own_item(item_id)

    @app.put("/items/<item_id>")
    def renamed(item_id: str) -> Any:
        item = own_item(item_id)
        item["name"] = request.get_json()["name"]
        return item

    @app.delete("/items/<item_id>")
    def deleted(item_id: str) -> Any:
        del items[own_item(item_id)["id"]]
        return "", 204

    return app
