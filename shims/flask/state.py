"""What the extension keeps for each app: its settings, and what they were made into.

One `Migrator` may serve several apps, and one process several of them, so nothing is kept on the
extension itself. Everything of Flask-JWT-Extended is in one module, which needs that library:
`jwt_extended_of` alone decides whether it is loaded.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import ModuleType
from typing import TYPE_CHECKING, Final

from flask import current_app

from migrator.settings import Settings

if TYPE_CHECKING:
    from flask import Flask

    from migrator.core.app import Sessions
    from shims.answers import Answers
    from shims.routes import RouteTable

NAME: Final = "migrator"
_JWT_EXTENDED: Final = "flask-jwt-extended"


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """One app's: its settings and routes, how it words its answers, what its login routes call."""

    settings: Settings
    routes: RouteTable
    answers: Answers
    sessions: Sessions


def state_of(app: Flask) -> State | None:
    """What `init_app` left with `app`, None before it."""
    found = app.extensions.get(NAME)
    return found if isinstance(found, State) else None


def here() -> State:
    """The state of the app that handles this request.

    Raises:
        RuntimeError: no `Migrator` was initialised with it.
    """
    found = state_of(current_app)
    if found is None:
        raise RuntimeError("this app has no Migrator: call Migrator(app) or init_app(app) first")
    return found


def jwt_extended_of(app: Flask) -> ModuleType | None:
    """`shims.flask.jwt_extended` where the app has a JWTManager, else None."""
    if _JWT_EXTENDED not in app.extensions:
        return None
    from shims.flask import jwt_extended  # noqa: PLC0415 - it needs a library that not all have

    return jwt_extended
