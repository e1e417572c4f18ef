"""The shop's API as a browser meets it: CORS outside, the shim inside it, cookies or bearer.

CORS goes around the shim: a page on another origin may read a refusal only if that carries the
headers, too. The app sets its own cookies as such apps do, on whatever Domain it was told.
"""

from __future__ import annotations

import itertools
import json
import os
from typing import Any

import jwt
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse, Response
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket

from migrator.core.errors import Refused
from migrator.settings import Settings
from migrator.wiring import async_sessions
from shims.asgi import DualAcceptMiddleware
from tests.apps.deployment import sign

ORIGINS = "SHOP_ORIGINS"
_PAGE = """<!doctype html><title>shop</title><body>{user}
<form method=post action=/logout><button>log out</button></form>"""


def create_app() -> Starlette:
    settings = Settings.load()
    sessions = async_sessions(settings)
    session_cookie = settings.cookie.effective_name
    hits = itertools.count(1)
    transfers: list[str] = []

    def legacy_user(request: Request) -> str | None:
        held = request.headers.get("Authorization", "").partition(" ")[2]
        try:
            claims = jwt.decode(
                held or request.cookies.get("access_token", ""),
                os.environ["JWT_SECRET"],
                algorithms=["HS256"],
            )
        except jwt.InvalidTokenError:
            return None
        return str(claims["sub"])

    def user_of(request: Request) -> str | None:
        principal = request.state.principal
        return legacy_user(request) if principal is None else str(principal.subject)

    async def login(request: Request) -> Response:
        asked = await request.json()
        issued = await sessions.login(asked["user"], legacy=lambda: sign(asked["user"]))
        if not asked.get("cookie"):
            return JSONResponse({"access": issued.token})
        response = JSONResponse({})
        if issued.kind == "session":
            response.set_cookie(
                session_cookie,
                str(issued.token),
                max_age=600,
                secure=settings.cookie.secure,
                httponly=True,
            )
        else:
            response.set_cookie("access_token", str(issued.token), domain=asked.get("domain"))
        return response

    async def refresh(request: Request) -> Response:
        asked = await request.json()
        try:
            issued = await sessions.exchange(asked["refresh"], legacy=dict)
        except Refused:
            return JSONResponse({}, 401)
        return JSONResponse(dict.fromkeys(("access", "refresh"), issued.token))

    async def logout(request: Request) -> Response:
        principal = request.state.principal
        if principal is not None and principal.session is not None:
            await sessions.end(principal.session.id)
        if request.headers.get("Sec-Fetch-Mode") == "navigate":
            return RedirectResponse("/page?out", 303)
        return Response(status_code=204)

    async def me(request: Request) -> Response:
        user, principal = user_of(request), request.state.principal
        if user is None:
            return JSONResponse({"user": None}, 401)
        via = principal and principal.via
        return JSONResponse({"user": user, "via": via}, headers={"X-Hidden": "unlisted"})

    async def transfer(request: Request) -> Response:
        user = user_of(request)
        if user is None:
            return JSONResponse({"user": None}, 401)
        transfers.append(user)
        return JSONResponse({"user": user}, 201)

    async def transferred(_: Request) -> Response:
        return JSONResponse(transfers)

    async def signup(request: Request) -> Response:
        is_known = request.state.principal is not None
        return JSONResponse({"known": is_known, "cookies": [*request.cookies]}, 201)

    async def counted(request: Request) -> Response:
        body = {"hit": next(hits), "user": user_of(request)}
        return JSONResponse(body, headers={"Cache-Control": "private, max-age=600"})

    async def page(request: Request) -> Response:
        body = _PAGE.format(user=f"hello {user_of(request) or 'nobody'}")
        return HTMLResponse(body, headers={"Cache-Control": "private, max-age=600"})

    async def talk(websocket: WebSocket) -> None:
        await websocket.accept()
        principal = websocket.state.principal
        await websocket.send_json({"user": principal and principal.subject})
        await websocket.close()

    cors = Middleware(
        CORSMiddleware,
        allow_origins=json.loads(os.environ[ORIGINS]),
        allow_credentials=True,
        allow_headers=["Authorization", "Content-Type"],
        allow_methods=["GET", "POST"],
    )
    posts: dict[str, Any] = {
        "/login": login,
        "/refresh": refresh,
        "/logout": logout,
        "/transfer": transfer,
        "/signup": signup,
    }
    gets: dict[str, Any] = {
        "/": page,
        "/me": me,
        "/transferred": transferred,
        "/counted": counted,
        "/page": page,
    }
    return Starlette(
        routes=[
            *(Route(path, endpoint, methods=["POST"]) for path, endpoint in posts.items()),
            *(Route(path, endpoint) for path, endpoint in gets.items()),
            WebSocketRoute("/talk", talk),
        ],
        middleware=[cors, Middleware(DualAcceptMiddleware, settings)],
    )
