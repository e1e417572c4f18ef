from __future__ import annotations

import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, TypeAlias
from wsgiref.simple_server import WSGIRequestHandler, make_server
from wsgiref.validate import validator

import flask
import pytest
from werkzeug.test import Client

from migrator.core.presented import Outcome
from migrator.core.verdicts import Admitted, Notice, Passed, Principal, Reason, Refused, Verdict
from migrator.settings import Settings
from shims.wsgi import DualAcceptMiddleware

Gate: TypeAlias = Any  # the ScriptedGate of conftest.py

TOKEN = b"sess_" + b"7" * 49
BEARER = {"Authorization": "Bearer jwt"}
COOKIE = {"Cookie": "theme=dark; access_token=jwt; lang=en"}


def _flask() -> flask.Flask:
    app = flask.Flask(__name__)

    @app.route("/", methods=["GET", "POST", "PUT"])
    @app.route("/login")
    def echo() -> dict[str, object]:
        environ = flask.request.environ
        principal = environ["migrator.principal"]
        return {
            "user": flask.request.remote_user,
            "subject": None if principal is None else principal.subject,
            "headers": dict(flask.request.headers),
            "query": flask.request.query_string.decode(),
        }

    @app.route("/told", methods=["GET", "OPTIONS"])
    def told() -> flask.Response:
        response = flask.Response("body", status=int(flask.request.args.get("status", "200")))
        for name, value in flask.request.args.items(multi=True):
            if name != "status":
                response.headers.add(name, value)
        return response

    @app.route("/stream")
    def stream() -> flask.Response:
        return flask.Response(f"{number}\n" for number in range(3))

    return app


def _wrapped(settings: Settings, gate: Gate, app: Any = None) -> DualAcceptMiddleware:
    return DualAcceptMiddleware(app or _flask().wsgi_app, settings, gate=gate)


@pytest.fixture
def everywhere(settings: Callable[..., Settings]) -> Settings:
    return settings(
        {"header": "Authorization", "scheme": "Bearer"},
        {"header": "X-Token"},
        {"cookie": "access_token"},
        {"query": "token"},
        routes={"login": ["/login"]},
    )


@pytest.fixture
def client(everywhere: Settings, gate: Gate) -> Client:
    return Client(_wrapped(everywhere, gate), use_cookies=False)


def _script(gate: Gate, verdict: Verdict, place: Any = "header", *, dead: bool = False) -> None:
    gate.answers[b"jwt"] = Outcome(verdict, place, dead_cookie=dead)


def _json(client: Client, *arguments: Any, **options: Any) -> Any:
    return client.get(*arguments, **options).get_json()


def test_request_without_a_credential_never_reaches_the_gate(client: Client, gate: Gate) -> None:
    gate.is_down = True
    said = _json(client, "/", headers={"Cookie": "theme=dark"})
    assert said["user"] is None
    assert said["subject"] is None
    assert said["headers"]["Cookie"] == "theme=dark"
    assert gate.asked == []


@pytest.mark.parametrize("remembers", [True, False])
def test_admitted_principal_is_what_wsgi_apps_read(
    client: Client, gate: Gate, ada: Principal, remembers: bool
) -> None:
    gate.remembers = remembers
    _script(gate, Admitted(ada))
    said = _json(client, "/", headers=BEARER)
    assert said["user"] == said["subject"] == "ada"
    assert said["headers"]["Authorization"] == "Bearer jwt"


def test_gate_is_told_what_the_request_was(client: Client, gate: Gate) -> None:
    curl = {**BEARER, "User-Agent": "curl/8"}
    client.get("/login", headers=curl, environ_overrides={"REMOTE_ADDR": "127.0.0.1"})
    client.get("/login", base_url="http://localhost/v1", headers=BEARER)
    client.get("/caf\u00e9", headers=BEARER)
    first, mounted, accented = gate.asked
    assert (first.path, first.route, first.user_agent) == ("/login", "login", "curl/8")
    assert first.ip == "127.0.0.1"
    assert (mounted.path, mounted.route) == ("/v1/login", "login")
    assert accented.path == "/caf\u00e9"


@pytest.mark.parametrize(
    ("reason", "status", "body"),
    [
        (Reason.BAD_SIGNATURE, 401, {"error": "invalid_token", "reason": "invalid"}),
        (Reason.REPEATED_CREDENTIAL, 400, {"error": "invalid_request"}),
        (Reason.CSRF, 403, {"error": "csrf"}),
    ],
)
def test_refusal_says_the_coarse_word_and_nothing_finer(
    client: Client, gate: Gate, reason: Reason, status: int, body: dict[str, str]
) -> None:
    _script(gate, Refused(reason))
    answer = client.get("/", headers=BEARER)
    assert (answer.status_code, answer.get_json()) == (status, body)
    assert answer.headers["Cache-Control"] == "no-store"
    challenge = 'Bearer error="invalid_token"' if status == 401 else None
    assert answer.headers.get("WWW-Authenticate") == challenge


def test_unasked_store_is_503(client: Client, gate: Gate) -> None:
    gate.is_down = True
    answer = client.get("/", headers=BEARER)
    assert (answer.status_code, answer.get_json()) == (503, {"error": "temporarily_unavailable"})
    assert int(answer.headers["Retry-After"]) >= 1


def test_status_without_a_name_is_answered(settings: Callable[..., Settings], gate: Gate) -> None:
    client = Client(_wrapped(settings(http={"refusal": {"status": 498}}), gate))
    _script(gate, Refused(Reason.BAD_TOKEN))
    assert client.get("/", headers=BEARER).status_code == 498


def test_token_is_handed_to_a_header_client(client: Client, gate: Gate, ada: Principal) -> None:
    _script(gate, Admitted(ada, hand_out=TOKEN))
    answer = client.get("/told?Cache-Control=public&Vary=Accept", headers=BEARER)
    assert answer.headers["Session-Token"] == TOKEN.decode()
    assert answer.headers.getlist("Cache-Control") == ["no-store"]
    assert answer.headers["Vary"] == "Accept, Authorization, Cookie"
    assert answer.headers["Access-Control-Expose-Headers"] == "Session-Token"


def test_token_is_handed_to_a_cookie_client(client: Client, gate: Gate, ada: Principal) -> None:
    _script(gate, Admitted(ada, hand_out=TOKEN), "cookie")
    answer = client.get("/told", headers=COOKIE)
    cookie = f"__Host-session={TOKEN.decode()}; Path=/; Secure; HttpOnly; SameSite=Lax"
    assert answer.headers.getlist("Set-Cookie") == [cookie]


@pytest.mark.parametrize(
    ("method", "target"),
    [
        ("GET", "/told?status=500"),
        ("GET", "/told?status=304"),
        ("HEAD", "/told"),
        ("OPTIONS", "/told"),
        ("GET", "/told?status=302&Location=https://evil.example/"),
        ("GET", "/login"),
    ],
)
def test_token_is_never_handed_out_there(
    client: Client, gate: Gate, ada: Principal, method: str, target: str
) -> None:
    _script(gate, Admitted(ada, hand_out=TOKEN))
    answer = client.open(target, method=method, headers=BEARER)
    assert TOKEN.decode() not in str(answer.headers)


def test_draining_client_is_told(client: Client, gate: Gate, ada: Principal) -> None:
    _script(gate, Admitted(ada, notice=Notice(datetime(2026, 11, 23, tzinfo=UTC), None)))
    assert client.get("/told", headers=BEARER).headers["Deprecation"] == "@1795392000"


def test_dead_cookie_is_hidden_and_cleared_on_navigations_only(client: Client, gate: Gate) -> None:
    _script(gate, Passed(), None, dead=True)
    dead = {"Cookie": "a=1; __Host-session=jwt; b=2"}
    answer = client.get("/", headers={**dead, "Sec-Fetch-Mode": "navigate"})
    assert answer.get_json()["headers"]["Cookie"] == "a=1; b=2"
    cleared = "__Host-session=; Path=/; Secure; HttpOnly; SameSite=Lax; Max-Age=0"
    assert answer.headers.getlist("Set-Cookie") == [cleared]
    answer = client.get("/", headers={**dead, "Sec-Fetch-Mode": "cors"})
    assert "Set-Cookie" not in answer.headers


def test_dead_credential_is_stripped_where_the_gate_says_so(client: Client, gate: Gate) -> None:
    _script(gate, Passed(Reason.LEGACY_EXPIRED, strip=True))
    said = _json(client, "/?token=jwt&a=1", headers={**BEARER, "Cookie": "access_token=jwt"})
    assert "Authorization" not in said["headers"]
    assert "Cookie" not in said["headers"]
    assert said["query"] == "a=1"


def test_passed_credential_goes_to_the_app_as_it_came_and_is_counted(
    client: Client, gate: Gate
) -> None:
    _script(gate, Passed(Reason.LEGACY_EXPIRED))
    said = _json(client, "/?token=jwt", headers={**BEARER, **COOKIE})
    assert said["headers"]["Authorization"] == "Bearer jwt"
    assert said["headers"]["Cookie"] == COOKIE["Cookie"]
    assert said["query"] == "token=jwt"
    assert gate.counted == [("/", 200)]


def test_identity_headers_of_a_client_never_reach_the_app(
    client: Client, gate: Gate, ada: Principal
) -> None:
    lies = {"X-Auth-User": "root", "X_User_Id": "root", "Remote-User": "root"}
    for headers in (lies, {**lies, **BEARER}):
        said = client.get("/", headers=headers, environ_overrides={"REMOTE_USER": "root"})
        assert "root" not in said.get_data(as_text=True)
    _script(gate, Admitted(ada))
    assert _json(client, "/", headers={**lies, **BEARER})["user"] == "ada"


def test_post_from_another_site_is_told_to_the_gate(client: Client, gate: Gate) -> None:
    client.post("/", headers={**COOKIE, "Origin": "https://evil.example"})
    client.post("/", headers={**COOKIE, "Origin": "http://localhost"})
    client.post("/", headers={**COOKIE, "Sec-Fetch-Site": "cross-site"})
    assert [presented.forged for presented in gate.asked] == [True, False, True]


@pytest.mark.parametrize("value", ["Bearer \xff\x80", "\xff", "Bearer \u20ac", "\udc80"])
def test_strange_characters_are_no_error(everywhere: Settings, gate: Gate, value: str) -> None:
    def app(environ: Any, start_response: Any) -> list[bytes]:
        start_response("204 No Content", [])
        return [environ["PATH_INFO"].encode("utf-8", "replace")]

    gate.otherwise = Outcome(Passed(Reason.BAD_TOKEN, strip=True), dead_cookie=True)
    keys = ("HTTP_AUTHORIZATION", "HTTP_X_TOKEN", "HTTP_USER_AGENT", "QUERY_STRING", "PATH_INFO")
    started: list[str] = []
    environ: Any = dict.fromkeys(keys, value)
    environ |= {"REQUEST_METHOD": "POST", "HTTP_COOKIE": f"a={value}; __Host-session=jwt"}
    middleware = _wrapped(everywhere, gate, app)
    middleware(environ, lambda status, _: started.append(status))  # type: ignore[arg-type]  # the least that a server gives
    assert started == ["204 No Content"]


class _Late:
    """An app that streams, calls start_response late, fails half-way and must be closed."""

    def __init__(self) -> None:
        self.closed = 0

    def __call__(self, _: Any, start_response: Any) -> Iterable[bytes]:
        return _Body(self, start_response)


class _Body:
    def __init__(self, app: _Late, start_response: Any) -> None:
        self.app = app
        self.parts = self._parts(start_response)

    def _parts(self, start_response: Any) -> Iterator[bytes]:
        write = start_response("200 OK", [("Content-Type", "text/plain")])
        write(b"written ")
        error = ValueError()
        again = (ValueError, error, None)
        start_response("203 Well", [("Content-Type", "text/plain")], again)
        yield b"yielded"

    def __iter__(self) -> Iterator[bytes]:
        return self.parts

    def close(self) -> None:
        self.app.closed += 1


def test_late_start_write_and_close_stay_the_apps(
    everywhere: Settings, gate: Gate, ada: Principal
) -> None:
    app = _Late()
    started: list[tuple[str, dict[str, str], bool]] = []
    written: list[bytes] = []

    def start_response(status: str, headers: Any, exc_info: Any = None) -> Callable[[bytes], None]:
        started.append((status, dict(headers), exc_info is not None))
        return written.append

    _script(gate, Admitted(ada, hand_out=TOKEN))
    environ = {
        "REQUEST_METHOD": "GET",
        "PATH_INFO": "/",
        "HTTP_AUTHORIZATION": "Bearer jwt",
    }
    body = _wrapped(everywhere, gate, app)(environ, start_response)
    assert started == []
    assert list(body) == [b"yielded"]
    body.close()  # type: ignore[attr-defined]  # a server closes what can be closed
    assert (written, app.closed) == ([b"written "], 1)
    assert [(status, again) for status, _, again in started] == [
        ("200 OK", False),
        ("203 Well", True),
    ]
    assert all(headers["Session-Token"] == TOKEN.decode() for _, headers, _ in started)


def test_remembered_credential_gets_the_servers_own_start_response(
    everywhere: Settings, gate: Gate, ada: Principal
) -> None:
    seen: list[object] = []

    def app(environ: Any, start_response: Any) -> list[bytes]:
        seen.append(start_response)
        return []

    def start_response(*_: Any) -> Any:
        raise AssertionError

    gate.remembers = True
    _script(gate, Admitted(ada))
    environ: Any = {"REQUEST_METHOD": "GET", "HTTP_AUTHORIZATION": "Bearer jwt"}
    _wrapped(everywhere, gate, app)(environ, start_response)
    assert seen == [start_response]
    assert environ["migrator.principal"] is ada


class _Quiet(WSGIRequestHandler):
    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def origin(everywhere: Settings, gate: Gate) -> Iterator[str]:
    """A real server, with the standard library's own judge of WSGI on both sides of the shim."""
    inner: Any = validator(_flask().wsgi_app)
    outer = validator(_wrapped(everywhere, gate, inner))
    with make_server("127.0.0.1", 0, outer, handler_class=_Quiet) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def _ask(url: str, headers: dict[str, str]) -> tuple[int, dict[str, str], bytes]:
    request = urllib.request.Request(url, headers=headers)
    try:
        with urllib.request.urlopen(request) as answer:
            return answer.status, dict(answer.headers), answer.read()
    except urllib.error.HTTPError as refusal:
        with refusal:
            return refusal.code, dict(refusal.headers), refusal.read()


def test_every_kind_of_answer_is_lawful_wsgi(origin: str, gate: Gate, ada: Principal) -> None:
    assert _ask(origin, {})[0] == 200
    _script(gate, Admitted(ada, hand_out=TOKEN))
    status, headers, body = _ask(f"{origin}/stream", BEARER)
    assert (status, body) == (200, b"0\n1\n2\n")
    assert headers["Session-Token"] == TOKEN.decode()
    _script(gate, Refused(Reason.DENIED))
    assert _ask(origin, BEARER)[0] == 401
    gate.is_down = True
    assert _ask(origin, BEARER)[0] == 503


def test_headers_joined_by_the_server_are_a_fault(client: Client, gate: Gate) -> None:
    client.get("/", headers=[("Authorization", "Bearer jwt"), ("Authorization", "Bearer other")])
    assert [presented.fault for presented in gate.asked] == [Reason.REPEATED_CREDENTIAL]


def test_cookie_lines_joined_by_the_server_are_judged_each(client: Client, gate: Gate) -> None:
    client.get("/", headers=[("Cookie", "access_token=jwt"), ("Cookie", "access_token=other")])
    (presented,) = gate.asked
    copies = (presented.legacy, *presented.legacy_copies)
    assert {each.value for each in copies} >= {b"other"}
    assert len(copies) == 2
    lines = [("Cookie", "__Host-session=one"), ("Cookie", "__Host-session=two")]
    client.get("/", headers=lines)
    copies = (gate.asked[-1].session_cookie, *gate.asked[-1].session_copies)
    assert {each.value for each in copies} == {b"one", b"two"}


def test_principal_of_one_request_is_not_the_next_ones(
    client: Client, gate: Gate, ada: Principal
) -> None:
    _script(gate, Admitted(ada))
    gate.answers[b"other"] = Outcome(Admitted(replace(ada, subject="bob")), "header")
    assert _json(client, "/", headers=BEARER)["user"] == "ada"
    assert _json(client, "/", headers={"X-Token": "other"})["user"] == "bob"
    assert _json(client, "/")["user"] is None
