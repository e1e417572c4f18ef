"""What every crossing of one app has in common, and what crosses: records, built from settings.

Which transports, pointers and cookies the app uses is asked here once. Nothing is decided here.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from migrator.core.bridging import Bridging
from migrator.core.presented import Outcome, Presented, Route
from migrator.settings import Issuer, Settings
from shims.cookies import CookieReader
from shims.credentials import Places, RawHeaders
from shims.rewriting import Transport
from shims.routes import RouteTable


@dataclass(frozen=True, slots=True, kw_only=True)
class Asking:
    """A request as it reached the shim, and what the gate said of it.

    Args:
        presented, outcome: None where it brings no credential.
        headers, query: as the app would get them.
        body: the request's, where a credential was looked for in it already.
    """

    method: str
    path: str
    headers: RawHeaders = field(repr=False)
    query: bytes = field(repr=False)
    route: Route | None
    body: bytes = field(default=b"", repr=False)
    presented: Presented | None = None
    outcome: Outcome | None = None
    ip: str | None = None


@dataclass(frozen=True, slots=True)
class Inbound:
    """What the app gets; a body of None is the client's own."""

    headers: list[tuple[bytes, bytes]] = field(repr=False)
    query: bytes = field(repr=False)
    body: bytes | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class Answered:
    """What the client gets; a body of None passes as the app sends it, through `passing`."""

    headers: list[tuple[bytes, bytes]] = field(repr=False)
    body: bytes | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Bridge:
    """What every crossing of an app has in common; built once from the settings."""

    flow: Bridging
    places: Places
    transports: tuple[Transport, ...]
    access: tuple[str, ...]
    refresh: tuple[str, ...]
    refresh_cookies: frozenset[bytes]
    cookies: CookieReader
    mirrored: frozenset[bytes]
    echoes: RouteTable
    session_token: bytes

    @property
    def headers(self) -> tuple[bytes, ...]:
        """The headers in which the app is sent its JWTs."""
        return tuple(name for kind, name, _ in self.transports if kind == "header")

    @classmethod
    def of(cls, settings: Settings, places: Places, flow: Bridging) -> Bridge:
        """The bridge that the settings describe; they must have one."""
        section = settings.bridge
        assert section is not None  # wiring makes no flow without one
        issuer = next(each for each in settings.issuers if each.id == section.issuer)
        mirrored = {
            name.encode()
            for mirrors in (section.mirrors, section.refresh_mirrors)
            for name in mirrors.values()
        }
        refresh_cookies = frozenset(name.encode() for name in section.refresh_cookies)
        return cls(
            flow=flow,
            places=places,
            transports=_transports(issuer),
            access=section.access,
            refresh=section.refresh,
            refresh_cookies=refresh_cookies,
            cookies=CookieReader.of([*mirrored, *refresh_cookies]),
            mirrored=frozenset(mirrored),
            echoes=RouteTable.listed(section.echoes),
            session_token=settings.tokens.session_prefix.encode() + b"_",
        )


def _transports(issuer: Issuer) -> tuple[Transport, ...]:
    """Where the app looks; a body is written to only where the client's own token was."""
    found: list[Transport] = []
    for place in issuer.transport:
        if place.header is not None:
            found.append(("header", place.header.lower().encode(), (place.scheme or "").encode()))
        elif place.cookie is not None:
            found.append(("cookie", place.cookie.encode(), b""))
        elif place.query is not None:
            found.append(("query", place.query.encode(), b""))
    return tuple(found) or (("header", b"authorization", b"Bearer"),)
