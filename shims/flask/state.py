"""What the extension keeps for each app: its settings, and what they were made into.

One `Migrator` may serve several apps, and one process several of them, so nothing is kept on the
extension itself.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from flask import current_app

from migrator.settings import Settings

if TYPE_CHECKING:
    from flask import Flask

    from migrator.core.app import Sessions
    from shims.answers import Answers
    from shims.routes import RouteTable

NAME: Final = "migrator"


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
