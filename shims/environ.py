"""What a WSGI-like environ presents, and how it is changed before an app reads it.

WSGI servers, and Django of either colour, have already joined repeated headers by commas and
merged their spellings, so what arrives is rebuilt into lines and read by the same rules as
everywhere else. Knows no framework and no gate.
"""

from __future__ import annotations

from collections.abc import Iterable, MutableMapping
from dataclasses import dataclass
from typing import Any, Final, Self, TypeAlias

from migrator.core.presented import Outcome, Presented
from migrator.core.verdicts import Passed
from shims.answers import Asked, navigates
from shims.bodies import may_present
from shims.credentials import (
    IDENTITY_HEADERS,
    Places,
    clear,
    clear_query,
    find,
    value_of,
)
from shims.csrf import SAFE_METHODS
from shims.schemes import Schemes, usual

Environ: TypeAlias = MutableMapping[str, Any]
Line: TypeAlias = tuple[bytes, bytes]


def key_of(name: bytes) -> str:
    """The key under which an environ has the header `name`."""
    return "HTTP_" + name.decode("latin-1").upper().replace("-", "_")


# What clients can put there; REMOTE_USER itself is the server's to set.
IDENTITY_KEYS: Final = frozenset(map(key_of, IDENTITY_HEADERS))
_AUTHORIZATION: Final = key_of(b"authorization")
_ALWAYS: Final = (b"cookie", b"user-agent")
# Asked only of requests that carry a cookie and may change something.
_BROWSER: Final = (b"host", b"origin", b"sec-fetch-site", b"sec-fetch-mode", b"accept")


@dataclass(frozen=True, slots=True)
class EnvironReader:
    """Reads and clears environs as `places` say; built once."""

    places: Places
    keys: tuple[tuple[str, bytes], ...]
    browser_keys: tuple[tuple[str, bytes], ...]
    other_keys: frozenset[str]
    schemes: Schemes

    @classmethod
    def of(cls, places: Places) -> Self:
        """The reader of an app whose credentials are in `places`."""
        others = {key_of(name) for name in (*places.headers, b"cookie")}
        return cls(
            places=places,
            keys=tuple((key_of(name), name) for name in (*places.headers, *_ALWAYS)),
            browser_keys=tuple((key_of(name), name) for name in _BROWSER),
            other_keys=frozenset(others - {_AUTHORIZATION}),
            schemes=places.headers[b"authorization"],
        )

    def lone(self, environ: Environ) -> tuple[bytes, frozenset[str]] | None:
        """`credentials.lone`, for what a server made of the request."""
        line = environ.get(_AUTHORIZATION)
        if line is None or not self.other_keys.isdisjoint(environ):
            return None
        if self.places.queries and environ.get("QUERY_STRING"):
            return None
        return usual(raw(line), self.schemes)

    def reads_body(self, environ: Environ) -> bool:
        """See `bodies.may_present`."""
        kind = raw(environ.get("CONTENT_TYPE", ""))
        method = environ["REQUEST_METHOD"]
        return may_present(self.places.members, method=method, content_type=kind)

    def find(
        self, environ: Environ, *, path: str, mount: str, body: bytes = b""
    ) -> Presented | None:
        """What the request presents, None if nothing; the rest as `credentials.find`."""
        places = self.places
        lines = lines_of(environ, self.keys)
        query = environ.get("QUERY_STRING", "") if places.queries else ""
        if not lines and not query and not body:
            return None
        method = environ["REQUEST_METHOD"]
        if "HTTP_COOKIE" in environ and method not in SAFE_METHODS:
            lines += lines_of(environ, self.browser_keys)
        presented, _ = find(
            places,
            lines,
            method=method,
            path=path,
            mount=mount,
            query=raw(query),
            body=body,
            ip=environ.get("REMOTE_ADDR"),
        )
        return presented

    def asked(self, environ: Environ, presented: Presented) -> Asked:
        """What of the request bears on its answer."""
        lines = lines_of(environ, self.browser_keys)
        method = environ["REQUEST_METHOD"]
        return Asked(
            method=method,
            host=value_of(lines, b"host"),
            navigates=navigates(
                method=method,
                sec_fetch_mode=value_of(lines, b"sec-fetch-mode"),
                accept=value_of(lines, b"accept"),
            ),
            route=presented.route,
        )

    def hide(self, environ: Environ, outcome: Outcome) -> bool:
        """Take dead credentials of ours out of what the app sees; whether anything was."""
        places = self.places
        cookies, strips, hides = hidden(places, outcome)
        if not cookies and not hides:
            return False
        kept = dict(clear(places, lines_of(environ, self.keys), cookies=cookies, explicit=strips))
        for key, name in self.keys:
            if name in kept:
                environ[key] = kept[name].decode("latin-1")
            else:
                environ.pop(key, None)
        if hides and places.queries:
            query = clear_query(places, raw(environ.get("QUERY_STRING", "")))
            environ["QUERY_STRING"] = query.decode("latin-1")
        return True


def hidden(places: Places, outcome: Outcome) -> tuple[frozenset[bytes], bool, bool]:
    """The cookies that the app must not see, and whether neither a header nor a query may be."""
    strips = isinstance(outcome.verdict, Passed) and outcome.verdict.strip
    hides = strips or outcome.dead_legacy
    cookies = frozenset(places.cookies) if hides else frozenset()
    if outcome.dead_cookie:
        cookies |= {places.session_cookie}
    return cookies, strips, hides


def lines_of(environ: Environ, keys: Iterable[tuple[str, bytes]]) -> list[Line]:
    """The header lines that an environ has under `keys`."""
    return [(name, raw(environ[key])) for key, name in keys if key in environ]


def native(headers: Iterable[Line]) -> list[tuple[str, str]]:
    """Lines as `start_response` takes them."""
    return [(name.decode("latin-1"), value.decode("latin-1")) for name, value in headers]


def raw(text: str) -> bytes:
    """The bytes of an environ's string (PEP 3333: decoded as latin-1).

    What is not becomes "?", which no credential contains.
    """
    return text.encode("latin-1", "replace")


def text(path: str) -> str:
    """A path of an environ as the settings write it."""
    if path.isascii():
        return path
    return raw(path).decode("utf-8", "replace")
