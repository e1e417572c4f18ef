"""Refusals as the app itself words them: clients are keyed to its statuses and bodies.

The shim answers before the app is asked. Where the app has Flask-JWT-Extended, its own error
handlers and loaders make the answer, and its `after_request` functions see it (that is where CORS
headers come from); no view and no `before_request` function runs. `http.refusal` of the settings
wins over this, and whatever goes wrong here ends in the plain answer, never in the app.
"""

from __future__ import annotations

from contextvars import ContextVar
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any, Self

from flask import Flask, Response

from migrator.core.presented import Outcome
from migrator.core.verdicts import Admitted, Reason, status, word
from migrator.redacting import logger
from migrator.settings import Settings
from shims.answers import Answer, Answers, Asked, RawHeader, RawHeaders
from shims.flask.library import jwt_extended_of

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment

_log = logger("migrator.flask")
_UNAUTHORIZED = 401
_TURNED_AWAY = frozenset({_UNAUTHORIZED, 422})  # the statuses of Flask-JWT-Extended

asking: ContextVar[WSGIEnvironment | None] = ContextVar("migrator_flask_asking", default=None)
"""The request that the shim is about to answer or to hand on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Worded(Answers):
    """`Answers` of an app whose own library words a refusal."""

    app: Flask

    @classmethod
    def by(cls, app: Flask, settings: Settings) -> Self:
        """The wording of `app`."""
        plain = Answers.of(settings)
        named = {field.name: getattr(plain, field.name) for field in fields(plain)}
        return cls(app=app, **named)

    def refuse(self, reason: Reason) -> Answer:
        """The app's own answer to a credential like that, else the plain one."""
        environ = asking.get()
        said_by_settings = self.body is not None or self.refusal_status != _UNAUTHORIZED
        if environ is not None and not said_by_settings and status(reason) == _UNAUTHORIZED:
            answer = self._by_the_app(environ, reason)
            if answer is not None:
                return answer
        return Answers.refuse(self, reason)

    def amend(
        self, headers: RawHeaders, *, code: int, outcome: Outcome, asked: Asked
    ) -> list[RawHeader]:
        """See `Answers.amend`; what the app itself turns away is handed no session.

        It may know of a logout that its blocklist has not told us of yet.
        """
        verdict = outcome.verdict
        if code in _TURNED_AWAY and isinstance(verdict, Admitted):
            outcome = replace(outcome, verdict=replace(verdict, hand_out=None))
        return Answers.amend(self, headers, code=code, outcome=outcome, asked=asked)

    def _by_the_app(self, environ: WSGIEnvironment, reason: Reason) -> Answer | None:
        app = self.app
        if jwt_extended_of(app) is None:
            return None
        try:
            with app.request_context(environ):
                response = app.process_response(worded(app, reason))
        except Exception as error:  # noqa: BLE001 - a refusal must not fail by the app's own code
            why = type(error).__name__  # and no more: its text may quote what was presented
            _log.warning("refusal.unworded", extra={"event": "refusal.unworded", "why": why})
            return None
        return _answer(response)


def worded(app: Flask, reason: Reason) -> Response:
    """The app's own response to a refusal, inside one of its request contexts.

    Raises:
        Exception: what the app's own handlers raise, or the library's where it has none.
    """
    library = jwt_extended_of(app)
    if library is None:
        raise LookupError("flask-jwt-extended")
    said: Any = app.handle_user_exception(library.refused_as(word(reason)))
    return app.make_response(said)


def _answer(response: Response) -> Answer:
    response.direct_passthrough = False
    body = response.get_data()
    response.headers.setdefault("Cache-Control", "no-store")
    headers = tuple(
        (name.encode("latin-1"), value.encode("latin-1"))
        for name, value in response.headers.to_wsgi_list()
    )
    return Answer(response.status_code, headers, body)
