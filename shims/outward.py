"""An answer's way back over the bridge: the client sees its own token, or gets one.

A bridge JWT never leaves, and what the app issues on the configured routes becomes a session. A
body is held only where it says its length or its route issues; a stream is searched as it passes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from migrator.core.bridging import From
from shims.bridge import Answered, Asking, Bridge
from shims.credentials import RawHeaders, value_of
from shims.inward import ISSUING, Inward
from shims.rewriting import (
    Replacing,
    amended,
    content_type,
    is_encoded,
    is_textual,
    jwts_in,
    length_of,
    pointed,
    replaced,
)

ANSWER_ROOM_BYTES: Final = 1_048_576
_BODILESS: Final = frozenset({204, 205, 206, 304})  # or a part of one, which cannot be judged
_ERRORS: Final = 400


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
        if self._asking.method == "HEAD" or code in _BODILESS or is_encoded(headers):
            return False
        if not is_textual(content_type(headers)):
            return False
        length = length_of(headers)
        if self._asking.route in ISSUING and code < _ERRORS:
            return length is None or length <= ANSWER_ROOM_BYTES
        return bool(self._in.shown) and length is not None and length <= ANSWER_ROOM_BYTES

    async def leave(self, code: int, headers: RawHeaders, body: bytes | None = None) -> Answered:
        """What the client is to get.

        Args:
            body: the whole of it where `holds` said so and it was not longer than
                ANSWER_ROOM_BYTES, else None.

        Raises:
            Unavailable: nobody can say; 503, and nothing of the answer goes out.
        """
        if self._in.carried is not None and self._asking.route is None:
            self._bridge.flow.answered(self._in.carried.session, code)
        if self._asking.route == "logout" and code < _ERRORS:
            for credential in self._in.to_end:
                await self._bridge.flow.end_presented(credential)
        swaps = await self._swaps(code, headers, body)
        lines = [(name, replaced(value, swaps)) for name, value in headers]
        if body is None:
            self._watch(lines, swaps)
            if self._stream is not None or (self._in.shown and self._asking.method == "HEAD"):
                lines = [line for line in lines if line[0].lower() != b"content-length"]
            return Answered(lines)
        if self._asking.route not in ISSUING:
            self._saw(body)
        new = replaced(body, swaps)
        if new != body:
            lines = amended(lines, len(new), stores=self._asking.route not in ISSUING)
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
        token = None if self._in.carried is None else self._in.carried.token
        swaps = {} if token is None else dict.fromkeys(self._in.shown, token)
        found = self._found(code, headers, body)
        found = [jwt for jwt in found if jwt not in swaps and jwt not in self._own()]
        if not found:
            return swaps
        flow = self._bridge.flow
        carried = self._in.carried
        if carried is not None and self._asking.route != "login" and not carried.goes_back:
            renewed = await flow.renewed(carried, found, refreshes=self._asking.route == "refresh")
            swaps |= dict.fromkeys(renewed, carried.token)
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
        if body is not None and self._asking.route in ISSUING and code < _ERRORS:
            pointers = bridge.access + bridge.refresh
            found += pointed(body, pointers) if pointers else jwts_in(body)
        return list(dict.fromkeys(found))

    def _own(self) -> frozenset[bytes]:
        """The client's own legacy tokens: an app that repeats them issues nothing."""
        presented = self._asking.presented
        if presented is None:
            return frozenset()
        return frozenset(each.value for each in presented.everything())

    def _to(self) -> From:
        agent = value_of(self._asking.headers, b"user-agent")
        return From(None if agent is None else agent.decode("latin-1"), self._asking.ip)

    def _watch(self, headers: RawHeaders, swaps: Mapping[bytes, bytes]) -> None:
        is_read = is_textual(content_type(headers)) and not is_encoded(headers)
        self._is_watched = is_read
        shown = {jwt: swaps[jwt] for jwt in self._in.shown if jwt in swaps}
        if is_read and shown and self._asking.method != "HEAD":
            self._stream = Replacing(shown)

    def _saw(self, part: bytes) -> None:
        """Count what an unconfigured route hands out: it would hold up the drain unseen."""
        if b"eyJ" not in part:
            return
        own = self._own() | frozenset(self._in.shown)
        found = [jwt for jwt in jwts_in(part) if jwt not in own]
        if found:
            self._bridge.flow.saw_elsewhere(found, self._asking.path)
