"""Open WebSockets end with their session: real servers, a real client, revocations elsewhere."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Literal

import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.routing import WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from migrator import wiring
from migrator.cli.demo.servers import Postgres
from migrator.control import schema
from migrator.core.app import Sessions
from migrator.settings import Settings
from shims.asgi import DualAcceptMiddleware
from tests.rig import Rig, sign

Ws = Literal["wsproto", "websockets-sansio"]
BOUND_S = 1.0
# The close has to reach the client too, on a machine with two busy cores.
PATIENCE_S = 5.0


class Room:
    """An app whose WebSocket echoes, and how each of its conversations ended."""

    def __init__(self) -> None:
        self.ended: list[int] = []
        self.app = Starlette(routes=[WebSocketRoute("/talk", self.talk)])

    async def talk(self, websocket: WebSocket) -> None:
        await websocket.accept()
        try:
            while True:
                said = await websocket.receive_text()
                await websocket.send_text(f"{websocket.user.identity}: {said}")
        except WebSocketDisconnect as gone:
            self.ended.append(gone.code)


class Talk:
    """A running server, its room, and its way in."""

    def __init__(self, settings: Settings, room: Room, port: int) -> None:
        self.settings = settings
        self.room = room
        self.port = port

    @contextmanager
    def open(self, token: str | bytes, place: str = "header") -> Iterator[ClientConnection]:
        """A conversation that has begun."""
        shown = token if isinstance(token, str) else token.decode()
        headers = {"Authorization": f"Bearer {shown}"}
        if place == "cookie":
            headers = {"Cookie": f"session={shown}"}
        with connect(
            f"ws://127.0.0.1:{self.port}/talk", additional_headers=headers, proxy=None
        ) as wire:
            assert says(wire, "hello")
            yield wire

    def refuses(self, token: str | bytes) -> bool:
        """Whether a new conversation is refused."""
        try:
            with self.open(token):
                return False
        except InvalidStatus as refused:
            return refused.response.status_code == 401


def says(wire: ClientConnection, text: str) -> bool:
    wire.send(text)
    return wire.recv(timeout=PATIENCE_S, decode=True).endswith(f": {text}")


def closed(wire: ClientConnection, since: float) -> tuple[int, str]:
    """How the server closed it, within the bound."""
    with pytest.raises(ConnectionClosed) as gone:
        wire.recv(timeout=PATIENCE_S)
    assert time.monotonic() - since < BOUND_S + 0.3, "the bound, and the way to the client"
    frame = gone.value.rcvd
    assert frame is not None
    return frame.code, frame.reason


def stays_open(wire: ClientConnection, for_s: float = 0.5) -> bool:
    until = time.monotonic() + for_s
    while time.monotonic() < until:
        if not says(wire, "still here"):
            return False
        time.sleep(0.02)
    return True


def comes_true(claim: Callable[[], object]) -> bool:
    until = time.monotonic() + PATIENCE_S
    while not claim():
        if time.monotonic() > until:
            return False
        time.sleep(0.02)
    return True


@contextmanager
def talking(settings: Settings, ws: Ws = "wsproto") -> Iterator[Talk]:
    room = Room()
    config = uvicorn.Config(
        DualAcceptMiddleware(room.app, settings),
        port=0,
        ws=ws,
        log_level="error",
        timeout_graceful_shutdown=2,
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        assert comes_true(lambda: server.started)
        yield Talk(settings, room, server.servers[0].sockets[0].getsockname()[1])
    finally:
        server.should_exit = True
        thread.join()


@pytest.fixture
def rig(migrated: str, redis_url: str) -> Rig:
    rig = Rig(migrated, redis_url)
    rig.move("drain")
    return rig


@pytest.fixture(autouse=True)
def _stopped() -> Iterator[None]:
    yield
    wiring.stop()


@pytest.fixture
def elsewhere(rig: Rig) -> Sessions:
    """Another process's hand: what it does reaches ours by the feed alone."""
    return wiring.operator(rig.settings())


def token_of(sessions: Sessions, subject: str) -> str:
    issued = sessions.login(subject, legacy=dict)
    assert issued.kind == "session"
    return str(issued.token)


@pytest.mark.parametrize("ws", ["wsproto", "websockets-sansio"])
@pytest.mark.parametrize("place", ["header", "cookie"])
def test_p2_an_open_websocket_is_closed_when_its_session_is_revoked_elsewhere(
    rig: Rig, elsewhere: Sessions, ws: Ws, place: str
) -> None:
    token, other = token_of(elsewhere, "ann"), token_of(elsewhere, "ann")
    with talking(rig.settings(), ws) as talk:
        with talk.open(token, place) as wire, talk.open(other, place) as second:
            elsewhere.end(token)
            assert closed(wire, time.monotonic()) == (1008, "revoked")
            assert stays_open(second)
        assert talk.refuses(token)
        assert comes_true(lambda: 1008 in talk.room.ended), "the app is told as of any disconnect"


def test_p2_an_open_websocket_is_closed_when_its_own_process_ends_the_session(rig: Rig) -> None:
    settings = rig.settings()
    with talking(settings) as talk:
        here = wiring.sessions(settings)
        token = token_of(here, "ann")
        with talk.open(token) as wire:
            here.end(token)
            assert closed(wire, time.monotonic()) == (1008, "revoked")


@pytest.mark.parametrize("phase", ["observe", "swap", "drain"])
def test_p2_logging_out_everywhere_closes_what_came_by_session_and_by_jwt(
    rig: Rig, elsewhere: Sessions, phase: str
) -> None:
    token, jwt, of_another = token_of(elsewhere, "ann"), sign("ann"), sign("bob")
    rig.move(phase)
    with (
        talking(rig.settings()) as talk,
        talk.open(token) as by_session,
        talk.open(jwt) as by_jwt,
        talk.open(of_another) as not_meant,
    ):
        elsewhere.end_all("ann")
        since = time.monotonic()
        assert closed(by_session, since) == (1008, "revoked")
        assert closed(by_jwt, since) == (1008, "revoked")
        assert stays_open(not_meant)


@pytest.mark.parametrize("phase", ["observe", "drain"])
def test_p2_an_open_websocket_is_closed_when_its_jwt_is_denied(
    rig: Rig, elsewhere: Sessions, phase: str
) -> None:
    jwt, other = sign("ann"), sign("ann")
    rig.move(phase)
    with talking(rig.settings()) as talk, talk.open(jwt) as wire, talk.open(other) as second:
        elsewhere.end(jwt)
        assert closed(wire, time.monotonic()) == (1008, "revoked")
        assert stays_open(second)


def test_cutover_closes_what_came_by_jwt_and_nothing_else(rig: Rig, elsewhere: Sessions) -> None:
    token = token_of(elsewhere, "ann")
    with (
        talking(rig.settings()) as talk,
        talk.open(token) as by_session,
        talk.open(sign("ann")) as by_jwt,
    ):
        rig.move("cutover")
        assert closed(by_jwt, time.monotonic()) == (1008, "legacy_retired")
        assert stays_open(by_session)
        rig.move("drain")
        assert comes_true(lambda: not talk.refuses(sign("ann"))), "rolled back"


def test_p2_an_open_websocket_over_the_bridge_is_closed_like_any_other(
    rig: Rig, elsewhere: Sessions
) -> None:
    """The app behind it was shown a JWT of the bridge; what is judged is the client's session."""
    token = token_of(elsewhere, "ann")
    with talking(rig.settings(bridge={})) as talk, talk.open(token) as wire:
        assert stays_open(wire)
        elsewhere.end(token)
        assert closed(wire, time.monotonic()) == (1008, "revoked")


def test_an_open_websocket_is_closed_when_its_session_expires(
    rig: Rig, elsewhere: Sessions
) -> None:
    ends_at = datetime.now(UTC) + timedelta(seconds=1.5)
    token = str(elsewhere.create_api_token("ann", label="ci", expires_at=ends_at).token)
    with talking(rig.settings()) as talk, talk.open(token) as wire:
        left_s = (ends_at - datetime.now(UTC)).total_seconds()
        assert closed(wire, time.monotonic() + left_s) == (1008, "expired")
        assert datetime.now(UTC) >= ends_at


def test_losing_a_scope_closes_the_connection_and_gaining_one_does_not(
    rig: Rig, elsewhere: Sessions
) -> None:
    token = str(elsewhere.login("ann", scopes=("read",), legacy=dict).token)

    def change(scopes: str) -> float:
        rig.execute(
            "WITH changed AS (UPDATE migrator.sessions SET scopes = %s RETURNING digest)"
            " INSERT INTO migrator.feed (kind, key)"
            " SELECT 'session', encode(digest, 'hex') FROM changed",
            scopes.split(),
        )
        return time.monotonic()

    with talking(rig.settings()) as talk, talk.open(token) as wire:
        change("read write")
        assert stays_open(wire)
        assert closed(wire, change("write")) == (1008, "changed")
        with talk.open(token) as again:
            assert stays_open(again)


def test_forgetting_everything_closes_only_what_is_over(rig: Rig, elsewhere: Sessions) -> None:
    """A failover may have lost word of a revocation: every connection is judged again."""
    settings = rig.settings()
    alive, dead = token_of(elsewhere, "ann"), token_of(elsewhere, "bob")
    with talking(settings) as talk, talk.open(alive) as one, talk.open(dead) as other:
        rig.execute(
            "UPDATE migrator.sessions SET revoked_at = now() WHERE subject = 'bob'"
        )  # and no feed row
        assert stays_open(other, 0.3)
        wiring.async_gate(settings).recent.evict_all()
        assert closed(other, time.monotonic()) == (1008, "revoked")
        assert stays_open(one)


def test_p4_messages_go_on_while_the_database_is_away_and_a_revocation_holds_after(
    own_postgres: Postgres, redis_url: str
) -> None:
    """No message asks the store, and an outage is not a logout."""
    url = own_postgres.create_database("talk")
    schema.upgrade(url)
    rig = Rig(url, redis_url)
    rig.move("drain")
    sessions = wiring.operator(rig.settings())
    token = token_of(sessions, "ann")
    with talking(rig.settings()) as talk, talk.open(token) as wire:
        own_postgres.kill()
        assert stays_open(wire, 1.5)
        own_postgres.start()
        assert comes_true(lambda: _ended(sessions, token))
        assert closed(wire, time.monotonic() + PATIENCE_S)[0] == 1008


def _ended(sessions: Sessions, token: str) -> bool:
    try:
        return sessions.end(token) == 1
    except Exception:  # noqa: BLE001 - it is starting still
        return False
