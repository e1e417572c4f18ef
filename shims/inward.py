"""A request's way over the bridge: a session becomes the JWT that the app reads.

The JWT stands where clients of the app send theirs, and nothing else names a user beside it. What
a credential is worth is core/bridging.py's to say.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from migrator.core.bridging import Carried
from migrator.core.errors import Refused
from migrator.core.presented import Route
from migrator.core.verdicts import Admitted, Reason
from shims.bridge import Asking, Bridge, Inbound
from shims.credentials import RawHeaders, clear, clear_query, value_of
from shims.csrf import SAFE_METHODS, forged
from shims.rewriting import Transport, jwts_in, placed, replaced, unescaped

ISSUING: Final[frozenset[Route | None]] = frozenset({"login", "refresh"})
_READING: Final[frozenset[Route | None]] = frozenset({"refresh", "logout"})
# No app can take these for a refresh token of the issuer; its own answer is what clients know.
_HARMLESS: Final = frozenset({Reason.WRONG_PURPOSE, Reason.UNKNOWN_ISSUER, Reason.BAD_SIGNATURE})


class Inward:
    """The way in of one request.

    `carried` is the session that crosses, `shown` every JWT that the app was given for it, and
    `to_end` what a logout names.
    """

    def __init__(self, bridge: Bridge, asking: Asking) -> None:
        self._bridge = bridge
        self._asking = asking
        self.carried: Carried | None = None
        self.shown: list[bytes] = []
        self.to_end: list[bytes] = []

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
        self.carried = self._of_the_gate()
        if asking.route in ISSUING or self._bridge.echoes.kind(asking.path) is not None:
            headers = [line for line in headers if line[0].lower() != b"accept-encoding"]
            headers.append((b"accept-encoding", b"identity"))
        cookies = self._cookies(headers)
        if asking.route == "refresh":
            found = await self._refreshing(body or b"", headers)
            if found is not None:
                return await self._as_refresh(found, headers, query, body or b"", cookies)
        elif asking.route == "logout":
            self.to_end = self._all_presented(body or b"", headers)
        if self.carried is None:
            return Inbound(headers, query)
        headers, query = self._without_credentials(headers, query)
        jwt = await self._mint(self.carried, cookies)
        if asking.outcome is not None and asking.outcome.place == "body":
            headers, body = _with_body(headers, body or asking.body, {self.carried.token: jwt})
            return Inbound(headers, query, body)
        headers, query = placed(self._transport(), jwt, headers, query)
        if asking.route == "logout" and body:
            shown = await self._mint(self.carried, cookies, refresh=True)
            headers, body = _with_body(headers, body, {self.carried.token: shown})
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
        found = [] if presented is None else [each.value for each in presented.everything()]
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
        self.carried = carried
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
            marked=not (refresh and carried.goes_back),
        )
        self.shown.append(jwt)
        return jwt

    def _without_credentials(
        self, headers: RawHeaders, query: bytes
    ) -> tuple[list[tuple[bytes, bytes]], bytes]:
        """The request without anything that names a user: the session alone speaks (§11)."""
        places = self._bridge.places
        names = frozenset(places.cookies) | self._bridge.refresh_cookies | {places.session_cookie}
        kept = []
        for name, value in clear(places, headers, cookies=names, explicit=True):
            is_cookie = name.lower() == b"cookie"
            rest = self._bridge.cookies.without(value, names) if is_cookie else value
            if rest or not is_cookie:
                kept.append((name, rest))
        return kept, clear_query(places, query) if places.queries else query

    def _transport(self) -> Transport:
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


def _with_body(
    headers: list[tuple[bytes, bytes]], body: bytes, swaps: Mapping[bytes, bytes]
) -> tuple[list[tuple[bytes, bytes]], bytes]:
    new = replaced(body, swaps)
    gone = {b"content-length", b"transfer-encoding"}
    kept = [line for line in headers if line[0].lower() not in gone]
    return [*kept, (b"content-length", b"%d" % len(new))], new


def _cookie_lines(headers: RawHeaders) -> Sequence[bytes]:
    return [value for name, value in headers if name.lower() == b"cookie"]
