"""The Flask extension: one line in an app, or two in an app factory.

    migrator = Migrator(app)            # after JWTManager(app), where there is one

`extension.py` wraps the app and finds its settings, `guard.py` is what views use, `wording.py`
answers refusals as the app would, `jwt_extended.py` reads flask-jwt-extended's own configuration
and asks its callbacks, `telling.py` prints what was read for the operator. Flask-JWT-Extended need
not be installed.
"""

from shims.flask.extension import Migrator
from shims.flask.guard import (
    ScopeMissing,
    SessionMissing,
    current_principal,
    current_session,
    session_required,
    sessions,
)

__all__ = [
    "Migrator",
    "ScopeMissing",
    "SessionMissing",
    "current_principal",
    "current_session",
    "session_required",
    "sessions",
]
