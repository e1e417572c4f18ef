"""The legacy app behind the bridge, as servers run it."""

from __future__ import annotations

import os

from shims.asgi import DualAcceptMiddleware as Asgi
from shims.wsgi import DualAcceptMiddleware as Wsgi
from tests.bridge.app import Answer, Asked, LegacyApp, said


def asgi() -> Asgi:
    """For uvicorn."""
    return Asgi(_app().asgi)


def wsgi() -> Wsgi:
    """For gunicorn."""
    return Wsgi(_app().wsgi)


def _app() -> LegacyApp:
    app = LegacyApp(secret=os.environ["JWT_SECRET"])
    app.says["/"] = _stands
    return app


def _stands(_: Asked) -> Answer:
    return said(200, {})
