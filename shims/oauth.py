"""`POST /oauth2/introspect` (RFC 7662) and `POST /oauth2/revoke` (RFC 7009).

For services that verified JWTs by themselves. They authenticate as one of `serve.clients`; what
they may ask about is any token, so these are services of one's own house.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Any, Final
from urllib.parse import parse_qsl, unquote_plus

from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from migrator import wiring
from migrator.core.errors import Unavailable
from migrator.core.introspecting import Description, introspect
from migrator.settings import Settings
from shims.answers import Answers

_NO_STORE: Final = {"Cache-Control": "no-store", "Pragma": "no-cache"}
_CHALLENGE: Final = 'Basic realm="oauth2", charset="UTF-8"'
_FORM: Final = "application/x-www-form-urlencoded"
_FORM_BYTES: Final = 4096  # beside the token, whose every byte may be percent-encoded
_MOST_FIELDS: Final = 16

_Verb = Callable[[bytes], Awaitable[Response]]


def oauth_endpoints(
    settings: Settings | None = None, *, resolve_subject: wiring.Resolver | None = None
) -> Starlette:
    """An app that answers `POST /oauth2/introspect` and `POST /oauth2/revoke`.

    Args:
        settings: those of `migrator.toml` and `MIGRATOR_*` unless given.
        resolve_subject: see `shims.asgi.DualAcceptMiddleware`.
    """
    settings = wiring.settings_of(settings)
    desk = _Desk(settings, resolve_subject)
    return Starlette(
        routes=[
            Route("/oauth2/introspect", desk.asked(desk.introspect), methods=["POST"]),
            Route("/oauth2/revoke", desk.asked(desk.revoke), methods=["POST"]),
        ]
    )


class _Desk:
    def __init__(self, settings: Settings, resolve: wiring.Resolver | None) -> None:
        self._gate = wiring.async_gate(settings, resolve_subject=resolve)
        self._sessions = wiring.async_sessions(settings)
        self._unavailable = Answers.of(settings).unavailable()
        self._room = 3 * settings.http.max_credential_bytes + _FORM_BYTES
        self._clients = {
            client.id.encode(): _digest(client.secret.get_secret_value())
            for client in settings.serve.clients
        }

    def asked(self, verb: _Verb) -> Callable[[Request], Awaitable[Response]]:
        """`verb` for a client that is one, on the token that it names."""

        async def answer(request: Request) -> Response:
            self._gate.wake()
            if not self._is_client(request):
                headers = {"WWW-Authenticate": _CHALLENGE, **_NO_STORE}
                return JSONResponse({"error": "invalid_client"}, 401, headers=headers)
            token = await self._token(request)
            if token is None:
                return JSONResponse({"error": "invalid_request"}, 400, headers=_NO_STORE)
            try:
                return await verb(token)
            except Unavailable:
                said = self._unavailable
                headers = {name.decode(): value.decode() for name, value in said.headers}
                return Response(said.body, said.status, headers)

        return answer

    async def introspect(self, token: bytes) -> Response:
        """RFC 7662 section 2.2; whatever is not active is nothing but that."""
        told = await introspect(self._gate, token)
        said = {"active": False} if told is None else _told(told)
        return JSONResponse(said, headers=_NO_STORE)

    async def revoke(self, token: bytes) -> Response:
        """RFC 7009 section 2.2: a token that is over or unknown is as well as revoked."""
        # An id of a session is no secret and no token.
        if self._gate.is_ours(token) or b"." in token:
            await self._sessions.end(token)
        return Response(status_code=200, headers=_NO_STORE)

    async def _token(self, request: Request) -> bytes | None:
        """The one `token` of the form; None where there is none, or more than one."""
        if request.headers.get("content-type", "").partition(";")[0].strip().lower() != _FORM:
            return None
        body = b""
        try:
            async for chunk in request.stream():
                body += chunk
                if len(body) > self._room:
                    return None
        except ClientDisconnect:
            return None
        try:
            fields = parse_qsl(
                body.decode("latin-1"), encoding="latin-1", max_num_fields=_MOST_FIELDS
            )
        except ValueError:
            return None
        tokens = [value for name, value in fields if name == "token"]
        return tokens[0].encode("latin-1") if len(tokens) == 1 and tokens[0] else None

    # Who asks.

    def _is_client(self, request: Request) -> bool:
        lines = request.headers.getlist("authorization")
        if len(lines) != 1:
            return False
        scheme, _, value = lines[0].strip().partition(" ")
        value = value.strip()
        if scheme.lower() == "bearer":
            given = _digest(value.encode("latin-1"))
            return any(hmac.compare_digest(given, known) for known in self._clients.values())
        return scheme.lower() == "basic" and any(self._knows(*pair) for pair in _pairs(value))

    def _knows(self, name: bytes, secret: bytes) -> bool:
        known = self._clients.get(name)
        given = _digest(secret)
        # A name that nobody has takes as long as one with another secret.
        return hmac.compare_digest(given, known or given[::-1]) and known is not None


def _pairs(value: str) -> list[tuple[bytes, bytes]]:
    """Id and secret as sent, and as RFC 6749 section 2.3.1 encodes them; half of all do not."""
    try:
        decoded = base64.b64decode(value, validate=True).decode("utf-8")
    except (binascii.Error, ValueError):
        return []
    name, found, secret = decoded.partition(":")
    if not found:
        return []
    spellings = {(name, secret), (unquote_plus(name), unquote_plus(secret))}
    return [(name.encode(), secret.encode()) for name, secret in spellings]


def _digest(secret: bytes) -> bytes:
    return hashlib.sha256(secret).digest()


def _told(told: Description) -> dict[str, Any]:
    who = told.principal
    said = {
        "active": True,
        "sub": who.subject,
        "realm": who.realm,
        "scope": " ".join(sorted(scope for scope in who.scopes if " " not in scope)),
        "client_id": who.client,
        "token_type": "Bearer",
        "iat": _seconds(told.issued_at),
        "exp": _seconds(told.expires_at),
        "auth_time": _seconds(told.auth_time),
        "amr": list(told.amr) or None,
    }
    return {name: value for name, value in said.items() if value is not None}


def _seconds(at: datetime | None) -> int | None:
    return None if at is None else int(at.timestamp())
