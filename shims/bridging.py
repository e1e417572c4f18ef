"""One request's way over the bridge and back, to an app that verifies JWTs; no framework, no I/O.

On the way in a session is shown as a JWT of the app's own shape, in the place where its clients
send theirs. On the way back every such JWT is the client's own token again, and what the app
issues becomes a session. A client's own legacy token goes through byte for byte.

Bodies are read on the configured routes, and where an echo has to be found, as long as they say
their length; a stream is never held, only searched as it passes. What to do with a credential is
core/bridging.py's to say; how bytes are put is in shims/rewriting.py.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from migrator.core.bridging import Bridging, Carried, From
from migrator.core.errors import Refused
from migrator.core.presented import Outcome, Presented, Route
from migrator.core.verdicts import Admitted, Reason
from migrator.settings import Settings
from shims.cookies import CookieReader
from shims.credentials import Places, RawHeaders, clear, clear_query, value_of
from shims.csrf import SAFE_METHODS, forged
from shims.rewriting import (
    Replacing,
    amended,
    content_type,
    is_encoded,
    is_textual,
    jwts_in,
    length_of,
    placed,
    pointed,
    replaced,
    unescaped,
)
from shims.routes import RouteTable

REQUEST_ROOM_BYTES: Final = 65_536
ANSWER_ROOM_BYTES: Final = 1_048_576
_ISSUING: Final[frozenset[Route | None]] = frozenset({"login", "refresh"})
_READING: Final[frozenset[Route | None]] = frozenset({"refresh", "logout"})
_BODILESS: Final = frozenset({204, 205, 206, 304})  # or a part of one, which cannot be judged
_ERRORS: Final = 400
# No app can take these for a refresh token of the issuer; its own answer is what clients know.
_HARMLESS: Final = frozenset({Reason.WRONG_PURPOSE, Reason.UNKNOWN_ISSUER, Reason.BAD_SIGNATURE})


@dataclass(frozen=True, slots=True, kw_only=True)
class Asking:
    """A request as it reached the shim, and what the gate said of it.

    Args:
        presented, outcome: None where it brings no credential.
        headers, query: as the app would get them.
    """

    method: str
    path: str
    headers: RawHeaders
    query: bytes
    route: Route | None
    presented: Presented | None = None
    outcome: Outcome | None = None
    ip: str | None = None


@dataclass(frozen=True, slots=True)
class Inbound:
    """What the app gets; a body of None is the client's own."""

    headers: list[tuple[bytes, bytes]]
    query: bytes
    body: bytes | None = None


@dataclass(frozen=True, slots=True)
class Answered:
    """What the client gets; a body of None passes as the app sends it, through `passing`."""

    headers: list[tuple[bytes, bytes]]
    body: bytes | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Bridge:
    """What every crossing of an app has in common; built once from the settings."""

    flow: Bridging
    places: Places
    transports: tuple[tuple[str, bytes, bytes], ...]
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
            transports=tuple(
                ("header", each.header.lower().encode(), (each.scheme or "").encode())
                if each.header is not None
                else ("cookie", each.cookie.encode(), b"")
                if each.cookie is not None
                else ("query", (each.query or "").encode(), b"")
                for each in issuer.transport
            ),
            access=section.access,
            refresh=section.refresh,
            refresh_cookies=refresh_cookies,
            cookies=CookieReader.of([*mirrored, *refresh_cookies]),
            mirrored=frozenset(mirrored),
            echoes=RouteTable.listed(section.echoes),
            session_token=settings.tokens.session_prefix.encode() + b"_",
        )


class Crossing:
    """One request on its way over and back. Not shared between requests.

    Order: `enter`, then for the answer `holds`, `leave`, and `passing` for each part of a body
    that was not held.
    """

    def __init__(self, bridge: Bridge, asking: Asking) -> None:
        self._bridge = bridge
        self._asking = asking
        self._carried: Carried | None = None
        self._shown: list[bytes] = []
        self._presented: list[bytes] = []
        self._stream: Replacing | None = None
        self._is_watched = False

    # On the way in.

    @property
    def reads(self) -> bool:
        """Whether `enter` wants the request's body: it may carry a refresh token."""
        asking = self._asking
        return asking.route in _READING and asking.method not in SAFE_METHODS

    async def enter(self, body: bytes | None = None) -> Inbound:
        """What the app is to get.

        Args:
            body: the request's, where `reads` says so; None: longer than REQUEST_ROOM_BYTES.

        Raises:
            Refused: the app must not be asked.
            Unavailable: nobody can say; 503, never 401.
        """
        asking = self._asking
        if self.reads and (body is None or value_of(asking.headers, b"content-encoding")):
            raise Refused(Reason.MALFORMED_REQUEST)  # what is not read cannot be vouched for
        headers, query = list(asking.headers), asking.query
        self._carried = self._of_the_gate()
        if asking.route in _ISSUING or self._bridge.echoes.kind(asking.path) is not None:
            headers = [line for line in headers if line[0].lower() != b"accept-encoding"]
            headers.append((b"accept-encoding", b"identity"))
        cookies = self._cookies(headers)
        if asking.route == "refresh":
            found = await self._refreshing(body or b"", headers)
            if found is not None:
                return await self._as_refresh(found, headers, query, body or b"", cookies)
        elif asking.route == "logout":
            self._presented = self._all_presented(body or b"", headers)
        if self._carried is None:
            return Inbound(headers, query)
        headers, query = self._without_credentials(headers, query)
        jwt = await self._mint(self._carried, cookies)
        headers, query = placed(self._transport(), jwt, headers, query)
        if asking.route == "logout" and body:
            shown = await self._mint(self._carried, cookies, refresh=True)
            headers, body = _with_body(headers, body, {self._carried.token: shown})
            return Inbound(headers, query, body)
        return Inbound(headers, query)

    def _of_the_gate(self) -> Carried | None:
        """The session that the gate admitted, with the token that the client holds."""
        outcome, presented = self._asking.outcome, self._asking.presented
        if outcome is None or presented is None or not isinstance(outcome.verdict, Admitted):
            return None
        principal = outcome.verdict.principal
        if principal.session is None or not self._bridge.flow.shows(principal):
            return None
        credential = presented.header
        if outcome.place != "header":
            is_ours = outcome.place == "cookie" and not outcome.dead_cookie
            credential = (presented.session_cookie if is_ours else None) or presented.legacy
        if credential is None:
            return None
        return Carried(credential.value, principal.session, principal.scopes)

    async def _refreshing(self, body: bytes, headers: RawHeaders) -> tuple[bytes, Carried] | None:
        """The credential that is to be refreshed, and its session; None: the app answers."""
        refusals: list[Refused] = []
        for candidate in self._refresh_candidates(body, headers):
            try:
                carried = await self._bridge.flow.refresh(candidate)
            except Refused as refused:
                if refused.reason not in _HARMLESS:
                    refusals.append(refused)
                continue
            if carried is not None:
                return candidate, carried
        if refusals:
            raise refusals[0]
        return None

    def _refresh_candidates(self, body: bytes, headers: RawHeaders) -> list[bytes]:
        """What may be a refresh token: in the body, in its cookies, else where logins are."""
        found = self._in_body(body)
        cookies = self._bridge.cookies.read(_cookie_lines(headers))
        named = [
            value
            for name in self._bridge.refresh_cookies
            for value in cookies.get(name, frozenset())
        ]
        if named and self._is_forged(headers):
            raise Refused(Reason.CSRF)
        presented = self._asking.presented
        if not found and not named and presented is not None:
            places = (presented.header, presented.legacy)
            named = [place.value for place in places if place is not None]
        return list(dict.fromkeys([*found, *named]))

    def _in_body(self, body: bytes) -> list[bytes]:
        """The tokens in a body.

        Raises:
            Refused: one is spelt so that the app would read it and we would not replace it.
        """
        found = jwts_in(body, self._bridge.session_token)
        if set(found) != set(jwts_in(unescaped(body), self._bridge.session_token)):
            raise Refused(Reason.MALFORMED_REQUEST)
        return found

    def _all_presented(self, body: bytes, headers: RawHeaders) -> list[bytes]:
        presented = self._asking.presented
        places = (
            ()
            if presented is None
            else (presented.header, presented.session_cookie, presented.legacy, *presented.others)
        )
        found = [place.value for place in places if place is not None]
        cookies = self._bridge.cookies.read(_cookie_lines(headers))
        for name in self._bridge.refresh_cookies:
            found += cookies.get(name, frozenset())
        return list(dict.fromkeys([*found, *self._in_body(body)]))

    def _is_forged(self, headers: RawHeaders) -> bool:
        return forged(
            method=self._asking.method,
            sec_fetch_site=value_of(headers, b"sec-fetch-site"),
            origin=value_of(headers, b"origin"),
            host=value_of(headers, b"host"),
            allowed_origins=self._bridge.places.allowed_origins,
        )

    async def _as_refresh(
        self,
        found: tuple[bytes, Carried],
        headers: list[tuple[bytes, bytes]],
        query: bytes,
        body: bytes,
        cookies: Mapping[str, str],
    ) -> Inbound:
        """The request with a refresh JWT of ours where the client's refresh token was."""
        candidate, carried = found
        self._carried = carried
        jwt = await self._mint(carried, cookies, refresh=True)
        by_body = candidate in body
        in_cookies = self._bridge.cookies.read(_cookie_lines(headers))
        by_cookie = [
            name
            for name in self._bridge.refresh_cookies
            if candidate in in_cookies.get(name, frozenset())
        ]
        headers, query = self._without_credentials(headers, query)
        for name in by_cookie:
            headers, query = placed(("cookie", name, b""), jwt, headers, query)
        if by_body:
            headers, body = _with_body(headers, body, {candidate: jwt, carried.token: jwt})
        if not by_body and not by_cookie:
            headers, query = placed(self._transport(), jwt, headers, query)
        else:  # what else the client sends on every call
            access = await self._mint(carried, cookies)
            headers, query = placed(self._transport(), access, headers, query)
        return Inbound(headers, query, body if by_body else None)

    async def _mint(
        self, carried: Carried, cookies: Mapping[str, str], *, refresh: bool = False
    ) -> bytes:
        jwt = await self._bridge.flow.mint(
            carried.session,
            "refresh" if refresh else "access",
            carried.scopes,
            cookies,
        )
        self._shown.append(jwt)
        return jwt

    def _without_credentials(
        self, headers: RawHeaders, query: bytes
    ) -> tuple[list[tuple[bytes, bytes]], bytes]:
        """The request without anything that names a user: the session alone speaks (§11)."""
        places = self._bridge.places
        names = frozenset(places.cookies) | self._bridge.refresh_cookies | {places.session_cookie}
        kept = clear(places, headers, cookies=names, explicit=True)
        return kept, clear_query(places, query) if places.queries else query

    def _transport(self) -> tuple[str, bytes, bytes]:
        """Where the JWT goes: where the client sent its own, if clients of the app do."""
        transports, outcome = self._bridge.transports, self._asking.outcome
        place = None if outcome is None else outcome.place
        return next((each for each in transports if each[0] == place), transports[0])

    def _cookies(self, headers: RawHeaders) -> dict[str, str]:
        """Cookies that a claim mirrors; one that is sent twice with two values is none."""
        read = self._bridge.cookies.read(_cookie_lines(headers)) if self._bridge.mirrored else {}
        return {
            name.decode("latin-1"): next(iter(values)).decode("latin-1")
            for name, values in read.items()
            if name in self._bridge.mirrored and len(values) == 1
        }

    # On the way back.

    def holds(self, code: int, headers: RawHeaders) -> bool:
        """Whether `leave` wants the answer's whole body before anything is sent."""
        if self._asking.method == "HEAD" or code in _BODILESS or is_encoded(headers):
            return False
        if not is_textual(content_type(headers)):
            return False
        length = length_of(headers)
        if self._asking.route in _ISSUING and code < _ERRORS:
            return length is None or length <= ANSWER_ROOM_BYTES
        return bool(self._shown) and length is not None and length <= ANSWER_ROOM_BYTES

    async def leave(self, code: int, headers: RawHeaders, body: bytes | None = None) -> Answered:
        """What the client is to get.

        Args:
            body: the whole of it where `holds` said so and it was not longer than
                ANSWER_ROOM_BYTES, else None.

        Raises:
            Unavailable: nobody can say; 503, and nothing of the answer goes out.
        """
        if self._carried is not None and self._asking.route is None:
            self._bridge.flow.answered(self._carried.session, code)
        if self._asking.route == "logout" and code < _ERRORS:
            for credential in self._presented:
                await self._bridge.flow.end_presented(credential)
        swaps = await self._swaps(code, headers, body)
        lines = [(name, replaced(value, swaps)) for name, value in headers]
        if body is None:
            self._watch(lines, swaps)
            if self._stream is not None or (self._shown and self._asking.method == "HEAD"):
                lines = [line for line in lines if line[0].lower() != b"content-length"]
            return Answered(lines)
        if self._asking.route not in _ISSUING:
            self._saw(body)
        new = replaced(body, swaps)
        if new != body:
            lines = amended(lines, len(new), stores=self._asking.route not in _ISSUING)
        return Answered(lines, new)

    @property
    def is_watching(self) -> bool:
        """Whether `passing` has anything to look for in what was not held."""
        return self._is_watched or self._stream is not None

    def passing(self, part: bytes, *, last: bool) -> bytes:
        """A part of a body that was not held, as the client is to get it."""
        if self._is_watched:
            self._saw(part)
        return part if self._stream is None else self._stream.feed(part, last=last)

    async def _swaps(
        self, code: int, headers: RawHeaders, body: bytes | None
    ) -> dict[bytes, bytes]:
        """Which bytes of the answer become which: JWTs of ours and of the app, session tokens."""
        token = None if self._carried is None else self._carried.token
        swaps = {} if token is None else dict.fromkeys(self._shown, token)
        found = self._found(code, headers, body)
        found = [jwt for jwt in found if jwt not in swaps and jwt not in self._own()]
        if not found:
            return swaps
        flow = self._bridge.flow
        if self._carried is not None and self._asking.route != "login":
            renewed = await flow.renewed(
                self._carried, found, refreshes=self._asking.route == "refresh"
            )
            swaps |= dict.fromkeys(renewed, self._carried.token)
            found = [jwt for jwt in found if jwt not in renewed]
        issued, made = await flow.issued(found, self._to()) if found else ({}, None)
        return swaps if made is None else swaps | dict.fromkeys(issued, made)

    def _found(self, code: int, headers: RawHeaders, body: bytes | None) -> list[bytes]:
        """The JWTs that an answer hands out: in its headers, and in the bodies that are ours."""
        found: list[bytes] = []
        for _, value in headers:
            if b"eyJ" in value:
                found += jwts_in(value)
        bridge = self._bridge
        if body is not None and self._asking.route in _ISSUING and code < _ERRORS:
            pointers = bridge.access + bridge.refresh
            found += pointed(body, pointers) if pointers else jwts_in(body)
        return list(dict.fromkeys(found))

    def _own(self) -> frozenset[bytes]:
        """The client's own legacy tokens: an app that repeats them issues nothing."""
        presented = self._asking.presented
        if presented is None:
            return frozenset()
        places = (presented.header, presented.legacy, *presented.others)
        return frozenset(place.value for place in places if place is not None)

    def _to(self) -> From:
        agent = value_of(self._asking.headers, b"user-agent")
        return From(None if agent is None else agent.decode("latin-1"), self._asking.ip)

    def _watch(self, headers: RawHeaders, swaps: Mapping[bytes, bytes]) -> None:
        is_read = is_textual(content_type(headers)) and not is_encoded(headers)
        self._is_watched = is_read
        shown = {jwt: swaps[jwt] for jwt in self._shown if jwt in swaps}
        if is_read and shown and self._asking.method != "HEAD":
            self._stream = Replacing(shown)

    def _saw(self, part: bytes) -> None:
        """Count what an unconfigured route hands out: it would hold up the drain unseen."""
        if b"eyJ" not in part:
            return
        own = self._own() | frozenset(self._shown)
        found = [jwt for jwt in jwts_in(part) if jwt not in own]
        if found:
            self._bridge.flow.saw_elsewhere(found, self._asking.path)


def _with_body(
    headers: list[tuple[bytes, bytes]], body: bytes, swaps: Mapping[bytes, bytes]
) -> tuple[list[tuple[bytes, bytes]], bytes]:
    new = replaced(body, swaps)
    gone = {b"content-length", b"transfer-encoding"}
    kept = [line for line in headers if line[0].lower() not in gone]
    return [*kept, (b"content-length", b"%d" % len(new))], new


def _cookie_lines(headers: RawHeaders) -> Sequence[bytes]:
    return [value for name, value in headers if name.lower() == b"cookie"]
