"""Whether an app uses Flask-JWT-Extended; everything of it is in one module, which needs it."""

from __future__ import annotations

from types import ModuleType
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from flask import Flask

_JWT_EXTENDED: Final = "flask-jwt-extended"


def jwt_extended_of(app: Flask) -> ModuleType | None:
    """`shims.flask.jwt_extended` where the app has a JWTManager, else None."""
    if _JWT_EXTENDED not in app.extensions:
        return None
    from shims.flask import jwt_extended  # noqa: PLC0415 - it needs a library that not all have

    return jwt_extended
