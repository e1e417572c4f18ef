"""The watch over open WebSockets, where a real client cannot time or count what is claimed."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from typing import Any

import pytest

from migrator import wiring
from migrator.cli.demo.servers import Postgres
from migrator.control import schema
from migrator.core.app import Sessions
from migrator.core.gate import AsyncGate
from migrator.core.verdicts import Principal
from migrator.settings import Settings
from shims.credentials import Places
from shims.websockets import Rhythm, Watch
from tests.rig import Rig

PATIENCE_S = 5.0


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


class Wire:
    """The server's side of a connection whose client sends only when told to."""

    def __init__(self) -> None:
        self.inbox: asyncio.Queue[Any] = asyncio.Queue()
        self.sent: list[Any] = []
        self.closed = asyncio.Event()

    async def send(self, message: Any) -> None:
        self.sent.append(message)
        if message["type"] == "websocket.close":
            self.closed.set()


def watched(settings: Settings, gate: AsyncGate, **rhythm: float) -> Watch:
    return Watch(gate, Places.of(settings), Rhythm(**rhythm))


def scope_of(token: str) -> dict[str, Any]:
    headers = [(b"authorization", f"Bearer {token}".encode())]
    return {"type": "websocket", "path": "/talk", "headers": headers}


def test_p2_a_revocation_between_the_verdict_and_the_watch_is_not_missed(
    rig: Rig, elsewhere: Sessions
) -> None:
    settings, token = rig.settings(), token_of(elsewhere, "ann")
    gate = wiring.async_gate(settings)
    principal = Principal("ann", "users")

    async def talk() -> tuple[Wire, Any]:
        wire, watch = Wire(), watched(settings, gate)
        elsewhere.end(token)  # admitted a moment ago

        async def app(_: Any, receive: Any, send: Any) -> None:
            await send({"type": "websocket.accept"})
            waiting = asyncio.ensure_future(receive())
            await wire.closed.wait()
            await wire.inbox.put({"type": "websocket.receive", "text": "hello"})
            heard.extend([await waiting, await receive()])
            await send({"type": "websocket.send", "text": "not any more"})

        heard: list[Any] = []
        inner = {**scope_of(token), "state": {"principal": principal}}
        async with asyncio.timeout(PATIENCE_S):
            await watch.over(scope_of(token), app)(inner, wire.inbox.get, wire.send)
        assert len(watch) == 0
        return wire, heard

    wire, heard = asyncio.run(talk())
    assert wire.sent[1:] == [{"type": "websocket.close", "code": 1008, "reason": "revoked"}]
    disconnected = {"type": "websocket.disconnect", "code": 1008, "reason": "revoked"}
    assert heard == [disconnected] * 2, "what is said after the end never reaches the app"


def test_a_connection_that_the_app_closed_is_not_closed_twice(
    rig: Rig, elsewhere: Sessions
) -> None:
    settings, token = rig.settings(), token_of(elsewhere, "ann")
    gate = wiring.async_gate(settings)

    async def talk() -> list[Any]:
        wire, watch = Wire(), watched(settings, gate)

        async def app(_: Any, __: Any, send: Any) -> None:
            await send({"type": "websocket.accept"})
            await send({"type": "websocket.close", "code": 1000})
            gate.recent.evict(("subject", "users", "ann"))
            await asyncio.sleep(0.1)

        inner = {**scope_of(token), "state": {"principal": Principal("ann", "users")}}
        elsewhere.end(token)
        await watch.over(scope_of(token), app)(inner, wire.inbox.get, wire.send)
        gate.recent.evict_all()
        return wire.sent

    assert [one["type"] for one in asyncio.run(talk())] == ["websocket.accept", "websocket.close"]


def test_p4_an_outage_that_lasts_says_try_again_later_and_never_revoked(
    own_postgres: Postgres,
) -> None:
    """Nobody can say any more whether the session lives: the 503 of an open connection."""
    url = own_postgres.create_database("talk")
    schema.upgrade(url)
    rig = Rig(url)
    rig.move("drain")
    settings = rig.settings(database={"budget_ms": 300})
    token = token_of(wiring.operator(settings), "ann")
    gate = wiring.async_gate(settings)

    async def talk() -> tuple[list[Any], float]:
        wire = Wire()
        watch = watched(settings, gate, look_s=0.2, retry_s=0.2, unasked_s=1.5)
        lasted = 0.0

        async def app(_: Any, __: Any, send: Any) -> None:
            nonlocal lasted
            await send({"type": "websocket.accept"})
            await asyncio.sleep(0.5)
            await asyncio.to_thread(own_postgres.kill)
            began = time.monotonic()
            await wire.closed.wait()
            lasted = time.monotonic() - began

        inner = {**scope_of(token), "state": {"principal": Principal("ann", "users")}}
        async with asyncio.timeout(20):
            await watch.over(scope_of(token), app)(inner, wire.inbox.get, wire.send)
        return wire.sent, lasted

    sent, lasted_s = asyncio.run(talk())
    assert sent[1:] == [{"type": "websocket.close", "code": 1013, "reason": ""}]
    assert lasted_s > 1, "a short outage closes nothing"


def test_p2_a_crowd_is_judged_again_at_once_and_only_the_dead_are_closed(
    rig: Rig, elsewhere: Sessions
) -> None:
    """After a failover every connection asks the store; a few at a time, within seconds."""
    settings = rig.settings()
    gate = wiring.async_gate(settings)
    tokens = {name: token_of(elsewhere, name) for name in map(str, range(200))}
    dead = {name for name in tokens if int(name) % 2}
    rig.execute("UPDATE migrator.sessions SET revoked_at = now() WHERE subject = ANY(%s)", [*dead])
    wires = {name: Wire() for name in tokens}

    async def app(_: Any, __: Any, send: Any) -> None:
        await send({"type": "websocket.accept"})
        await done.wait()

    async def crowd() -> None:
        watch = watched(settings, gate)
        open_ones = [
            asyncio.ensure_future(
                watch.over(scope_of(token), app)(
                    {**scope_of(token), "state": {"principal": Principal(name, "users")}},
                    wires[name].inbox.get,
                    wires[name].send,
                )
            )
            for name, token in tokens.items()
        ]
        async with asyncio.timeout(PATIENCE_S):
            await asyncio.gather(*(wires[name].closed.wait() for name in dead))
        assert len(watch) == len(tokens) - len(dead)
        gate.recent.evict_all()
        await asyncio.sleep(0)
        done.set()
        await asyncio.gather(*open_ones)
        assert len(watch) == 0

    done = asyncio.Event()
    asyncio.run(crowd())
    assert {name for name, wire in wires.items() if wire.closed.is_set()} == dead


def test_connections_without_a_principal_are_left_alone(rig: Rig) -> None:
    settings = rig.settings()
    watch = watched(settings, wiring.async_gate(settings))

    async def app(_: Any, receive: Any, send: Any) -> None:
        assert (receive, send) == ("theirs", "theirs")

    inner: Any = {"type": "websocket", "state": {"principal": None}}
    theirs: Any = "theirs"

    async def talk() -> None:
        await watch.over({}, app)(inner, theirs, theirs)

    asyncio.run(talk())
    assert len(watch) == 0
