"""The typed dependencies, as a user writes them: behind the middleware, over a scripted gate."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from typing import Annotated, Any

import pytest
from fastapi import FastAPI, Request, Response, Security, WebSocket
from fastapi.testclient import TestClient
from starlette.websockets import WebSocketDisconnect

from migrator.core.ids import uuid7
from migrator.core.presented import Outcome
from migrator.core.sessions import Session
from migrator.core.verdicts import Admitted, Principal
from migrator.settings import Settings
from shims.asgi import DualAcceptMiddleware
from shims.fastapi import (
    CurrentPrincipal,
    CurrentSession,
    NotLoggedIn,
    OptionalPrincipal,
    answer_as_configured,
    current_principal,
    current_session,
    dependencies,
)

BEARER = {"Authorization": "Bearer jwt"}
SAID = {"error": "invalid_token", "reason": "invalid"}

Writer = Annotated[Principal, Security(current_principal, scopes=["write", "own"])]
OwnSession = Annotated[Session, Security(current_session, scopes=["own"])]


def app_of() -> FastAPI:
    app = FastAPI()

    @app.get("/me")
    async def me(principal: CurrentPrincipal) -> str:
        return principal.subject

    @app.get("/me/session")
    def mine(session: CurrentSession) -> str:
        return str(session.id)

    @app.get("/front")
    def front(principal: OptionalPrincipal) -> str | None:
        return None if principal is None else principal.subject

    @app.post("/notes")
    def note(principal: Writer) -> str:
        return principal.subject

    @app.post("/sessions/end")
    def end(session: OwnSession) -> str:
        return str(session.id)

    @app.get("/")
    def open_to_all() -> None:
        """Nobody is asked for."""

    @app.websocket("/talk")
    async def talk(websocket: WebSocket, principal: Writer) -> None:
        await websocket.accept()
        await websocket.send_text(principal.subject)

    return app


@pytest.fixture
def app() -> FastAPI:
    return app_of()


@pytest.fixture
def client(
    app: FastAPI, settings: Callable[..., Settings], async_gate: Any
) -> Iterator[TestClient]:
    app.add_middleware(DualAcceptMiddleware, settings=settings(), gate=async_gate)
    with TestClient(app) as client:
        yield client


def admit(gate: Any, principal: Principal) -> None:
    gate.answers[b"jwt"] = Outcome(Admitted(principal), "header")


def session_of(principal: Principal) -> Session:
    return Session(
        id=uuid7(),
        kind="session",
        realm=principal.realm,
        subject=principal.subject,
        created_at=datetime.now(UTC),
        expires_at=None,
        origin="login",
    )


def test_principal_and_session_reach_the_route(
    client: TestClient, async_gate: Any, ada: Principal
) -> None:
    session = session_of(ada)
    admit(async_gate, replace(ada, session=session))
    assert client.get("/me", headers=BEARER).json() == "ada"
    assert client.get("/front", headers=BEARER).json() == "ada"
    assert client.get("/me/session", headers=BEARER).json() == str(session.id)


@pytest.mark.parametrize(
    ("method", "path"), [("GET", "/me"), ("GET", "/me/session"), ("POST", "/notes")]
)
def test_the_anonymous_are_refused_in_our_words(
    client: TestClient, method: str, path: str
) -> None:
    answer = client.request(method, path)
    assert answer.status_code == 401
    assert answer.json() == {"detail": SAID}
    assert answer.headers["www-authenticate"] == "Bearer", "no error code without a credential"
    assert answer.headers["cache-control"] == "no-store"


def test_the_anonymous_may_ask_where_a_principal_is_optional(client: TestClient) -> None:
    assert client.get("/front").json() is None


def test_a_jwt_without_a_session_has_no_session(
    client: TestClient, async_gate: Any, ada: Principal
) -> None:
    admit(async_gate, replace(ada, via="legacy"))
    assert client.get("/me", headers=BEARER).json() == "ada"
    assert client.get("/me/session", headers=BEARER).status_code == 401


@pytest.mark.parametrize(
    ("scopes", "status"),
    [(set(), 403), ({"write"}, 403), ({"own", "write"}, 200), ({"own", "write", "read"}, 200)],
)
def test_every_scope_asked_for_is_needed(
    client: TestClient, async_gate: Any, ada: Principal, scopes: set[str], status: int
) -> None:
    admit(async_gate, replace(ada, scopes=frozenset(scopes)))
    answer = client.post("/notes", headers=BEARER)
    assert answer.status_code == status
    if status == 403:
        assert answer.json() == {"detail": {"error": "insufficient_scope"}}
        assert answer.headers["www-authenticate"] == (
            'Bearer error="insufficient_scope", scope="write own"'
        )


def test_scopes_are_asked_of_a_session_too(
    client: TestClient, async_gate: Any, ada: Principal
) -> None:
    session = session_of(ada)
    admit(async_gate, replace(ada, session=session))
    assert client.post("/sessions/end", headers=BEARER).status_code == 403
    admit(async_gate, replace(ada, session=session, scopes=frozenset({"own"})))
    assert client.post("/sessions/end", headers=BEARER).json() == str(session.id)


def test_websocket_routes_take_the_same_dependencies(
    client: TestClient, async_gate: Any, ada: Principal
) -> None:
    with pytest.raises(WebSocketDisconnect) as anonymous, client.websocket_connect("/talk"):
        pass
    assert anonymous.value.code == 1008
    admit(async_gate, ada)
    with (
        pytest.raises(WebSocketDisconnect) as lacking,
        client.websocket_connect("/talk", headers=BEARER),
    ):
        pass
    assert lacking.value.code == 1008
    admit(async_gate, replace(ada, scopes=frozenset({"own", "write"})))
    with client.websocket_connect("/talk", headers=BEARER) as websocket:
        assert websocket.receive_text() == "ada"


def test_the_document_shows_both_ways_to_log_in_and_the_scopes(client: TestClient) -> None:
    document = client.get("/openapi.json").json()
    schemes = document["components"]["securitySchemes"]
    assert schemes["SessionToken"].items() >= {"type": "http", "scheme": "bearer"}.items()
    assert (
        schemes["SessionCookie"].items()
        >= {"type": "apiKey", "in": "cookie", "name": "__Host-session"}.items()
    )
    asked = {
        path: next(iter(of.values())).get("security") for path, of in document["paths"].items()
    }

    def either(*scopes: str) -> list[dict[str, list[str]]]:
        return [{"SessionToken": [*scopes]}, {"SessionCookie": [*scopes]}]

    assert asked == {
        "/me": either(),
        "/me/session": either(),
        "/front": either(),
        "/notes": either("write", "own"),
        "/sessions/end": either("own"),
        "/": None,
    }
    assert client.get("/docs").status_code == 200


def test_the_document_names_the_cookie_of_the_settings(settings: Callable[..., Settings]) -> None:
    told = dependencies(settings(cookie={"name": "__Host-sid", "secure": False}))
    app = FastAPI()

    @app.get("/me")
    def me(principal: Annotated[Principal, Security(told.current_principal)]) -> str:
        return principal.subject

    schemes = app.openapi()["components"]["securitySchemes"]
    assert schemes["SessionCookie"]["name"] == "sid"


def test_the_anonymous_can_be_answered_as_the_middleware_answers(
    app: FastAPI, settings: Callable[..., Settings], async_gate: Any
) -> None:
    refusal = {"status": 403, "scheme": "Token", "body": '{"detail":"log in ({reason})"}'}
    worded = settings(http={"refusal": refusal})
    app.add_middleware(DualAcceptMiddleware, settings=worded, gate=async_gate)
    answer_as_configured(app, worded)
    with TestClient(app) as client:
        answer = client.get("/me")
        assert (answer.status_code, answer.json()) == (403, {"detail": "log in (invalid)"})
        assert answer.headers["www-authenticate"] == "Token"


def test_an_app_words_it_by_its_own_handler(app: FastAPI, client: TestClient) -> None:
    async def login_page(_: Request, __: Exception) -> Response:
        return Response("log in", 401)

    app.add_exception_handler(NotLoggedIn, login_page)
    app.middleware_stack = None  # the client's start-up built it
    assert client.get("/me").text == "log in"


def test_an_app_without_the_middleware_fails_loudly_and_never_open() -> None:
    client = TestClient(app_of())
    with pytest.raises(RuntimeError, match="DualAcceptMiddleware"):
        client.get("/me")
    with pytest.raises(RuntimeError, match="DualAcceptMiddleware"):
        client.get("/front")
