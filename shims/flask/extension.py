"""`Migrator`: puts the shim around a Flask app, with the settings the app was configured with.

`app.config["MIGRATOR"]` is a table of tables as `migrator.toml` has them, the path of such a file,
or `Settings`; without it `Settings.load` finds them. Where they name no issuer, or one with the
preset `flask-jwt-extended` and no keys, the app's own configuration says the rest. Nothing
connects and no thread starts before the first request, so an app may be made, forked and thrown
away.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from flask import Flask, Response, current_app

from migrator import wiring
from migrator.core.errors import BadSettings, Problem, Refused, Unavailable
from migrator.redacting import logger
from migrator.settings import Settings, sources
from migrator.settings.problems import Findings
from shims.answers import Answer
from shims.flask.library import jwt_extended_of
from shims.flask.state import NAME, State, here, state_of
from shims.flask.telling import tells
from shims.flask.wording import Worded, asking, worded
from shims.routes import RouteTable
from shims.wsgi import DualAcceptMiddleware

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

    from migrator.core.app import Sessions

_log = logger("migrator.flask")
_SETTINGS = "MIGRATOR"
_PRESET = "flask-jwt-extended"


class Migrator:
    """The extension. One may serve several apps.

    Args:
        app: initialised at once where given; an app factory calls `init_app`.
        resolve_subject: `(subject, realm) -> SubjectState | None`, called in the app's context;
            see `DualAcceptMiddleware`.

    Raises:
        BadSettings: the app cannot be run with its settings.
    """

    def __init__(
        self, app: Flask | None = None, *, resolve_subject: wiring.Resolver | None = None
    ) -> None:
        self._resolve = resolve_subject
        if app is not None:
            self.init_app(app)

    def init_app(self, app: Flask) -> None:
        """Put the shim around `app`; a second call for the same app changes nothing.

        Call it after `JWTManager.init_app`, where its configuration is to be read, and after
        other middleware that must see what the app sees.

        Raises:
            BadSettings: the app cannot be run with its settings.
        """
        if state_of(app) is not None:
            return
        settings = settings_of(app)
        _check_cookie(app, settings)
        resolve = self._resolve
        answers = Worded.by(app, settings)
        shim = _Shim(
            app,
            settings,
            answers,
            resolve=None if resolve is None else _in_context(app, resolve),
        )
        app.extensions[NAME] = State(
            settings=settings,
            routes=RouteTable.of(settings.routes),
            answers=answers,
            sessions=wiring.sessions(settings),
        )
        app.wsgi_app = shim  # type: ignore[method-assign] # Flask's way to put middleware around
        app.cli.command("migrator-issuer")(tells(app))
        _handle(app, Unavailable, _unavailable)
        _handle(app, Refused, _refused)

    @property
    def sessions(self) -> Sessions:
        """What login, refresh and logout routes of the app at hand call."""
        return here().sessions


class _Shim(DualAcceptMiddleware):
    """The WSGI shim, with refusals worded by the app, and its blocklist polled."""

    def __init__(
        self, app: Flask, settings: Settings, answers: Worded, *, resolve: wiring.Resolver | None
    ) -> None:
        super().__init__(app.wsgi_app, settings, resolve_subject=resolve, answers=answers)
        self._flask, self._settings = app, settings
        self._beginning = threading.Lock()
        self._has_begun = False

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Answer a request, or hand it to the app with its principal."""
        if not self._has_begun:
            self._begin()
        before = asking.set(environ)
        try:
            return super().__call__(environ, start_response)
        finally:
            asking.reset(before)

    def _begin(self) -> None:
        """Poll the app's blocklist callback, which is set by now; its ledger needs a process."""
        library = jwt_extended_of(self._flask)
        with self._beginning:
            if library is not None and not self._has_begun:
                asked = library.blocklist(self._flask)
                issuer = library.issuer_in(self._settings)
                if asked is not None and issuer is not None:
                    wiring.blocklist(asked, issuer=issuer, settings=self._settings)
            self._has_begun = True


def settings_of(app: Flask) -> Settings:
    """The settings that `app.config` names, with the issuer that the app's own library is.

    Raises:
        BadSettings: with every problem found.
    """
    given = app.config.get(_SETTINGS)
    library = jwt_extended_of(app)
    if library is not None:
        for what in library.left_out(app):
            _log.warning("flask.unseen", extra={"event": "flask.unseen", "what": what})
    if isinstance(given, Settings):
        return given
    if isinstance(given, Mapping):
        tables = dict(given)
        if library is not None:
            tables["issuers"] = _described(tables.get("issuers"), app)
            if isinstance(tables.get("bridge"), Mapping):
                tables["bridge"] = library.bridge(app) | dict(tables["bridge"])
        return Settings.build(tables, directory=app.root_path)
    if given is not None and not isinstance(given, str | Path):
        why = "it is a table of tables, the path of a file, or Settings"
        do = "write what migrator.toml would say, or its path"
        raise BadSettings((Problem("flask.bad-config", f'app.config["{_SETTINGS}"]', why, do),))
    return Settings.load(given, beneath={} if library is None else _beneath(app, given))


def _beneath(app: Flask, path: str | Path | None) -> dict[str, object]:
    """What the app's library adds to a settings file: its issuer, unless the file names one."""
    library = cast("Any", jwt_extended_of(app))
    findings = Findings("")  # Settings.load tells them
    found = sources.locate(path, os.environ)
    tables = {} if found is None else sources.read(found, findings)
    sources.overlay(tables, os.environ, findings)
    beneath: dict[str, object] = {}
    if not tables.get("issuers"):
        beneath["issuers"] = [library.issuer(app)]
    if "bridge" in tables:
        beneath["bridge"] = library.bridge(app)
    return beneath


def _described(listed: object, app: Flask) -> object:
    """The issuers given, those of the app's library filled in; it alone where none is given."""
    library = cast("Any", jwt_extended_of(app))
    if not listed:
        return [library.issuer(app)]
    if not isinstance(listed, list | tuple):
        return listed  # told as a problem of the settings
    return [
        {**library.issuer(app), **each}
        if isinstance(each, Mapping) and each.get("preset") == _PRESET and not each.get("keys")
        else each
        for each in listed
    ]


def _check_cookie(app: Flask, settings: Settings) -> None:
    name = settings.cookie.effective_name
    if name == app.config["SESSION_COOKIE_NAME"]:
        what = f"cookie.name makes {name!r}, which is Flask's SESSION_COOKIE_NAME too"
        why = "each would overwrite the other, and both their sessions"
        do = "give cookie.name another name, for example __Host-sid"
        raise BadSettings((Problem("flask.cookie-name", what, why, do),))


def _in_context(app: Flask, resolve: wiring.Resolver) -> wiring.Resolver:
    def resolved(subject: str, realm: str) -> Any:
        with app.app_context():
            return resolve(subject, realm)

    return resolved


def _handle(app: Flask, kind: type[Exception], handler: Any) -> None:
    """Handle what `sessions` raises, unless the app does; what it registers later wins anyway."""
    if kind not in app.error_handler_spec[None][None]:
        app.register_error_handler(kind, handler)


def _unavailable(_: Unavailable) -> Response:
    return _response(here().answers.unavailable())


def _refused(error: Refused) -> Response:
    app = cast("Flask", cast("Any", current_app)._get_current_object())  # noqa: SLF001 - its only name
    if jwt_extended_of(app) is not None:
        return worded(app, error.reason)
    return _response(here().answers.refuse(error.reason))


def _response(answer: Answer) -> Response:
    named = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in answer.headers]
    return Response(answer.body, answer.status, named)
