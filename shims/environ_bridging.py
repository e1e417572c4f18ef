"""The bridge's crossing, for whatever is read from an environ: WSGI servers and Django.

An environ is turned into what shims/bridging.py reads, and what it answers is written back. Knows
no framework; a blocking flow completes at once, so `run` is all it takes.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from io import BytesIO
from typing import Final, Self

from migrator.core.errors import Refused
from migrator.core.presented import Outcome, Presented, Route
from migrator.core.verdicts import Reason
from shims.bridging import REQUEST_ROOM_BYTES, Asking, Bridge, Inbound
from shims.environ import Environ, key_of, lines_of, raw

# Besides the headers that carry credentials: what a crossing asks of a request or changes in it.
_ASKED: Final = (
    *(b"cookie", b"user-agent", b"accept-encoding", b"content-encoding", b"transfer-encoding"),
    *(b"host", b"origin", b"sec-fetch-site", b"range", b"if-range"),
)
_CONTENT_TYPE: Final = ("CONTENT_TYPE", b"content-type")
_LENGTH: Final = b"content-length"
# Where a token may come in a header that nobody configured.
_READ_WHOLE: Final[frozenset[Route | None]] = frozenset({"refresh", "logout"})


@dataclass(frozen=True, slots=True)
class EnvironBridge:
    """A bridge for environs; built once."""

    bridge: Bridge
    keys: tuple[tuple[str, bytes], ...]
    names: frozenset[bytes]

    @classmethod
    def of(cls, bridge: Bridge) -> Self:
        """The environs' side of `bridge`."""
        names = dict.fromkeys((*bridge.places.headers, *_ASKED, *bridge.headers))
        keys = (_CONTENT_TYPE, *((key_of(name), name) for name in names))
        return cls(bridge, keys, frozenset({_LENGTH, *(name for _, name in keys)}))

    def asking(
        self,
        environ: Environ,
        *,
        presented: Presented | None,
        outcome: Outcome | None,
        path: str,
        route: Route | None,
        body: bytes = b"",
    ) -> Asking:
        """What a crossing asks of a request."""
        return Asking(
            method=environ["REQUEST_METHOD"],
            path=path,
            headers=lines_of(environ, self._asked(environ, route)),
            query=raw(environ.get("QUERY_STRING", "")),
            route=route,
            body=body,
            presented=presented,
            outcome=outcome,
            ip=environ.get("REMOTE_ADDR"),
        )

    def _asked(self, environ: Environ, route: Route | None) -> Iterable[tuple[str, bytes]]:
        if route not in _READ_WHOLE:
            return self.keys
        sent = (key for key in environ if key.startswith("HTTP_"))
        return dict.fromkeys((*self.keys, *((key, name_of(key)) for key in sent)))

    def write(self, environ: Environ, inbound: Inbound) -> None:
        """Make `environ` what the app is to get."""
        lines = dict(inbound.headers)
        for name in lines.keys() - self.names:
            environ[key_of(name)] = lines[name].decode("latin-1")
        for key, name in self.keys:
            if name in lines:
                environ[key] = lines[name].decode("latin-1")
            else:
                environ.pop(key, None)
        environ["QUERY_STRING"] = inbound.query.decode("latin-1")
        if inbound.body is not None:
            give(environ, inbound.body)


def take(environ: Environ) -> bytes:
    """The request's body, put back for the app.

    Raises:
        Refused: it is longer than there is room for.
    """
    stream, length = environ["wsgi.input"], environ.get("CONTENT_LENGTH") or ""
    if length.isascii() and length.isdigit():
        size = int(length)
    elif environ.get("wsgi.input_terminated"):
        size = REQUEST_ROOM_BYTES + 1
    else:
        size = 0  # PEP 3333: what does not say its length has none
    if size > REQUEST_ROOM_BYTES and length:
        raise Refused(Reason.MALFORMED_REQUEST)
    body: bytes = stream.read(size) if size else b""
    if len(body) > REQUEST_ROOM_BYTES:
        raise Refused(Reason.MALFORMED_REQUEST)
    give(environ, body)
    return body


def name_of(key: str) -> bytes:
    """The header that an environ has under `key`."""
    return key.removeprefix("HTTP_").lower().replace("_", "-").encode("latin-1", "replace")


def give(environ: Environ, body: bytes) -> None:
    """Make `body` the request's."""
    environ["wsgi.input"] = BytesIO(body)
    environ["CONTENT_LENGTH"] = str(len(body))
