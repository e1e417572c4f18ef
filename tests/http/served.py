"""The shops as servers run them, with routes that show what an app gets and answer as told."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import flask
from fastapi import FastAPI, Request
from starlette.responses import JSONResponse, Response

from migrator.core.verdicts import Principal
from tests.apps import fastapi_dropped_in, flask_dropped_in

WORKER = "X-Worker"
METHODS = ["GET", "POST", "HEAD", "OPTIONS"]


def seen(
    principal: Principal | None, named: str | None, headers: Mapping[str, str]
) -> dict[str, Any]:
    """What reached the app."""
    return {
        "subject": principal and principal.subject,
        "via": principal and principal.via,
        "session": str(principal.session.id) if principal and principal.session else None,
        "named": named or None,
        "headers": {name.lower(): value for name, value in headers.items()},
    }


def fastapi_app() -> FastAPI:
    """The FastAPI shop."""
    app = fastapi_dropped_in.create_app()

    async def show(request: Request) -> Response:
        body = seen(request.state.principal, request.user.identity, request.headers)
        return JSONResponse(body, headers={WORKER: str(os.getpid())})

    async def answer(request: Request) -> Response:
        response = Response(status_code=int(request.path_params["status"]))
        for name, value in request.query_params.multi_items():
            response.headers.append(name, value)
        return response

    app.add_route("/seen", show, methods=METHODS)
    app.add_route("/answer/{status}", answer, methods=METHODS)
    return app


def flask_app() -> flask.Flask:
    """The Flask shop."""
    app = flask_dropped_in.create_app()

    @app.route("/seen", methods=METHODS)
    def show() -> Any:
        environ = flask.request.environ
        body = seen(
            environ["migrator.principal"], environ.get("REMOTE_USER"), dict(flask.request.headers)
        )
        return body, 200, {WORKER: str(os.getpid())}

    @app.route("/answer/<int:status>", methods=METHODS)
    def answer(status: int) -> Any:
        return "", status, list(flask.request.args.items(multi=True))

    return app
