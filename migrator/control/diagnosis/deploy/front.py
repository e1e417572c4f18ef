"""Whether what stands before the app lets credentials through, and keeps no answer."""

from __future__ import annotations

import http.client
import ssl
from typing import TYPE_CHECKING, Final, TypeAlias
from urllib.parse import urlsplit

from migrator.control.diagnosis.finding import Finding

if TYPE_CHECKING:
    from collections.abc import Iterator

    from migrator.settings import Settings

_TIMEOUT_S: Final = 3.0
_ROOM_BYTES: Final = 4096
_TOO_LARGE: Final = frozenset({400, 413, 414, 431, 494, 502})
_Answer: TypeAlias = tuple[int, http.client.HTTPMessage]


def looks(url: str, settings: Settings) -> list[Finding]:
    """What the address answers to tokens that are nobody's.

    Args:
        url: of a route that wants a login, as clients reach it.
    """
    short = f"{settings.tokens.session_prefix}_{'0' * 49}"
    try:
        first, second = _asked(url, short), _asked(url, short)
    except (OSError, http.client.HTTPException, ValueError) as error:
        told = f"{url} cannot be reached from here ({type(error).__name__})"
        return [Finding("front.unreachable", "warn", told, "ask an address that clients use")]
    found = [*_refused(url, first, settings), *_kept(url, second), *_plain(url)]
    if first[0] == settings.http.refusal.status:
        found += _large(url, settings)
    told = f"{url} refuses a token of nobody, and keeps no answer"
    return found or [Finding("front", "ok", told)]


def _asked(url: str, token: str) -> _Answer:
    parts = urlsplit(url)
    if parts.scheme == "https":
        connection: http.client.HTTPConnection = http.client.HTTPSConnection(
            parts.hostname or "",
            parts.port,
            timeout=_TIMEOUT_S,
            context=ssl.create_default_context(),
        )
    else:
        connection = http.client.HTTPConnection(
            parts.hostname or "", parts.port, timeout=_TIMEOUT_S
        )
    try:
        connection.request("GET", parts.path or "/", headers={"Authorization": f"Bearer {token}"})
        answer = connection.getresponse()
        answer.read(_ROOM_BYTES)
    finally:
        connection.close()
    return answer.status, answer.msg


def _refused(url: str, answer: _Answer, settings: Settings) -> Iterator[Finding]:
    status, headers = answer
    refusal = settings.http.refusal
    challenge = f'{refusal.scheme} error="invalid_token"'
    if status != refusal.status or not (headers["WWW-Authenticate"] or "").startswith(challenge):
        told = (
            f"{url} answered {status} to a token of nobody, and not in the shim's words: the "
            "header does not reach it, or the shim is not there"
        )
        do = "let the proxy hand Authorization on, or ask a route that is not public"
        yield Finding("front.not-ours", "warn", told, do)


def _kept(url: str, answer: _Answer) -> Iterator[Finding]:
    headers = answer[1]
    marks = [headers[name] or "" for name in ("X-Cache", "X-Cache-Status", "CF-Cache-Status")]
    if headers["Age"] or any("hit" in mark.lower() for mark in marks):
        told = f"{url} was answered by a cache: one user's answer may be another's"
        do = "let it obey Cache-Control: no-store, and Vary: Authorization, Cookie"
        yield Finding("front.cached", "fail", told, do)


def _plain(url: str) -> Iterator[Finding]:
    parts = urlsplit(url)
    if parts.scheme != "https" and parts.hostname not in {"localhost", "127.0.0.1", "::1"}:
        told = f"{url} is plain http: whoever is on the way reads the tokens"
        yield Finding("front.plain-http", "warn", told, "serve clients by https alone")


def _large(url: str, settings: Settings) -> Iterator[Finding]:
    """The longest credential the settings allow has to come through as far as the shim."""
    room = settings.http.max_credential_bytes
    token = f"{settings.tokens.session_prefix}_{'0' * (room - 60)}"
    try:
        status, headers = _asked(url, token)
    except (OSError, http.client.HTTPException):
        status, headers = 400, http.client.HTTPMessage()
    if status in _TOO_LARGE and headers["WWW-Authenticate"] is None:
        told = f"{url} takes no credential of {room} bytes: long JWTs never reach the app"
        do = "raise the proxy's header buffers (playbook 55-behind-a-proxy)"
        yield Finding("front.small-headers", "info", told, do)
