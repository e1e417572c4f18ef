from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from typing import Any, TypeAlias
from uuid import uuid4

import pytest
from starlette.applications import Starlette
from starlette.authentication import requires
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route, WebSocketRoute
from starlette.testclient import TestClient, WebSocketDenialResponse
from starlette.websockets import WebSocket

from migrator.core.presented import Outcome
from migrator.core.sessions import Session
from migrator.core.verdicts import Admitted, Notice, Passed, Principal, Reason, Refused, Verdict
from migrator.settings import Settings
from shims.asgi import DualAcceptMiddleware
from shims.messages import Message, Scope

Gate: TypeAlias = Any  # the AsyncScriptedGate of conftest.py
Lines: TypeAlias = Iterable[tuple[str, str]]

TOKEN = b"sess_" + b"7" * 49
BEARER = {"Authorization": "Bearer jwt"}
COOKIE = {"Cookie": "theme=dark; access_token=jwt; lang=en"}
NAVIGATION = {"Sec-Fetch-Mode": "navigate", "Sec-Fetch-Site": "none"}


async def _echo(request: Request) -> JSONResponse:
    principal = request.state.principal
    return JSONResponse(
        {
            "identity": request.user.identity,
            "name": request.user.display_name,
            "in": request.user.is_authenticated,
            "scopes": request.auth.scopes,
            "subject": None if principal is None else principal.subject,
            "loaded": getattr(request.state, "loaded", None),
            "headers": dict(request.headers),
            "query": request.url.query,
        }
    )


@requires(["authenticated", "write"])
async def _guarded(request: Request) -> Response:
    return Response("in")


async def _as_told(request: Request) -> Response:
    """Answers with the status and headers that the query asks for."""
    query = list(request.query_params.multi_items())
    response = Response("body", status_code=int(dict(query).get("status", "200")))
    for name, value in query:
        if name != "status":
            response.headers.append(name, value)
    return response


async def _talk(websocket: WebSocket) -> None:
    await websocket.accept()
    await websocket.send_json({"identity": websocket.user.identity})
    await websocket.close()


@asynccontextmanager
async def _lifespan(_: Starlette) -> AsyncIterator[dict[str, str]]:
    yield {"loaded": "yes"}


def _client(settings: Settings, gate: Gate) -> TestClient:
    app = Starlette(
        routes=[
            Route("/", _echo, methods=["GET", "POST", "HEAD"]),
            Route("/login", _as_told),
            Route("/guarded", _guarded),
            Route("/told", _as_told, methods=["GET", "HEAD", "OPTIONS", "POST"]),
            WebSocketRoute("/talk", _talk),
        ],
        lifespan=_lifespan,
        middleware=[Middleware(DualAcceptMiddleware, settings, gate=gate)],
    )
    return TestClient(app, base_url="https://api.example", follow_redirects=False)


@pytest.fixture
def client(settings: Callable[..., Settings], async_gate: Gate) -> Iterable[TestClient]:
    tables = {"routes": {"login": ["/login"]}}
    transports = (
        {"header": "Authorization", "scheme": "Bearer"},
        {"cookie": "access_token"},
        {"query": "token"},
    )
    with _client(settings(*transports, **tables), async_gate) as client:
        yield client


def _script(gate: Gate, verdict: Verdict, place: Any = "header", *, dead: bool = False) -> None:
    gate.answers[b"jwt"] = Outcome(verdict, place, dead_cookie=dead)


def _session(expires_at: datetime | None) -> Session:
    return Session(
        id=uuid4(),
        kind="session",
        realm="users",
        subject="ada",
        created_at=datetime.now(UTC),
        expires_at=expires_at,
        origin="swap",
    )


def test_request_without_a_credential_never_reaches_the_gate(
    client: TestClient, async_gate: Gate
) -> None:
    async_gate.is_down = True
    said = client.get("/", headers={"Cookie": "theme=dark"}).json()
    assert said["in"] is False
    assert said["identity"] == said["name"] == ""
    assert said["scopes"] == []
    assert said["subject"] is None
    assert said["headers"]["cookie"] == "theme=dark"
    assert async_gate.asked == []


@pytest.mark.parametrize("remembers", [True, False])
def test_admitted_principal_is_what_starlette_apps_read(
    client: TestClient, async_gate: Gate, ada: Principal, remembers: bool
) -> None:
    async_gate.remembers = remembers
    _script(async_gate, Admitted(ada))
    said = client.get("/", headers=BEARER).json()
    assert said["identity"] == said["name"] == said["subject"] == "ada"
    assert said["in"] is True
    assert said["scopes"] == ["read", "write"]
    assert said["loaded"] == "yes"
    assert said["headers"]["authorization"] == "Bearer jwt"


def test_requires_decorator_works(client: TestClient, async_gate: Gate, ada: Principal) -> None:
    assert client.get("/guarded").status_code == 403
    _script(async_gate, Admitted(ada))
    assert client.get("/guarded", headers=BEARER).status_code == 200
    _script(async_gate, Admitted(replace(ada, scopes=frozenset({"read"}))))
    assert client.get("/guarded", headers=BEARER).status_code == 403


def test_gate_is_told_what_the_request_was(client: TestClient, async_gate: Gate) -> None:
    client.get("/login?a=1", headers={**BEARER, "User-Agent": "curl/8"})
    (presented,) = async_gate.asked
    assert presented.path == "/login"
    assert presented.route == "login"
    assert presented.user_agent == "curl/8"
    assert presented.ip == "testclient"


@pytest.mark.parametrize(
    ("reason", "status", "body"),
    [
        (Reason.BAD_SIGNATURE, 401, {"error": "invalid_token", "reason": "invalid"}),
        (Reason.LEGACY_EXPIRED, 401, {"error": "invalid_token", "reason": "expired"}),
        (Reason.CUT_OFF, 401, {"error": "invalid_token", "reason": "revoked"}),
        (Reason.LEGACY_RETIRED, 401, {"error": "invalid_token", "reason": "legacy_retired"}),
        (Reason.SUBJECTS_DIFFER, 400, {"error": "invalid_request"}),
        (Reason.CSRF, 403, {"error": "csrf"}),
    ],
)
def test_refusal_says_the_coarse_word_and_nothing_finer(
    client: TestClient, async_gate: Gate, reason: Reason, status: int, body: dict[str, str]
) -> None:
    _script(async_gate, Refused(reason))
    answer = client.get("/", headers=BEARER)
    assert (answer.status_code, answer.json()) == (status, body)
    assert answer.headers["cache-control"] == "no-store"
    challenge = 'Bearer error="invalid_token"' if status == 401 else None
    assert answer.headers.get("www-authenticate") == challenge
    assert "set-cookie" not in answer.headers


def test_unasked_store_is_503_and_touches_no_cookie(client: TestClient, async_gate: Gate) -> None:
    async_gate.is_down = True
    answer = client.get("/", headers={**NAVIGATION, "Cookie": "__Host-session=x"})
    assert answer.status_code == 503
    assert answer.json() == {"error": "temporarily_unavailable"}
    assert int(answer.headers["retry-after"]) >= 1
    assert "set-cookie" not in answer.headers


def test_refusal_of_a_head_request_has_no_body(client: TestClient, async_gate: Gate) -> None:
    _script(async_gate, Refused(Reason.BAD_TOKEN))
    answer = client.head("/", headers=BEARER)
    assert (answer.status_code, answer.content) == (401, b"")


@pytest.mark.parametrize(
    ("body", "kind", "text"),
    [
        ('{"detail": "{reason}"}', "application/json", '{"detail": "revoked"}'),
        ("Signature {error}", "text/plain; charset=utf-8", "Signature invalid_token"),
        ("<p>Log in", "text/html; charset=utf-8", "<p>Log in"),
    ],
)
def test_refusal_can_be_worded_as_the_old_app_did(
    settings: Callable[..., Settings], async_gate: Gate, body: str, kind: str, text: str
) -> None:
    http = {"refusal": {"status": 403, "scheme": "JWT", "body": body}}
    client = _client(settings(http=http), async_gate)
    _script(async_gate, Refused(Reason.DENIED))
    answer = client.get("/", headers=BEARER)
    assert (answer.status_code, answer.text) == (403, text)
    assert answer.headers["content-type"] == kind
    assert answer.headers["www-authenticate"] == 'JWT error="invalid_token"'
    _script(async_gate, Refused(Reason.REPEATED_CREDENTIAL))
    assert client.get("/", headers=BEARER).status_code == 400


def test_token_is_handed_to_a_header_client(
    client: TestClient, async_gate: Gate, ada: Principal
) -> None:
    _script(async_gate, Admitted(ada, hand_out=TOKEN))
    told = "Cache-Control=public&Vary=Accept&Access-Control-Expose-Headers=X-Total"
    cached = "CDN-Cache-Control=max-age%3D9&Surrogate-Control=max-age%3D9&Expires=0"
    answer = client.get(f"/told?{told}&{cached}", headers=BEARER)
    assert answer.headers["session-token"] == TOKEN.decode()
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["vary"] == "Accept, Authorization, Cookie"
    assert answer.headers["access-control-expose-headers"] == "X-Total, Session-Token"
    assert not {"cdn-cache-control", "surrogate-control", "expires"} & set(answer.headers)
    assert "set-cookie" not in answer.headers


def test_lists_that_already_say_it_say_it_once(
    client: TestClient, async_gate: Gate, ada: Principal
) -> None:
    _script(async_gate, Admitted(ada, hand_out=TOKEN))
    answer = client.get(
        "/told?Vary=cookie,%20Accept&Access-Control-Expose-Headers=session-token", headers=BEARER
    )
    assert answer.headers["vary"] == "cookie, Accept, Authorization"
    assert answer.headers["access-control-expose-headers"] == "session-token"
    answer = client.get("/told?Vary=*&Access-Control-Expose-Headers=*", headers=BEARER)
    assert answer.headers["vary"] == "*"
    assert answer.headers["access-control-expose-headers"] == "*, Session-Token"


def test_token_is_handed_to_a_cookie_client(
    client: TestClient, async_gate: Gate, ada: Principal
) -> None:
    session = _session(datetime.now(UTC) + timedelta(hours=1))
    _script(async_gate, Admitted(replace(ada, session=session), hand_out=TOKEN), "cookie")
    answer = client.get("/told", headers=COOKIE)
    cookie, _, age = answer.headers["set-cookie"].rpartition("; Max-Age=")
    assert cookie == f"__Host-session={TOKEN.decode()}; Path=/; Secure; HttpOnly; SameSite=Lax"
    assert 3500 < int(age) <= 3600
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["vary"] == "Authorization, Cookie"
    assert "session-token" not in answer.headers


def test_cookie_is_as_the_settings_say(
    settings: Callable[..., Settings], async_gate: Gate, ada: Principal
) -> None:
    cookie = {"name": "__Host-sid", "same_site": "strict", "secure": False}
    client = _client(
        settings({"cookie": "access_token"}, cookie=cookie, environment="test"), async_gate
    )
    _script(async_gate, Admitted(ada, hand_out=TOKEN), "cookie")
    answer = client.get("/told", headers=COOKIE)
    assert (
        answer.headers["set-cookie"] == f"sid={TOKEN.decode()}; Path=/; HttpOnly; SameSite=Strict"
    )


@pytest.mark.parametrize(
    ("method", "target"),
    [
        ("GET", "/told?status=500"),
        ("GET", "/told?status=503"),
        ("GET", "/told?status=304"),
        ("GET", "/told?status=401"),  # the app's own list may name this JWT
        ("HEAD", "/told"),
        ("OPTIONS", "/told"),
        ("GET", "/told?status=302&Location=https://evil.example/"),
        ("GET", "/told?status=307&Location=//evil.example/"),
        ("GET", "/told?status=303&Location=/%5Cevil.example/"),
        ("GET", "/told?status=302&Location=https://api.example.evil/"),
        ("GET", "/login"),
    ],
)
def test_token_is_never_handed_out_there(
    client: TestClient, async_gate: Gate, ada: Principal, method: str, target: str
) -> None:
    for place, credential in (("header", BEARER), ("cookie", COOKIE)):
        _script(async_gate, Admitted(ada, hand_out=TOKEN), place)
        answer = client.request(method, target, headers=credential)
        assert TOKEN.decode() not in str(answer.headers)


@pytest.mark.parametrize(
    "target",
    [
        "/told?status=403",
        "/told?status=404",
        "/told?status=204",
        "/told?status=302&Location=/next?to=https://a.b",
        "/told?status=302&Location=https://api.example/next",
        "/told?status=302&Location=https://API.example:443",
    ],
)
def test_token_is_handed_out_on_any_other_answer(
    client: TestClient, async_gate: Gate, ada: Principal, target: str
) -> None:
    _script(async_gate, Admitted(ada, hand_out=TOKEN))
    assert client.get(target, headers=BEARER).headers["session-token"] == TOKEN.decode()


def test_token_is_never_handed_to_a_query_string(
    client: TestClient, async_gate: Gate, ada: Principal
) -> None:
    _script(async_gate, Admitted(ada, hand_out=TOKEN), "query")
    answer = client.get("/?token=jwt")
    assert answer.json()["subject"] == "ada"
    assert TOKEN.decode() not in str(answer.headers)


def test_what_the_app_itself_answers_stands(
    client: TestClient, async_gate: Gate, ada: Principal
) -> None:
    """A login that sets our cookie, a logout that clears it: neither is written over."""
    _script(async_gate, Admitted(ada, hand_out=TOKEN), "cookie", dead=True)
    answer = client.get("/told?Set-Cookie=__Host-session=new", headers={**COOKIE, **NAVIGATION})
    assert answer.headers.get_list("set-cookie") == ["__Host-session=new"]
    _script(async_gate, Admitted(ada, hand_out=TOKEN))
    answer = client.get("/told?Session-Token=new", headers=BEARER)
    assert answer.headers.get_list("session-token") == ["new"]


def test_draining_client_is_told_until_when(
    settings: Callable[..., Settings], async_gate: Gate, ada: Principal
) -> None:
    http = {"deprecation_link": "https://acme.example/sessions"}
    client = _client(settings(http=http), async_gate)
    sunset = datetime(2026, 12, 1, 1, 0, tzinfo=timezone(timedelta(hours=1)))
    notice = Notice(datetime(2026, 11, 23, tzinfo=UTC), sunset)
    _script(async_gate, Admitted(ada, notice=notice))
    answer = client.get("/told?Link=%3C/next%3E", headers=BEARER)
    assert answer.headers["deprecation"] == "@1795392000"
    assert answer.headers["sunset"] == "Tue, 01 Dec 2026 00:00:00 GMT"
    assert answer.headers.get_list("link") == [
        "</next>",
        '<https://acme.example/sessions>; rel="deprecation"; type="text/html"',
        '<https://acme.example/sessions>; rel="sunset"; type="text/html"',
    ]
    assert answer.headers["cache-control"] == "private"
    assert answer.headers["vary"] == "Authorization, Cookie"
    _script(async_gate, Admitted(ada, notice=Notice(notice.deprecated_at, None)))
    answer = client.get("/told?Deprecation=@1", headers=BEARER)
    assert answer.headers.get_list("deprecation") == ["@1"]
    assert "sunset" not in answer.headers
    assert len(answer.headers.get_list("link")) == 1
    answer = client.get("/told?Cache-Control=max-age=9", headers=BEARER)
    assert answer.headers.get_list("cache-control") == ["max-age=9"]


def test_a_client_whose_jwt_is_retired_is_told_where_to_read_on(
    settings: Callable[..., Settings], async_gate: Gate
) -> None:
    client = _client(settings(http={"deprecation_link": "https://acme.example/s"}), async_gate)
    _script(async_gate, Refused(Reason.LEGACY_RETIRED))
    assert client.get("/", headers=BEARER).headers["www-authenticate"] == (
        'Bearer error="invalid_token", error_description="legacy token retired", '
        'error_uri="https://acme.example/s"'
    )
    _script(async_gate, Refused(Reason.DENIED))
    challenge = client.get("/", headers=BEARER).headers["www-authenticate"]
    assert challenge == 'Bearer error="invalid_token"'


DEAD = {"Cookie": "a=1; __Host-session=jwt; b=2"}
CLEARED = "__Host-session=; Path=/; Secure; HttpOnly; SameSite=Lax; Max-Age=0"


@pytest.mark.parametrize(
    ("headers", "is_cleared"),
    [
        ({"Sec-Fetch-Mode": "navigate"}, True),
        ({"Sec-Fetch-Mode": "cors", "Accept": "text/html"}, False),
        ({"Accept": "text/html,*/*"}, True),
        ({"Accept": "application/json"}, False),
    ],
)
def test_dead_cookie_is_hidden_and_cleared_on_navigations_only(
    client: TestClient, async_gate: Gate, headers: dict[str, str], is_cleared: bool
) -> None:
    _script(async_gate, Passed(), None, dead=True)
    answer = client.get("/", headers={**DEAD, **headers})
    assert answer.json()["headers"]["cookie"] == "a=1; b=2"
    assert answer.json()["in"] is False
    assert answer.headers.get("set-cookie") == (CLEARED if is_cleared else None)


def test_dead_cookie_beside_a_good_header_is_hidden(
    client: TestClient, async_gate: Gate, ada: Principal
) -> None:
    _script(async_gate, Admitted(ada), dead=True)
    said = client.get("/", headers={**BEARER, "Cookie": "__Host-session=x"}).json()
    assert said["subject"] == "ada"
    assert "cookie" not in said["headers"]


def test_dead_credential_is_stripped_where_the_gate_says_so(
    client: TestClient, async_gate: Gate
) -> None:
    _script(async_gate, Passed(Reason.LEGACY_EXPIRED, strip=True))
    said = client.get("/?token=jwt&a=1", headers={**BEARER, **COOKIE}).json()
    assert "authorization" not in said["headers"]
    assert said["headers"]["cookie"] == "theme=dark; lang=en"
    assert said["query"] == "a=1"
    assert said["subject"] is None


def test_passed_credential_goes_to_the_app_as_it_came(
    client: TestClient, async_gate: Gate
) -> None:
    _script(async_gate, Passed(Reason.LEGACY_EXPIRED))
    said = client.get("/?token=jwt", headers={**BEARER, **COOKIE}).json()
    assert said["headers"]["authorization"] == "Bearer jwt"
    assert said["headers"]["cookie"] == COOKIE["Cookie"]
    assert said["query"] == "token=jwt"
    assert async_gate.counted == [("/", 200)]


def test_identity_headers_of_a_client_never_reach_the_app(
    client: TestClient, async_gate: Gate, ada: Principal
) -> None:
    lies = {"X-Auth-User": "root", "x_auth_user": "root", "Remote-User": "root"}
    assert "root" not in client.get("/", headers=lies).text
    _script(async_gate, Admitted(ada))
    assert "root" not in client.get("/", headers={**lies, **BEARER}).text


def test_post_from_another_site_is_told_to_the_gate(client: TestClient, async_gate: Gate) -> None:
    client.post("/", headers={**COOKIE, "Sec-Fetch-Site": "cross-site"})
    client.post("/", headers={**COOKIE, "Sec-Fetch-Site": "same-origin"})
    assert [presented.forged for presented in async_gate.asked] == [True, False]


@pytest.mark.parametrize("value", [b"Bearer \xff\x80", b"\xff", b"Bearer \x00", b"B\xe9arer x"])
def test_strange_bytes_are_no_error(client: TestClient, value: bytes) -> None:
    strange: Any = [(b"Authorization", value), (b"Cookie", b"__Host-session=" + value)]
    assert client.get("/", headers=strange).status_code == 200


def test_websocket_handshake_is_admitted_and_handed_a_cookie(
    client: TestClient, async_gate: Gate, ada: Principal
) -> None:
    _script(async_gate, Admitted(ada, hand_out=TOKEN), "cookie")
    with client.websocket_connect("/talk", headers=COOKIE) as websocket:
        assert websocket.receive_json() == {"identity": "ada"}
        extra: Any = websocket.extra_headers
        headers = dict(extra)
        assert headers[b"set-cookie"].startswith(b"__Host-session=" + TOKEN)
    assert not async_gate.asked[0].forged


def test_websocket_opened_by_another_site_is_told_to_the_gate(
    client: TestClient, async_gate: Gate
) -> None:
    headers = {**COOKIE, "Origin": "https://evil.example"}
    with client.websocket_connect("/talk", headers=headers):
        pass
    assert async_gate.asked[0].forged


def test_refused_websocket_is_answered_in_http_where_the_server_can(
    client: TestClient, async_gate: Gate
) -> None:
    _script(async_gate, Refused(Reason.BAD_TOKEN))
    with (
        pytest.raises(WebSocketDenialResponse) as denied,
        client.websocket_connect("/talk", headers=BEARER),
    ):
        pass
    assert denied.value.status_code == 401
    assert denied.value.json() == {"error": "invalid_token", "reason": "invalid"}


async def _call(
    middleware: DualAcceptMiddleware, scope: Scope, *received: Message
) -> list[Message]:
    inbox, sent = list(received), []

    async def receive() -> Message:
        return inbox.pop(0)

    async def send(message: Message) -> None:
        sent.append(message)

    await middleware(scope, receive, send)
    return sent


def _run(coroutine: Any) -> Any:
    """Drives a coroutine that never suspends: a middleware that waits for nothing does not."""
    with pytest.raises(StopIteration) as done:
        coroutine.send(None)
    return done.value.value


@pytest.mark.parametrize(("is_down", "code"), [(False, 1008), (True, 1013)])
def test_refused_websocket_is_closed_where_the_server_cannot(
    settings: Callable[..., Settings], async_gate: Gate, is_down: bool, code: int
) -> None:
    async def app(scope: Scope, receive: Any, send: Any) -> None:
        raise AssertionError("the app was reached")

    async_gate.is_down = is_down
    _script(async_gate, Refused(Reason.BAD_TOKEN))
    scope = {
        "type": "websocket",
        "path": "/",
        "headers": [(b"authorization", b"Bearer jwt")],
    }
    middleware = DualAcceptMiddleware(app, settings(), gate=async_gate)
    sent = _run(_call(middleware, scope, {"type": "websocket.connect"}))
    assert [(one["type"], one["code"]) for one in sent] == [("websocket.close", code)]


def test_remembered_credential_gets_the_servers_own_send_and_leaves_its_scope_alone(
    settings: Callable[..., Settings], async_gate: Gate, ada: Principal
) -> None:
    seen: list[tuple[Scope, object]] = []

    async def app(scope: Scope, receive: Any, send: Any) -> None:
        seen.append((scope, send))

    async def send(message: Message) -> None:
        raise AssertionError

    async_gate.remembers = True
    _script(async_gate, Admitted(ada))
    headers = [[b"AUTHORIZATION", b"Bearer jwt"], [b"Remote_User", b"root"]]
    state = {"pool": 1}
    scope = {"type": "http", "method": "GET", "path": "/", "headers": headers, "state": state}
    before = {**scope, "headers": [*headers], "state": {**state}}
    middleware: Any = DualAcceptMiddleware(app, settings(), gate=async_gate)
    _run(middleware(scope, None, send))
    assert scope == before
    ((inner, given),) = seen
    assert given is send
    assert inner["state"] == {"pool": 1, "principal": ada}
    assert inner["headers"] == [[b"AUTHORIZATION", b"Bearer jwt"]]


def test_shutdown_closes_the_gate_once(client: TestClient, async_gate: Gate) -> None:
    assert async_gate.closed == 0
    client.__exit__()
    assert async_gate.closed == 1


def test_app_without_lifespan_fails_as_it_would_alone(
    settings: Callable[..., Settings], async_gate: Gate
) -> None:
    async def app(scope: Scope, receive: Any, send: Any) -> None:
        raise NotImplementedError(scope["type"])

    middleware = DualAcceptMiddleware(app, settings(), gate=async_gate)
    with pytest.raises(NotImplementedError):
        _call(middleware, {"type": "lifespan"}).send(None)
