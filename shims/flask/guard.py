"""What views use: who is asking, the decorator, and what login routes call.

The shim has decided by the time a view runs. Where it left the decision to the app (a phase that
says so, an outage in one, a credential that is none of ours), the app's own library is asked, so
a view under `session_required` answers in every phase what it answered under `jwt_required`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from functools import wraps
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar, cast

from flask import current_app, request
from werkzeug.exceptions import Forbidden, HTTPException, Unauthorized
from werkzeug.local import LocalProxy

from shims.flask.library import jwt_extended_of
from shims.flask.state import here
from shims.wsgi import PRINCIPAL

if TYPE_CHECKING:
    from migrator.core.app import Sessions
    from migrator.core.sessions import Session
    from migrator.core.verdicts import Principal

_P = ParamSpec("_P")
_R = TypeVar("_R")


def _principal() -> Principal | None:
    found: Principal | None = request.environ.get(PRINCIPAL)
    return found


def _session() -> Session | None:
    principal = _principal()
    return None if principal is None else principal.session


current_principal = cast("Principal | None", LocalProxy(_principal))
"""Who this request comes from; false, and equal to None, where there is nobody."""
current_session = cast("Session | None", LocalProxy(_session))
"""The session it came with, or that its JWT was swapped for; false where there is none."""
sessions = cast("Sessions", LocalProxy(lambda: here().sessions))
"""`login`, `exchange`, `end` and the others of the app that handles this request."""


class _Said(HTTPException):
    """An HTTP error with our JSON body and challenge (RFC 6750 section 3)."""

    said: str
    challenge: str

    def get_body(self, *_: Any, **__: Any) -> str:
        """The body that Flask sends, unless the app handles this exception itself."""
        return json.dumps({"error": self.said}, separators=(",", ":"))

    def get_headers(self, *_: Any, **__: Any) -> list[tuple[str, str]]:
        """Its headers."""
        return [("Content-Type", "application/json"), ("WWW-Authenticate", self.challenge)]


class SessionMissing(_Said, Unauthorized):
    """Nobody is logged in. An app may handle it like any error of Flask's."""

    said = "invalid_token"
    challenge = "Bearer"


class ScopeMissing(_Said, Forbidden):
    """The principal may not do this; `missing` has the scopes it lacks."""

    said = "insufficient_scope"

    def __init__(self, missing: frozenset[str]) -> None:
        super().__init__()
        self.missing = missing
        self.challenge = f'Bearer error="insufficient_scope", scope="{" ".join(sorted(missing))}"'


def session_required(
    *, scopes: Iterable[str] = (), optional: bool = False
) -> Callable[[Callable[_P, _R]], Callable[_P, _R]]:
    """Let in only who is logged in, by a session or by whatever the phase still accepts.

    Takes the place of `jwt_required()`: the accessors of Flask-JWT-Extended (`get_jwt_identity`,
    `get_jwt`, `current_user`) go on answering below it, and whoever is turned away hears what
    that library always said. Preflight requests pass, as they do there.

    Args:
        scopes: what the principal must be allowed to do, all of it; else `ScopeMissing`.
        optional: whether nobody is welcome too. A bad credential is not.
    """
    needed = frozenset([scopes] if isinstance(scopes, str) else scopes)

    def decorate(view: Callable[_P, _R]) -> Callable[_P, _R]:
        @wraps(view)
        def guarded(*args: _P.args, **kwargs: _P.kwargs) -> _R:
            if request.method != "OPTIONS":
                _require(needed, optional=optional)
            result: _R = current_app.ensure_sync(view)(*args, **kwargs)
            return result

        return guarded

    return decorate


def _require(needed: frozenset[str], *, optional: bool) -> None:
    principal, library = _principal(), jwt_extended_of(current_app)
    if principal is not None:
        missing = needed - principal.scopes
        if missing:
            raise ScopeMissing(missing)
        if library is not None and principal.via == "session":
            library.stand_in(principal)
            return
    if library is not None:
        library.verify(optional=optional)
        if principal is None and needed and library.someone():
            raise ScopeMissing(needed)  # it let somebody in of whose scopes we know nothing
    elif principal is None and not optional:
        raise SessionMissing
