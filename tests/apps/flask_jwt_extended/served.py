"""The notebook as servers run it, with pages that are long or say which worker answered."""

# mypy: disable-error-code="untyped-decorator"
# jwt_required is annotated to return Any.

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from flask import Flask, Response, request, send_file, stream_with_context
from flask_jwt_extended import get_jwt_identity, jwt_required

from shims.flask import Migrator
from tests.apps.flask_jwt_extended.app import create_app

WORKER = "X-Worker"


def notebook() -> Flask:
    """The notebook; its settings are those of the file that MIGRATOR_CONFIG names."""
    app = create_app(
        {
            "DATABASE": os.environ["NOTEBOOK_DATABASE"],
            "JWT_SECRET_KEY": os.environ["NOTEBOOK_SECRET"],
        }
    )
    add_long_pages(app, Path(os.environ["NOTEBOOK_DATABASE"]).parent)
    Migrator(app)
    return app


def add_long_pages(app: Flask, folder: Path) -> None:
    """Pages that are streamed, and files that the server itself may send."""

    @app.after_request
    def sign(response: Response) -> Response:
        response.headers[WORKER] = str(os.getpid())
        return response

    @app.get("/files/<name>")
    @jwt_required()
    def file(name: str) -> Any:
        return send_file(folder / name)

    @app.get("/export")
    @jwt_required()
    def export() -> Any:
        token = request.headers["Authorization"].partition(" ")[2]

        def lines() -> Iterator[str]:
            yield f"owner,{get_jwt_identity()}\n"
            yield token[:40]
            yield token[40:] + "\n"

        return Response(stream_with_context(lines()), mimetype="text/csv")
