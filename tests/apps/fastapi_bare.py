"""A small shop on FastAPI with PyJWT by hand, as such apps are: it knows of no migration."""

import os
import time
import uuid
from hashlib import pbkdf2_hmac
from hmac import compare_digest
from typing import Annotated, Any

import jwt
from fastapi import Depends, FastAPI, HTTPException, Request
from pydantic import BaseModel

ACCESS_SECONDS = 15 * 60
REFRESH_SECONDS = 14 * 86_400
PASSWORDS = {
    name: pbkdf2_hmac("sha256", f"{name}'s password".encode(), name.encode(), 1000)
    for name in ("ann", "bob", "cem", "dia")
}


class Login(BaseModel):
    username: str
    password: str


class Refresh(BaseModel):
    refresh: str


class Item(BaseModel):
    name: str


def bearer(request: Request) -> str:
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not token:
        raise HTTPException(401, "log in first")
    return token


def create_app() -> FastAPI:
    app = FastAPI()
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
            raise HTTPException(401, "log in again") from None
        if claims.get("token_type") != kind or claims.get("sid") in logged_out:
            raise HTTPException(401, "log in again")
        return claims

    def renewed(refresh_token: str) -> dict[str, str]:
        claims = claims_of(refresh_token, "refresh")
        return pair(claims["sub"], claims["sid"])

    def current_user(request: Request) -> str:
        return str(claims_of(bearer(request), "access")["sub"])

    def own_item(item_id: str, user: str) -> dict[str, str]:
        if item_id not in items:
            raise HTTPException(404, "no such item")
        if items[item_id]["owner"] != user:
            raise HTTPException(403, "not yours")
        return items[item_id]

    User = Annotated[str, Depends(current_user)]  # noqa: N806 - a type

    @app.post("/login")
    async def login(body: Login) -> Any:
        known = PASSWORDS.get(body.username, b"")
        given = pbkdf2_hmac("sha256", body.password.encode(), body.username.encode(), 1000)
        if not compare_digest(known, given):
            raise HTTPException(401, "wrong name or password")
        return pair(body.username)

    @app.post("/refresh")
    async def refresh(body: Refresh) -> Any:
        return renewed(body.refresh)

    @app.post("/logout", status_code=204)
    async def logout(request: Request, user: User) -> None:
        logged_out.add(claims_of(bearer(request), "access")["sid"])

    @app.get("/me")
    def me(user: User) -> dict[str, str]:
        return {"user": user}

    @app.get("/")
    def front_page() -> dict[str, int]:
        return {"items": len(items)}

    @app.get("/items")
    def listed(user: User) -> list[dict[str, str]]:
        return [item for item in items.values() if item["owner"] == user]

    @app.post("/items", status_code=201)
    def created(body: Item, user: User) -> dict[str, str]:
        item = {"id": uuid.uuid4().hex, "name": body.name, "owner": user}
        items[item["id"]] = item
        return item

    @app.get("/items/{item_id}")
    def shown(item_id: str, user: User) -> dict[str, str]:
        return own_item(item_id, user)

    @app.put("/items/{item_id}")
    def renamed(item_id: str, body: Item, user: User) -> dict[str, str]:
        item = own_item(item_id, user)
        item["name"] = body.name
        return item

    @app.delete("/items/{item_id}", status_code=204)
    def deleted(item_id: str, user: User) -> None:
        del items[own_item(item_id, user)["id"]]

    return app
