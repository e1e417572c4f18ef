"""What the app answered where it decides: told to the gate, which holds its verdict to it.

Heard at the app itself, before anything of ours touches its answer. What is no answer to that one
credential is left out here: a route that the settings name (a wrong password is a 401 at a login),
a preflight, a request whose other credentials the app may have gone by. Knows no framework.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Protocol
from urllib.parse import urlsplit

from migrator.core.comparing import UNAUTHORIZED, Shadow
from migrator.core.presented import Outcome, Presented
from migrator.core.verdicts import Refused
from shims.credentials import Places, route_of
from shims.messages import App, Message, Receive, Scope, Send

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})


class Compares(Protocol):
    """What is needed of a gate (`migrator.core.gate`)."""

    def compared(self, path: str, shadow: Shadow, answered: int) -> None:
        """Take in how the app answered what it decided."""


@dataclass(frozen=True, slots=True)
class Pairing:
    """One request whose answer is compared."""

    gate: Compares
    places: Places
    shadow: Shadow
    path: str

    def take(self, code: int, location: bytes | str | None) -> None:
        """Take in the app's answer. Who is sent to the login was turned away."""
        if code in _REDIRECTS and self._leads_to_login(location or ""):
            code = UNAUTHORIZED
        self.gate.compared(self.path, self.shadow, code)

    def _leads_to_login(self, location: bytes | str) -> bool:
        text = location.decode("latin-1") if isinstance(location, bytes) else location
        try:
            path = urlsplit(text).path
        except ValueError:
            return False
        return self.places.routes.kind(path) == "login"

    def asgi(self, app: App) -> App:
        """The app, heard."""

        async def heard(scope: Scope, receive: Receive, send: Send) -> None:
            async def hearing(message: Message) -> None:
                if message["type"] == "http.response.start":
                    lines = message.get("headers", ())
                    found = (bytes(value) for name, value in lines if _is_location(bytes(name)))
                    self.take(message["status"], next(found, None))
                await send(message)

            await app(scope, receive, hearing)

        return heard

    def wsgi(self, app: WSGIApplication) -> WSGIApplication:
        """The same for WSGI."""

        def heard(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
            def hearing(
                status: str, headers: list[tuple[str, str]], exc_info: Any = None, /
            ) -> Callable[[bytes], object]:
                if exc_info is None:  # servers and tests may take two arguments only
                    found = (value for name, value in headers if name.lower() == "location")
                    self.take(int(status[:3]), next(found, None))
                    return start_response(status, headers)
                return start_response(status, headers, exc_info)

            return app(environ, hearing)

        return heard


def pairing_of_hit(
    gate: Compares, places: Places, shadow: Shadow, *, method: str, path: str, mount: str
) -> Pairing | None:
    """The pairing of a request that brings nothing but one header; None: it proves nothing."""
    if method == "OPTIONS" or route_of(places, path, mount) is not None:
        return None
    return Pairing(gate, places, shadow, path)


def pairing_of(
    gate: Compares, places: Places, outcome: Outcome, presented: Presented, *, method: str
) -> Pairing | None:
    """The same for any request that goes to the app."""
    verdict = outcome.verdict
    if isinstance(verdict, Refused) or verdict.shadow is None or outcome.dead_legacy:
        return None
    if method == "OPTIONS" or presented.route is not None or not _is_alone(presented):
        return None
    return Pairing(gate, places, verdict.shadow, presented.path)


def _is_alone(presented: Presented) -> bool:
    """Whether the app can only have gone by the credential that we judged."""
    if presented.foreign_header:
        return False
    first = (presented.header, presented.legacy)
    several = (*first, *presented.legacy_copies, *presented.others)
    return len({each.value for each in several if each is not None}) == 1


def _is_location(name: bytes) -> bool:
    return name.lower() == b"location"
