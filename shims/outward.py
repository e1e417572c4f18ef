"""An answer's way back over the bridge: the client sees its own token, or gets one.

A bridge JWT never leaves, and what the app issues on the configured routes becomes a session. A
body is held only where it says its length or its route issues; a stream is searched as it passes.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Final

from migrator.core.bridge import is_marked
from migrator.core.bridging import From
from shims.bodies import CODINGS, inflated
from shims.bridge import Answered, Asking, Bridge
from shims.credentials import RawHeaders, value_of
from shims.csrf import SAFE_METHODS
from shims.inward import ISSUING, Inward
from shims.rewriting import (
    Replacing,
    amended,
    content_type,
    is_encoded,
    is_stream,
    is_textual,
    jwts_in,
    length_of,
    pointed,
    replaced,
    uncached,
    unsized,
)

ANSWER_ROOM_BYTES: Final = 1_048_576
_BODILESS: Final = frozenset({204, 205, 206, 304})  # or a part of one, which cannot be judged
_REDIRECTS: Final = 300
_ERRORS: Final = 400
_MOST: Final = 256  # looked at in one answer, most of them for what they say of themselves only


class Outward:
    """The way back of one answer."""

    def __init__(self, bridge: Bridge, asking: Asking, inward: Inward) -> None:
        self._bridge = bridge
        self._asking = asking
        self._in = inward
        self._stream: Replacing | None = None
        self._is_watched = False

    def holds(self, code: int, headers: RawHeaders) -> bool:
        """Whether `leave` wants the answer's whole body before anything is sent."""
        if self._asking.method == "HEAD" or code in _BODILESS:
            return False
        if is_encoded(headers) and _coding(headers) not in CODINGS:
            return False
        media_type, length = content_type(headers), length_of(headers)
        if self._issues(code):
            return not is_stream(media_type) and (length is None or length <= ANSWER_ROOM_BYTES)
        if not self._in.shown or not is_textual(media_type):
            return False
        return length is not None and length <= ANSWER_ROOM_BYTES

    async def leave(self, code: int, headers: RawHeaders, body: bytes | None = None) -> Answered:
        """What the client is to get.

        Args:
            body: the whole of it where `holds` said so and it was not longer than
                ANSWER_ROOM_BYTES, else None.

        Raises:
            Refused: what the app issued was revoked before; nothing of the answer goes out.
            Unavailable: nobody can say; 503, and nothing of the answer goes out.
        """
        if self._in.carried is not None and self._asking.route is None:
            self._bridge.flow.answered(self._in.carried.session, code)
        if self._asking.route == "logout" and self._went(code, headers):
            for credential in self._in.to_end:
                await self._bridge.flow.end_presented(credential)
        plain = body
        if body is not None and is_encoded(headers):
            plain = inflated(body, _coding(headers), ANSWER_ROOM_BYTES)
        swaps, hands_out = await self._swaps(code, headers, plain)
        lines = [(name, replaced(value, swaps)) for name, value in headers]
        if hands_out and lines != headers:
            lines = uncached(lines)
        if body is None:
            self._watch(code, lines, swaps)
            return Answered(lines if self._keeps_length(lines) else unsized(lines))
        if plain is not None and self._asking.route not in ISSUING:
            self._saw(plain)
        new = None if plain is None else replaced(plain, swaps)
        if new is None or new == plain:
            return Answered(lines, body)
        lines = [line for line in lines if line[0].lower() != b"content-encoding"]
        return Answered(amended(lines, len(new), stores=not hands_out), new)

    def _issues(self, code: int) -> bool:
        return self._asking.route in ISSUING and code < _ERRORS

    def _went(self, code: int, headers: RawHeaders) -> bool:
        """Whether a logout route logged out: a page that only asks for it is a GET, and HTML."""
        method = self._asking.method
        if code >= _ERRORS or method in {"HEAD", "OPTIONS"}:
            return False
        is_page = content_type(headers).lower().startswith(b"text/html") and code < _REDIRECTS
        return method not in SAFE_METHODS or not is_page

    def _keeps_length(self, headers: RawHeaders) -> bool:
        """Whether the answer is as long as it says; of what HEAD asks about nobody knows."""
        if self._asking.method == "HEAD":
            return not (self._in.shown and is_textual(content_type(headers)))
        return self._stream is None

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
    ) -> tuple[dict[bytes, bytes], bool]:
        """Which bytes of the answer become which, and whether that hands a credential out.

        JWTs of ours, and what the app made of them, are the client's token again; what it issues
        is a new one's.
        """
        carried, flow, route = self._in.carried, self._bridge.flow, self._asking.route
        swaps = {} if carried is None else dict.fromkeys(self._in.shown, carried.token)
        skipped = swaps.keys() | self._own()
        found = [jwt for jwt in self._found(code, headers, body) if jwt not in skipped]
        if carried is not None and route != "login" and not carried.goes_back:
            derived = [] if body is None or self._issues(code) else _derived(body, skipped)
            if found or derived:
                renewed = await flow.renewed(
                    carried, [*found, *derived], refreshes=route == "refresh"
                )
                swaps |= dict.fromkeys(renewed, carried.token)
                found = [jwt for jwt in found if jwt not in renewed]
        if not found:
            return swaps, bool(swaps) and route in ISSUING
        issued = await flow.issued(found, self._to(), refreshes=route == "refresh")
        return swaps | issued, bool(issued) or (bool(swaps) and route in ISSUING)

    def _found(self, code: int, headers: RawHeaders, body: bytes | None) -> list[bytes]:
        """The JWTs that an answer hands out: in its headers, and in the bodies that are ours."""
        found = [jwt for _, value in headers for jwt in jwts_in(value)]
        bridge = self._bridge
        if body is not None and self._issues(code):
            pointers = bridge.access + bridge.refresh
            found += pointed(body, pointers) if pointers else jwts_in(body)
        return list(dict.fromkeys(found))[:_MOST]

    def _own(self) -> frozenset[bytes]:
        """The client's own legacy tokens: an app that repeats them issues nothing."""
        presented = self._asking.presented
        if presented is None:
            return frozenset()
        return frozenset(each.value for each in presented.everything())

    def _to(self) -> From:
        agent = value_of(self._asking.headers, b"user-agent")
        return From(None if agent is None else agent.decode("latin-1"), self._asking.ip)

    def _watch(self, code: int, headers: RawHeaders, swaps: Mapping[bytes, bytes]) -> None:
        is_read = is_textual(content_type(headers)) and not is_encoded(headers)
        self._is_watched = is_read
        shown = {jwt: swaps[jwt] for jwt in self._in.shown if jwt in swaps}
        is_whole = self._asking.method != "HEAD" and code not in _BODILESS
        if is_read and shown and is_whole:
            self._stream = Replacing(shown)

    def _saw(self, part: bytes) -> None:
        """Count what an unconfigured route hands out: it would hold up the drain unseen."""
        found = jwts_in(part)
        if not found:
            return
        own = self._own() | frozenset(self._in.shown)
        issued = [jwt for jwt in found if jwt not in own]
        if issued:
            self._bridge.flow.saw_elsewhere(issued[:_MOST], self._asking.path)


def _derived(body: bytes, skipped: Collection[bytes]) -> list[bytes]:
    """What the app made of a JWT of ours: its client could present that nowhere."""
    return [jwt for jwt in jwts_in(body)[:_MOST] if jwt not in skipped and is_marked(jwt)]


def _coding(headers: RawHeaders) -> bytes:
    return (value_of(headers, b"content-encoding") or b"").strip().lower()
