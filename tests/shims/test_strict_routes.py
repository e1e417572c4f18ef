"""`[memory] strict_routes`: on them no shim answers from memory, however a path is spelt."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import pytest
from starlette.testclient import TestClient

from migrator.core.presented import Outcome
from migrator.core.verdicts import Admitted, Principal
from migrator.settings import Routes, Settings
from shims.asgi import DualAcceptMiddleware as OverAsgi
from shims.messages import Receive, Scope, Send
from shims.routes import RouteTable
from shims.wsgi import DualAcceptMiddleware as OverWsgi

Gate: TypeAlias = Any  # the gates of conftest.py
TOKEN = b"sess_" + b"7" * 49
BEARER = {"Authorization": f"Bearer {TOKEN.decode()}"}
PATTERNS = ("/payments/**", "/keys", "/files/*/delete/")


@pytest.mark.parametrize(
    "path",
    [
        *("/payments", "/payments/", "/payments/1", "/payments/1/refund", "/keys", "/keys/"),
        *("/Keys", "/PAYMENTS/1", "/files/a/delete", "/files/a/delete/"),
        # Some router or proxy reads these as one of the above, so nobody may read them otherwise.
        *("//payments/1", "/x/../keys", "/x//y", "/./keys", "/keys;v=1", "/x\\..\\keys"),
        *("/%6beys", "/x%2fy", "/keys\x00", "/x/.."),
    ],
)
def test_p2_a_path_that_could_be_read_as_a_strict_one_is_strict(path: str) -> None:
    assert RouteTable.of(Routes(), PATTERNS).is_strict(path)


@pytest.mark.parametrize(
    "path", ["/", "/keys/1", "/paymentsx", "/files/a/b/delete", "/a.b/c..d", "/x/payments"]
)
def test_every_other_path_is_as_fast_as_ever(path: str) -> None:
    assert not RouteTable.of(Routes(), PATTERNS).is_strict(path)
    assert not RouteTable.of(Routes()).is_strict(path)


@pytest.mark.parametrize("path", ["/shop/keys", "/keys"])
def test_p2_a_strict_path_is_strict_within_its_mount_and_without(path: str) -> None:
    assert RouteTable.of(Routes(), PATTERNS).is_strict(path, "/shop")


@pytest.fixture
def strict_keys(settings: Callable[..., Settings]) -> Settings:
    return settings(memory={"strict_routes": ["/keys"]})


def remembering(gate: Gate, ada: Principal) -> None:
    gate.answers[TOKEN], gate.remembers = Outcome(Admitted(ada), "header"), True


def test_p2_asgi_asks_the_gate_on_a_strict_route_and_says_so(
    strict_keys: Settings, async_gate: Gate, ada: Principal
) -> None:
    async def app(_: Scope, __: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    remembering(async_gate, ada)
    client = TestClient(OverAsgi(app, strict_keys, gate=async_gate))
    client.get("/other", headers=BEARER)  # learns the names of its headers
    async_gate.asked.clear()
    client.get("/other", headers=BEARER)
    assert async_gate.asked == []
    client.get("/keys", headers=BEARER)
    assert [one.strict for one in async_gate.asked] == [True]


def test_p2_wsgi_asks_the_gate_on_a_strict_route_and_says_so(
    strict_keys: Settings, gate: Gate, ada: Principal
) -> None:
    def app(_: Any, start_response: Any) -> list[bytes]:
        start_response("204 No Content", [])
        return []

    remembering(gate, ada)
    over = OverWsgi(app, strict_keys, gate=gate)
    environ = {"REQUEST_METHOD": "GET", "HTTP_AUTHORIZATION": BEARER["Authorization"]}
    over({**environ, "SCRIPT_NAME": "", "PATH_INFO": "/other"}, lambda *_: print)
    assert gate.asked == []
    over({**environ, "SCRIPT_NAME": "/shop", "PATH_INFO": "/keys"}, lambda *_: print)
    assert [one.strict for one in gate.asked] == [True]
