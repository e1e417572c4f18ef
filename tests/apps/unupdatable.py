"""Clients that nobody can update, and the apps they were built for.

A client keeps what the login gave it, refreshes on 401, decodes nothing, and would show its user
the login screen only when a refresh fails. Between the apps only the facts below differ.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import httpx
import jwt
from starlette.testclient import TestClient

from migrator import wiring
from migrator.control import schema
from shims.asgi import DualAcceptMiddleware as Asgi
from shims.wsgi import DualAcceptMiddleware as Wsgi
from tests.apps.flask_jwt_extended.deployment import COOKIES, Notebook
from tests.bridge.app import LegacyApp
from tests.rig import ISSUER, SECRET, Rig

SITE = "https://app.example"
_OVER = "UPDATE migrator.sessions SET expires_at = now()"


@dataclass(frozen=True)
class Facts:
    """What a client was built to know of its app.

    Args:
        kind: which app it is.
        login: the route, and what is sent there.
        refresh_in: where its refresh token is sent.
        named: what the app calls the two tokens, in its answers or as cookies.
    """

    kind: str
    login: tuple[str, Mapping[str, str]]
    refresh_in: Literal["header", "body", "cookie"]
    named: tuple[str, str] = ("access", "refresh")


_NOTEBOOK = ("/login", {"name": "ann", "password": "ann's password"})
_PLAIN = ("/login", {"user": "ann"})
NOTEBOOK = Facts("flask", _NOTEBOOK, "header", ("access_token", "refresh_token"))
NOTEBOOK_IN_COOKIES = Facts(
    "flask in cookies", _NOTEBOOK, "cookie", ("access_token_cookie", "refresh_token_cookie")
)
APPS: tuple[Facts, ...] = (
    NOTEBOOK,
    NOTEBOOK_IN_COOKIES,
    Facts("asgi", _PLAIN, "body"),
    Facts("wsgi", _PLAIN, "body"),
)


class Site(httpx.BaseTransport, ABC):
    """An app with its data and its secret, and whichever process of it runs at the moment."""

    secret: str
    _served: httpx.BaseTransport

    def __init__(self, rig: Rig) -> None:
        self.rig = rig

    @abstractmethod
    def serve(self, phase: str | None) -> httpx.BaseTransport:
        """A new process of the app: over the bridge, or bare without a phase."""

    def deploy(self, phase: str | None) -> None:
        """Start the app anew, in a phase or without us."""
        wiring.stop()
        if phase is not None:
            self.rig.move(phase)
        if phase == "retired":
            self.rig.execute("UPDATE migrator.rollout SET legacy_removed_at = now()")
            schema.contract(self.rig.url)
        self._served = self.serve(phase)

    def night(self) -> None:
        """Let the sessions be over that end with an access token; a new process knows of it."""
        self.rig.execute(_OVER + " WHERE origin = 'swap'")

    def horizon(self) -> None:
        """Let every session be over; a new process knows of it."""
        self.rig.execute(_OVER)

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Whatever runs answers."""
        return self._served.handle_request(request)


class InFlask(Site):
    """The notebook, its tokens where `config` says."""

    def __init__(self, rig: Rig, folder: Path, config: Mapping[str, Any]) -> None:
        super().__init__(rig)
        self._notebook = Notebook(folder, rig, config=dict(config))
        self.secret = self._notebook.secret

    def serve(self, phase: str | None) -> httpx.BaseTransport:
        return httpx.WSGITransport(app=self._notebook.app(phase, bridge={}))


class _OverAsgi(httpx.BaseTransport):
    """What httpx.WSGITransport is, for the other colour."""

    def __init__(self, app: Any) -> None:
        self._app = app

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """One request, on an event loop of its own."""
        client = TestClient(self._app, base_url=SITE)
        answer = client.request(
            request.method,
            request.url.path,
            content=request.read(),
            headers=dict(request.headers),
        )
        return httpx.Response(
            answer.status_code, headers=answer.headers.multi_items(), content=answer.content
        )


class InPython(Site):
    """An app without a framework; its refresh tokens are good once."""

    secret = SECRET

    def __init__(self, rig: Rig, kind: str) -> None:
        super().__init__(rig)
        self._app, self._kind = LegacyApp(), kind

    def serve(self, phase: str | None) -> httpx.BaseTransport:
        settings = self.rig.settings(issuers=[ISSUER], bridge={})
        app = self._app
        if self._kind == "asgi":
            return _OverAsgi(app.asgi if phase is None else Asgi(app.asgi, settings))
        return httpx.WSGITransport(app=app.wsgi if phase is None else Wsgi(app.wsgi, settings))


def installed(facts: Facts, rig: Rig, folder: Path) -> Site:
    """The app that `facts` are about."""
    match facts.kind:
        case "flask":
            return InFlask(rig, folder, {})
        case "flask in cookies":
            return InFlask(rig, folder, COOKIES)
        case _:
            return InPython(rig, facts.kind)


class Device:
    """The client. It counts how often its user saw the login screen."""

    def __init__(self, facts: Facts, site: Site) -> None:
        self._facts, self._site = facts, site
        self.client = httpx.Client(
            transport=site, base_url=SITE, headers={"Sec-Fetch-Site": "same-origin"}
        )
        self._held: dict[str, str] = {}
        self.logins = 0

    @property
    def held(self) -> dict[str, str]:
        """Its two tokens, under the names that the app gave them."""
        if self._facts.refresh_in == "cookie":
            cookies = self.client.cookies
            return {name: cookies[name] for name in self._facts.named if name in cookies}
        return self._held

    @property
    def holds_session(self) -> bool:
        """Whether its access token is ours; not every app sends another refresh token."""
        return self.held[self._facts.named[0]].startswith("sess_")

    def log_in(self) -> None:
        """Show the login screen."""
        path, form = self._facts.login
        answer = self.client.post(path, json=dict(form))
        assert answer.status_code == 200, answer.text
        self._keep(answer)
        self.logins += 1

    def open(self) -> None:
        """Ask for something; refresh if that is refused, log in if that is refused too."""
        answer = self.ask()
        if answer.status_code == 401:
            renewed = self.refresh()
            if renewed.status_code == 200:
                self._keep(renewed)
            else:
                self.log_in()
            answer = self.ask()
        assert answer.status_code == 200, answer.text
        assert "ann" in answer.text

    def refresh(self) -> httpx.Response:
        """The app's answer to the refresh token; it is not kept."""
        path, refresh, held = "/refresh", self._facts.named[1], self.held
        match self._facts.refresh_in:
            case "header":
                return self.client.post(path, headers=_bearer(held[refresh]))
            case "body":
                return self.client.post(path, json={refresh: held[refresh]})
            case "cookie":
                csrf = self.client.cookies["csrf_refresh_token"]
                return self.client.post(path, headers={"X-CSRF-TOKEN": csrf})

    def renew(self) -> None:
        """Refresh, and keep what came."""
        answer = self.refresh()
        assert answer.status_code == 200, answer.text
        self._keep(answer)

    def tab(self) -> Device:
        """Another tab, with what this one holds at the moment."""
        tab = Device(self._facts, self._site)
        tab._held = dict(self._held)
        tab.client.cookies.update(self.client.cookies)
        return tab

    def sleep(self) -> None:
        """Let its access token be over, as after a night; a session is not."""
        name = self._facts.named[0]
        if self.holds_session:
            return
        now = int(time.time())
        claims = jwt.decode(self.held[name], options={"verify_signature": False})
        claims |= {"iat": now - 7200, "nbf": now - 7200, "exp": now - 3600}
        older = jwt.encode(claims, self._site.secret, algorithm="HS256")
        if self._facts.refresh_in == "cookie":
            (cookie,) = (each for each in self.client.cookies.jar if each.name == name)
            cookie.value = older
        else:
            self._held[name] = older

    def ask(self) -> httpx.Response:
        """The app's answer to its access token."""
        headers = (
            {} if self._facts.refresh_in == "cookie" else _bearer(self._held[self._facts.named[0]])
        )
        return self.client.get("/me", headers=headers)

    def _keep(self, answer: httpx.Response) -> None:
        if self._facts.refresh_in != "cookie":
            said = answer.json()
            self._held |= {name: said[name] for name in self._facts.named if name in said}


def _bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}
