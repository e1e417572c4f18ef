"""A request's way over the bridge: a session becomes the JWT that the app reads.

The JWT stands where clients of the app send theirs, and nothing else names a user beside it. What
a credential is worth is core/bridging.py's to say.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from migrator.core.bridge import is_marked
from migrator.core.errors import Refused
from migrator.core.presented import Credential, Route
from migrator.core.refreshing import Carried
from migrator.core.swapping import BINDING
from migrator.core.verdicts import Admitted, Passed, Reason
from shims.bodies import ROOM_BYTES, inflated, is_plain, presented_in, says_anything
from shims.bridge import Asking, Bridge, Inbound
from shims.credentials import RawHeaders, clear, clear_query, value_of
from shims.csrf import SAFE_METHODS, forged
from shims.rewriting import Transport, jwts_in, placed, replaced

ISSUING: Final[frozenset[Route | None]] = frozenset({"login", "refresh"})
_READING: Final[frozenset[Route | None]] = frozenset({"refresh", "logout"})
# No app can take these for a refresh token of the issuer; its own answer is what clients know.
_HARMLESS: Final = frozenset({Reason.WRONG_PURPOSE, Reason.UNKNOWN_ISSUER, Reason.BAD_SIGNATURE})
_MOST_IN_BODY: Final = 32  # each may cost a signature
# A part of an answer could not be judged, nor one that is compressed in a way we do not know.
_WHOLE_AND_PLAIN: Final = frozenset({b"accept-encoding", b"range", b"if-range"})
# Where no refresh token is expected, though some app may take one from there.
_NOT_FOR_TOKENS: Final = frozenset({b"cookie", b"user-agent", b"referer", b"origin", b"host"})


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
        if self._bears_mark():
            raise self._refused(Reason.BRIDGE_TOKEN)
        body = self._inflated(body) if self.reads else b""
        headers, query = list(asking.headers), asking.query
        self.carried = self._of_the_gate()
        if asking.route in ISSUING or self._bridge.echoes.kind(asking.path) is not None:
            headers = [line for line in headers if line[0].lower() not in _WHOLE_AND_PLAIN]
            headers.append((b"accept-encoding", b"identity"))
        cookies = self._cookies(headers)
        if asking.route == "refresh":
            found = await self._refreshing(body, headers)
            if found is not None:
                return await self._as_refresh(found, headers, query, body, cookies)
            if self.carried is not None:
                self.carried = await self._bridge.flow.beside(self.carried)
        elif asking.route == "logout":
            self.to_end = self._all_presented(body, headers)
        if self.carried is None:
            return Inbound(headers, query)
        headers, query = self._without_credentials(headers, query, leave=self.carried.goes_back)
        jwt = await self._mint(self.carried, cookies)
        swaps = dict.fromkeys(self._in_members(), jwt)
        if asking.outcome is None or asking.outcome.place != "body":
            headers, query = placed(self._transport(), jwt, headers, query)
        if asking.route == "logout" and body:
            swaps[self.carried.token] = await self._mint(self.carried, cookies, refresh=True)
        if not swaps:
            return Inbound(headers, query)
        headers, body = _with_body(headers, body or asking.body, swaps)
        if any(each.value not in swaps.values() for each in self._members_of(body)):
            raise self._refused(Reason.MALFORMED_REQUEST)  # spelt so that it was not found
        return Inbound(headers, query, body)

    def _refused(self, reason: Reason) -> Refused:
        return Refused(self._bridge.flow.refuse(reason).reason)

    def _bears_mark(self) -> bool:
        """Whether a bridge JWT comes from outside, wherever an app could find it."""
        texts = (self._asking.query, *(value for _, value in self._asking.headers))
        return any(is_marked(text) for text in texts if _may_hold_jwt(text))

    def _inflated(self, body: bytes | None) -> bytes:
        """The request's body as the app understands it; what is not read is not vouched for."""
        coding = value_of(self._asking.headers, b"content-encoding")
        if body is not None and coding and coding.strip().lower() != b"identity":
            body = inflated(body, coding, ROOM_BYTES)
        if body is None:
            raise self._refused(Reason.MALFORMED_REQUEST)
        return body

    def _in_members(self) -> list[bytes]:
        """The credentials in members of the request's JSON body: none but the session's stays."""
        presented = self._asking.presented
        found = () if presented is None else presented.everything()
        return [each.value for each in found if each.place == "body"]

    def _members_of(self, body: bytes) -> Sequence[Credential]:
        return presented_in(body, self._bridge.places.members) if self._asking.body else ()

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

    async def _refreshing(self, body: bytes, headers: RawHeaders) -> _Judged | None:
        """What is refreshed, and what the app must not see of it; None: the app answers.

        Everything is judged that an app could take for a refresh token: beside one that holds,
        one that does not would reach the app, and which of both it reads is not known.
        """
        judged = _Judged()
        await self._judge(self._in_body(body), judged)
        if len({(each.session.realm, each.session.subject) for each in judged.carried}) > 1:
            raise self._refused(Reason.SUBJECTS_DIFFER)
        await self._judge(await self._in_refresh_cookies(headers), judged)
        if not judged.carried:
            await self._judge(self._presented(), judged)
        await self._judge(self._elsewhere(headers), judged, binding=BINDING)
        if judged.carried:
            return judged
        if judged.refusals:
            raise judged.refusals[0]
        if judged.dead and not judged.left and not says_anything(_without(body, judged.over)):
            raise judged.dead[0]
        return None

    async def _judge(
        self,
        candidates: Iterable[bytes],
        judged: _Judged,
        *,
        binding: Collection[Reason] = frozenset(Reason) - _HARMLESS,
    ) -> None:
        """Judge `candidates`; what is refused for no reason that is `binding` is the app's.

        A token of ours that is over means nothing to the app, and it may have another beside it
        that means nothing to us: an opaque refresh token is the app's own.
        """
        for candidate in dict.fromkeys(candidates):
            try:
                carried = await self._bridge.flow.refresh(candidate)
            except Refused as refused:
                if refused.reason is Reason.BRIDGE_TOKEN:
                    raise
                if self._bridge.flow.is_ours(candidate):
                    judged.dead.append(refused)
                    judged.over.append(candidate)
                elif refused.reason in binding:
                    judged.refusals.append(refused)
                    judged.gone.append(candidate)
                else:
                    judged.left = True
                continue
            if carried is None:
                judged.left = True
            else:
                judged.carried.append(carried)
                judged.gone.append(candidate)

    def _in_body(self, body: bytes) -> list[bytes]:
        """The tokens in a body.

        Raises:
            Refused: one is spelt so that the app would read it and we would not replace it.
        """
        found = self._tokens_in(body)
        kind = value_of(self._asking.headers, b"content-type")
        if len(found) > _MOST_IN_BODY or (body and not is_plain(body, kind, self._tokens_in)):
            raise self._refused(Reason.MALFORMED_REQUEST)
        return found

    def _tokens_in(self, text: bytes) -> list[bytes]:
        return jwts_in(text, self._bridge.session_token)

    async def _in_refresh_cookies(self, headers: RawHeaders) -> list[bytes]:
        """The refresh cookies, unless another site's page sent them."""
        flow, found = self._bridge.flow, self._refresh_cookies(headers)
        if found and self._is_forged(headers):
            if any(map(flow.is_ours, found)) or await flow.decides():
                raise self._refused(Reason.CSRF)
            return []
        return found

    def _refresh_cookies(self, headers: RawHeaders) -> list[bytes]:
        cookies = self._bridge.cookies.read(_cookie_lines(headers))
        return [value for name in self._bridge.refresh_cookies for value in cookies.get(name, ())]

    def _presented(self) -> list[bytes]:
        """What is in the places of logins: some apps refresh by it.

        What was taken out of them means nothing to the app, and something to us if it is ours.
        """
        presented, outcome = self._asking.presented, self._asking.outcome
        found = () if presented is None else presented.everything()
        ours = None if presented is None else presented.session_cookie
        values = [each.value for each in found if each is not ours]
        if outcome is not None and isinstance(outcome.verdict, Passed) and outcome.verdict.strip:
            return [value for value in values if self._bridge.flow.is_ours(value)]
        return values

    def _elsewhere(self, headers: RawHeaders) -> list[bytes]:
        """Tokens in the query, and in headers that nobody configured."""
        places = self._bridge.places
        unlisted = [
            value
            for name, value in headers
            if name.lower() not in _NOT_FOR_TOKENS and places.role(name) not in places.headers
        ]
        texts = (clear_query(places, self._asking.query), *unlisted)
        return [token for text in texts for token in self._tokens_in(text)][:_MOST_IN_BODY]

    def _all_presented(self, body: bytes, headers: RawHeaders) -> list[bytes]:
        presented = self._asking.presented
        found = [] if presented is None else [each.value for each in presented.everything()]
        if not self._is_forged(headers):
            found += self._refresh_cookies(headers)
        found += self._in_body(body)
        if any(map(is_marked, found)):
            raise self._refused(Reason.BRIDGE_TOKEN)
        return list(dict.fromkeys(found))

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
        judged: _Judged,
        headers: list[tuple[bytes, bytes]],
        query: bytes,
        body: bytes,
        cookies: Mapping[str, str],
    ) -> Inbound:
        """The request with a refresh JWT of ours where the client's refresh token was."""
        self.carried = carried = judged.carried[0]
        jwt = await self._mint(carried, cookies, refresh=True)
        swaps = dict.fromkeys([*judged.gone, carried.token], jwt)
        in_cookies = self._bridge.cookies.read(_cookie_lines(headers))
        by_cookie = [
            name
            for name in sorted(self._bridge.refresh_cookies)
            if not in_cookies.get(name, frozenset()).isdisjoint(judged.gone)
        ]
        leave = carried.goes_back and not by_cookie
        headers, query = self._without_credentials(headers, query, leave=leave)
        put = [(name, replaced(value, swaps)) for name, value in headers]
        put_query, put_body = replaced(query, swaps), replaced(body, swaps)
        is_put = (put, put_query, put_body) != (headers, query, body)
        for name in by_cookie:
            put, put_query = placed(("cookie", name, b""), jwt, put, put_query)
        # What else the client sends on every call, or where else it sends its refresh token.
        other = await self._mint(carried, cookies) if is_put or by_cookie else jwt
        put, put_query = placed(self._transport(), other, put, put_query)
        if put_body == body:
            return Inbound(put, put_query)
        put, put_body = _with_body(put, body, swaps)
        return Inbound(put, put_query, put_body)

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
        self, headers: RawHeaders, query: bytes, *, leave: bool
    ) -> tuple[list[tuple[bytes, bytes]], bytes]:
        """The request without anything that names a user: the session alone speaks (§11).

        Args:
            leave: whether refresh cookies stay: the app is to answer them, as it did before us.
        """
        places = self._bridge.places
        names = frozenset(places.cookies) | {places.session_cookie}
        names |= frozenset() if leave else self._bridge.refresh_cookies
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
        token = None if self.carried is None else self.carried.token
        for kind, name, scheme in transports:
            if kind == "header" and token is not None and self._is_in(name, token):
                return kind, name, scheme
        place = None if outcome is None else outcome.place
        return next((each for each in transports if each[0] == place), transports[0])

    def _is_in(self, name: bytes, token: bytes) -> bool:
        role = self._bridge.places.role
        return any(role(key) == name and token in line for key, line in self._asking.headers)

    def _cookies(self, headers: RawHeaders) -> dict[str, str]:
        """Cookies that a claim mirrors; one that is sent twice with two values is none."""
        read = self._bridge.cookies.read(_cookie_lines(headers)) if self._bridge.mirrored else {}
        return {
            name.decode("latin-1"): next(iter(values)).decode("latin-1")
            for name, values in read.items()
            if name in self._bridge.mirrored and len(values) == 1
        }


@dataclass(slots=True)
class _Judged:
    """What came of a refresh request's tokens.

    Args:
        carried: living sessions; refusals: why legacy tokens must not reach the app.
        gone: what was sent for either.
        dead: why tokens of ours name no session; over: those tokens.
        left: whether the app has another token to answer.
    """

    carried: list[Carried] = field(default_factory=list)
    refusals: list[Refused] = field(default_factory=list)
    gone: list[bytes] = field(default_factory=list)
    dead: list[Refused] = field(default_factory=list)
    over: list[bytes] = field(default_factory=list)
    left: bool = False

    def __repr__(self) -> str:
        return f"_Judged({len(self.carried)} carried, {len(self.refusals)} refused)"


def _may_hold_jwt(text: bytes) -> bool:
    is_spelt = b"%" in text or b"\\" in text
    return is_spelt or (b"." in text and (b"ey" in text or b"ew" in text))


def _without(body: bytes, tokens: Iterable[bytes]) -> bytes:
    return replaced(body, dict.fromkeys(tokens, b""))


def _with_body(
    headers: list[tuple[bytes, bytes]], body: bytes, swaps: Mapping[bytes, bytes]
) -> tuple[list[tuple[bytes, bytes]], bytes]:
    new = replaced(body, swaps)
    gone = {b"content-length", b"transfer-encoding", b"content-encoding"}
    kept = [line for line in headers if line[0].lower() not in gone]
    return [*kept, (b"content-length", b"%d" % len(new))], new


def _cookie_lines(headers: RawHeaders) -> Sequence[bytes]:
    return [value for name, value in headers if name.lower() == b"cookie"]
