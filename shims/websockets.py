"""Open WebSockets are closed when the session they came by is over: the rule is all here.

A handshake is judged like any request; after it nothing is sent that could be judged. So every
open connection is judged again, as a request with its credential would be, whenever memory evicts
something that it stands on (which the feed or this process does, within the bound of design
section 8), when its session ends, and twice a minute. Messages cost no query and no write: they
pass two comparisons. Being connected is being there: an open connection's session does not idle
out, as one that polls would not.

Evictions come from the pulse's thread; everything else here runs on the connection's event loop.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from threading import Lock
from typing import Final, assert_never
from weakref import WeakKeyDictionary, ref

from migrator.core.errors import Unavailable
from migrator.core.gate import AsyncGate
from migrator.core.phases import Phase
from migrator.core.presented import Presented
from migrator.core.recent import ALL, ANY_LEGACY, SECOND_NS, About
from migrator.core.verdicts import Admitted, Passed, Principal, Refused, word
from migrator.redacting import logger
from shims.credentials import Places, find
from shims.messages import App, Message, Receive, Scope, Send

_log = logger("migrator.shims.websockets")

POLICY_VIOLATION: Final = 1008  # RFC 6455 section 7.4.1
TRY_AGAIN_LATER: Final = 1013
_GRAIN_S: Final = 0.01
# When everything is evicted at once (a failover), connections must not crowd requests out.
_AT_ONCE: Final = 4
_ENDS: Final = {"websocket.close", "websocket.http.response.start"}


def watching(gate: object, places: Places) -> Callable[[Scope, App], App]:
    """What a WebSocket's app is wrapped by, see `Watch.over`; a gate of tests watches nothing."""
    return Watch(gate, places).over if isinstance(gate, AsyncGate) else _unwatched


def _unwatched(_: Scope, app: App) -> App:
    return app


@dataclass(frozen=True, slots=True, kw_only=True)
class Rhythm:
    """How often connections are judged again, in seconds.

    Args:
        look_s: without a reason; half of what memory and cache may live.
        retry_s: while nobody can be asked.
        unasked_s: how long a connection outlives its last verdict then, before it is told to try
            again later: what 503 is to a request.
    """

    look_s: float = 30.0
    retry_s: float = 1.0
    unasked_s: float = 60.0


class Ended(OSError):
    """The connection was closed here; the ASGI specification wants an OSError of `send`."""


_USUAL: Final = Rhythm()


class Watch:
    """The open connections of one middleware.

    Args:
        gate: who judges them.
        places: where their credentials are.
    """

    def __init__(self, gate: AsyncGate, places: Places, rhythm: Rhythm = _USUAL) -> None:
        self.gate = gate
        self.rhythm = rhythm
        self._places = places
        self._turns: WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Semaphore] = (
            WeakKeyDictionary()
        )
        self._forget()
        listening = ref(self)  # memory outlives middlewares

        def heard(about: About) -> None:
            watch = listening()
            if watch is not None:
                watch._evicted(about)  # noqa: SLF001 - its own

        gate.recent.listen(heard)

    def over(self, outer: Scope, app: App) -> App:
        """The app, its connection closed once what `outer` presented is not admitted any more."""

        async def watched(scope: Scope, receive: Receive, send: Send) -> None:
            principal = scope["state"]["principal"]
            if principal is None:
                await app(scope, receive, send)
                return
            connection = _Connection(self, self._presented(outer), principal, receive, send)
            self.add(connection)
            connection.begin()
            try:
                await app(scope, connection.receive, connection.send)
            except Ended:
                pass
            finally:
                connection.forget()
            await connection.settled()

        return watched

    def _presented(self, scope: Scope) -> Presented:
        peer = scope.get("client")
        presented, _ = find(
            self._places,
            scope["headers"],
            method="WEBSOCKET",
            path=scope["path"],
            mount=scope.get("root_path", ""),
            query=scope.get("query_string", b""),
            ip=peer[0] if peer else None,
        )
        return presented or Presented()

    def turns(self) -> asyncio.Semaphore:
        """How many connections of this event loop may ask the store at once."""
        loop = asyncio.get_running_loop()
        return self._turns.setdefault(loop, asyncio.Semaphore(_AT_ONCE))

    # Who listens for what; asked by whichever thread evicts.

    def _forget(self) -> None:
        self._pid = os.getpid()
        self._lock = Lock()
        self._open: dict[About, set[_Connection]] = {}

    def add(self, connection: _Connection) -> None:
        """Wake `connection` from now on when one of its names is evicted."""
        if self._pid != os.getpid():
            self._forget()  # what is open in the parent is the parent's
        with self._lock:
            for about in connection.names:
                self._open.setdefault(about, set()).add(connection)

    def remove(self, connection: _Connection) -> None:
        """Wake `connection` no more."""
        with self._lock:
            self._remove(connection, connection.names)

    def rename(self, connection: _Connection, names: frozenset[About]) -> None:
        """Wake `connection` by other names, with no moment in between."""
        with self._lock:
            for about in names:
                self._open.setdefault(about, set()).add(connection)
            self._remove(connection, connection.names - names)
            connection.names = names

    def _remove(self, connection: _Connection, names: frozenset[About]) -> None:
        for about in names:
            waiting = self._open.get(about)
            if waiting is not None:
                waiting.discard(connection)
                if not waiting:
                    del self._open[about]

    def _evicted(self, about: About) -> None:
        if not self._open or self._pid != os.getpid():
            return
        with self._lock:
            if about == ALL:
                woken = set().union(*self._open.values())
            else:
                woken = self._open.get(about, set()) | self._open.get(_ANYTHING, set())
        for connection in woken:
            connection.wake(named=about not in {ALL, ANY_LEGACY})

    def __len__(self) -> int:
        with self._lock:
            return len(set().union(*self._open.values()))


class _Connection:
    """One open WebSocket, between the server and the app."""

    def __init__(
        self,
        watch: Watch,
        presented: Presented,
        principal: Principal,
        receive: Receive,
        send: Send,
    ) -> None:
        self._watch = watch
        self._presented = presented
        self._principal = principal
        self._told = principal.scopes
        self._receive = receive
        self._send = send
        self._loop = asyncio.get_running_loop()
        self._stood_at = self._loop.time()
        self._timer: asyncio.TimerHandle | None = None
        self._task: asyncio.Task[None] | None = None
        self._again = self._named = self._is_gone = False
        self._over: Message | None = None
        self.names = self._all_names()

    def _all_names(self) -> frozenset[About]:
        principal, shown = self._principal, self._presented
        names: set[About] = {("subject", principal.realm, principal.subject)}
        if principal.via == "legacy":
            names.add(ANY_LEGACY)
        for one in (shown.header, shown.session_cookie, shown.legacy):
            known = None if one is None else self._watch.gate.recent.names(one.value)
            if known is not None:
                return frozenset(names.union(known))
        # Memory did not keep the verdict, so the session's digest is not known here.
        return frozenset({*names, _ANYTHING})

    # The app's side.

    async def receive(self) -> Message:
        """The next message, or that the connection is over."""
        if self._over is not None:
            return self._over
        message = await self._receive()
        if self._over is not None:  # what came after the end never reaches the app
            return self._over
        if message["type"] == "websocket.disconnect":
            self._is_gone = True
        return message

    async def send(self, message: Message) -> None:
        """Hand a message on; raises Ended once the connection is over."""
        if self._over is not None:
            if message["type"] in _ENDS:
                return
            raise Ended("the session of this connection is over")
        if message["type"] in _ENDS:
            self._is_gone = True
        await self._send(message)

    # Being judged again.

    def begin(self) -> None:
        """Look at once if anything was evicted between the handshake's verdict and `add`."""
        self._rest()
        if self._watch.gate.peek(self._presented) is None:
            self._look()

    def wake(self, *, named: bool) -> None:
        """Look as soon as the event loop can; called by any thread."""
        self._named = self._named or named
        with suppress(RuntimeError):  # the loop is closed, and with it the connection
            self._loop.call_soon_threadsafe(self._look)

    def forget(self) -> None:
        """End the watch: the app has returned, or the connection is over."""
        self._is_gone = True
        self._watch.remove(self)
        if self._timer is not None:
            self._timer.cancel()

    async def settled(self) -> None:
        """Wait for a look under way: no question to the store outlives its connection."""
        if self._task is not None:
            await asyncio.wait({self._task})

    def _look(self) -> None:
        if self._task is not None:
            self._again = True
        elif not self._is_gone:
            self._task = self._loop.create_task(self._looking())

    async def _looking(self) -> None:
        self._again, wait_s = True, None
        while self._again and not self._is_gone:
            self._again, named, self._named = False, self._named, False
            try:
                async with self._watch.turns():
                    why = await self._fault(named=named)
            except Exception as error:  # noqa: BLE001 - unwatched, it would outlive its session
                if not isinstance(error, Unavailable):
                    _log.exception("watch.failed", extra={"event": "watch.failed"})
                self._named, wait_s = self._named or named, self._watch.rhythm.retry_s
                if self._loop.time() - self._stood_at > self._watch.rhythm.unasked_s:
                    await self._end(TRY_AGAIN_LATER, "")
                continue
            self._stood_at, wait_s = self._loop.time(), None
            if why is not None:
                await self._end(POLICY_VIOLATION, why)
        self._task = None
        if not self._is_gone:
            self._rest(wait_s)
            self._rename()

    async def _fault(self, *, named: bool) -> str | None:
        """Why the connection must not go on, in the word that a client is told; None: it may."""
        gate, shown = self._watch.gate, self._presented
        if self._is_gone:  # it was its turn too late
            return None
        verdict = (gate.peek(shown) or await gate.admit(shown)).verdict
        match verdict:
            case Admitted(principal):
                self._principal = principal
                # Where the app was told of more than there is now, let it be told anew.
                return None if principal.scopes >= self._told else "changed"
            case Refused(reason):
                return word(reason)
            case Passed(reason, strip):
                # In `observe` the app decides how long its JWT's connection lives, as ever; but
                # an expired one cannot be judged any more, so what names it ends it.
                decides = self._principal.via == "legacy" and not strip
                if decides and (await gate.where()).phase is Phase.OBSERVE:
                    return None if reason is None or not named else word(reason)
                if reason is not None:
                    return word(reason)
                # A dead cookie of ours is as if it were not there, so no reason is given.
                return "revoked" if self._left_s() > 0 else "expired"
            case _:
                assert_never(verdict)

    def _rename(self) -> None:
        names = self._all_names()
        if names != self.names:
            self._watch.rename(self, names)
            if _ANYTHING not in names and self._watch.gate.peek(self._presented) is None:
                self._look()  # one of the new names was evicted before it was listened for

    def _rest(self, wait_s: float | None = None) -> None:
        if self._timer is not None:
            self._timer.cancel()
        if wait_s is None:
            wait_s = min(self._watch.rhythm.look_s, max(self._left_s(), 0.0) + _GRAIN_S)
        self._timer = self._loop.call_later(wait_s, self._look)

    def _left_s(self) -> float:
        session, clock = self._principal.session, self._watch.gate.clock
        if session is None or session.expires_at is None:
            return self._watch.rhythm.look_s
        return (clock.ticks_at(session.expires_at) - clock.ticks()) / SECOND_NS

    async def _end(self, code: int, why: str) -> None:
        self._over = {"type": "websocket.disconnect", "code": code, "reason": why}
        was_gone = self._is_gone
        self.forget()
        if not was_gone:
            with suppress(Exception):  # whatever the server says to the close of a dead connection
                await self._send({"type": "websocket.close", "code": code, "reason": why})


# Where connections wait that memory knows no names of: every eviction may be about them.
_ANYTHING: Final[About] = ("anything",)
