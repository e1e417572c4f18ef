"""Hearing what the app answers costs nothing where nothing is compared."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from migrator.core.comparing import Shadow
from migrator.core.presented import Outcome
from migrator.core.verdicts import Admitted, Principal, Reason
from migrator.settings import Settings
from shims.asgi import DualAcceptMiddleware as Asgi
from shims.messages import Message, Receive, Scope, Send
from shims.wsgi import DualAcceptMiddleware as Wsgi
from tests.rig import ISSUER, SWAP_KEY
from tests.shims.conftest import AsyncScriptedGate, ScriptedGate

SHADOW = Shadow("a1", "ios/7", Reason.BAD_SIGNATURE)
CASES = pytest.mark.parametrize("compares", [False, True], ids=["decided", "observed"])


def settings_of() -> Settings:
    tables = {"database": {"url": "postgresql://nowhere/x"}, "issuers": [ISSUER]}
    return Settings.build({**tables, "swap": {"keys": [{"id": "k1", "secret": SWAP_KEY}]}})


def verdict_of(principal: Principal, *, compares: bool) -> Admitted:
    return Admitted(principal, shadow=SHADOW if compares else None)


@CASES
def test_asgi_apps_get_the_servers_own_send_unless_their_answer_is_compared(
    async_gate: AsyncScriptedGate, ada: Principal, compares: bool
) -> None:
    got: list[Send] = []

    async def app(_: Scope, __: Receive, send: Send) -> None:
        got.append(send)
        await send({"type": "http.response.start", "status": 201, "headers": []})

    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    async def receive() -> Message:
        return {"type": "http.request"}

    async_gate.remembers = True
    async_gate.otherwise = Outcome(verdict_of(ada, compares=compares), "header")
    scope: dict[str, Any] = {
        "type": "http",
        "method": "GET",
        "path": "/orders/1",
        "headers": [(b"authorization", b"Bearer jwt")],
    }
    asyncio.run(Asgi(app, settings_of(), gate=async_gate)(scope, receive, send))
    assert (got == [send]) is not compares
    assert [message["status"] for message in sent] == [201]
    assert async_gate.compared_to == ([("/orders/1", SHADOW, 201)] if compares else [])


@CASES
def test_wsgi_apps_get_the_servers_own_start_response_unless_their_answer_is_compared(
    gate: ScriptedGate, ada: Principal, compares: bool
) -> None:
    got: list[Any] = []

    def app(_: Any, start_response: Any) -> list[bytes]:
        got.append(start_response)
        start_response("201 Created", [])
        return [b""]

    def start_response(*_: Any) -> Any:
        return None

    gate.remembers = True
    gate.otherwise = Outcome(verdict_of(ada, compares=compares), "header")
    environ = {
        "REQUEST_METHOD": "GET",
        "PATH_INFO": "/orders/1",
        "HTTP_AUTHORIZATION": "Bearer jwt",
    }
    Wsgi(app, settings_of(), gate=gate)(environ, start_response)
    assert (got == [start_response]) is not compares
    assert gate.compared_to == ([("/orders/1", SHADOW, 201)] if compares else [])


def test_a_shadow_makes_no_other_verdict(ada: Principal) -> None:
    plain, compared = Admitted(ada), verdict_of(ada, compares=True)
    assert plain == compared
    assert replace(compared, shadow=None) == plain
