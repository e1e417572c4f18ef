"""What comes from outside gives nothing by itself, and what a proxy changes on the way is as said.

The app is a mirror here: its answers show what reached it.
"""

from __future__ import annotations

import itertools
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import jwt
import pytest

from shims.credentials import IDENTITY_HEADERS
from tests.http.servers import Answer, bearer
from tests.system.proxies.conftest import Ground, reach
from tests.system.proxies.mirror import mirror
from tests.system.proxies.standing import ACCESS_SECRET, Site

pytestmark = [pytest.mark.system, pytest.mark.timeout(300)]


def sign(user: int = 7, *, lasts_s: int = 3600, **claims: object) -> str:
    """A JWT as the app signs it."""
    now = int(time.time())
    payload = {"userId": user, "email": "dia@notes.example", "role": "user", "iat": now}
    return jwt.encode({**payload, "exp": now + lasts_s, **claims}, ACCESS_SECRET, "HS256")


@dataclass(frozen=True, slots=True)
class Seen:
    """A request as it reached the app."""

    lines: tuple[tuple[str, str], ...]

    @classmethod
    def of(cls, answer: Answer) -> Seen:
        assert answer.status == 200, answer
        said: dict[str, Any] = answer.json
        return cls(tuple((name.lower(), value) for name, value in said["lines"]))

    def all(self, name: str) -> list[str]:
        return [value for key, value in self.lines if key == name.lower()]


@pytest.fixture(scope="module")
def reflected(kind: str, ground: Ground) -> Iterator[Site]:
    """A site with a mirror for an app, in `swap` for everybody."""
    with mirror() as port, ground.site(kind, port) as made:
        made.move("swap")
        yield made


def token_of(site: Site, user: int = 7) -> str:
    """A session token, as a client gets one."""
    token = site.get("/", bearer(sign(user, jti=uuid.uuid4().hex))).get("session-token")
    assert token is not None
    return token


def spellings(name: str) -> Iterator[str]:
    parts = name.split("-")
    for marks in itertools.product("-_", repeat=len(parts) - 1):
        spelt = parts[0] + "".join(map("".join, zip(marks, parts[1:], strict=True)))
        yield from (spelt, spelt.title(), spelt.upper())


LIES = [spelt for name in sorted(IDENTITY_HEADERS) for spelt in spellings(name.decode())]


def test_an_identity_header_in_any_spelling_gives_nothing(reflected: Site) -> None:
    token = token_of(reflected)
    lies = [(name, "root") for name in LIES]
    for path, credential in (("/", [bearer(token)]), ("/api/health", [])):
        for at in range(0, len(lies), 30):
            some = lies[at : at + 30]
            seen = Seen.of(reflected.send("GET", path, *credential, *some))
            assert "root" not in [value for _, value in seen.lines]
    assert Seen.of(reflected.get("/", bearer(token))).all("remote-user") == ["7"]
    assert Seen.of(reflected.get("/api/health", ("Remote-User", "7"))).all("remote-user") == []


def test_the_app_gets_a_jwt_for_a_session_and_never_the_token(reflected: Site) -> None:
    token = token_of(reflected)
    for line in (bearer(token), ("Cookie", f"theme=dark; session={token}; locale=en")):
        answer = reflected.get("/", line)
        seen = Seen.of(answer)
        assert token not in str(seen.lines)
        shown = [value for name in ("authorization", "cookie") for value in seen.all(name)]
        found = next(part for part in " ".join(shown).replace("=", " ").split() if "." in part)
        claims = jwt.decode(found.rstrip(";"), ACCESS_SECRET, ["HS256"])
        assert (claims["userId"], claims["role"]) == (7, "user")
        told = [name.lower() for name, _ in answer.lines]
        assert not {"remote-user", "authorization", "x-forward-cookie"} & set(told)
    cookies = Seen.of(reflected.get("/", ("Cookie", f"theme=dark; session={token}; a=b")))
    assert "theme=dark" in cookies.all("cookie")[0]


def test_a_client_s_own_jwt_reaches_the_app_byte_for_byte(reflected: Site) -> None:
    own = sign(8)
    assert Seen.of(reflected.get("/", bearer(own))).all("authorization") == [f"Bearer {own}"]
    cookie = f"theme=dark; access_token={own}"
    assert Seen.of(reflected.get("/", ("Cookie", cookie))).all("cookie") == [cookie]


@pytest.mark.parametrize("path", ["/", "/api/health", "/api/auth/login", "/api/auth/refresh"])
def test_a_jwt_of_the_bridge_is_refused_from_outside(reflected: Site, path: str) -> None:
    seen = Seen.of(reflected.get("/", bearer(token_of(reflected))))
    [line] = seen.all("authorization")
    stolen = line.removeprefix("Bearer ")
    method = "POST" if "auth" in path else "GET"
    for credential in (bearer(stolen), ("Cookie", f"access_token={stolen}")):
        answer = reflected.send(method, path, credential)
        if answer.status == 200:  # a public route: the request is nobody's
            assert stolen not in str(Seen.of(answer).lines)
            assert Seen.of(answer).all("remote-user") == []
        else:
            assert answer.status == 401


@pytest.mark.parametrize(
    "path",
    [
        *("/forward-auth", "/forward-auth/refusal", "/metrics", "/oauth2/introspect", "/readyz"),
        *("/sessions/../forward-auth", "/api/auth/login/../../../forward-auth", "//forward-auth"),
        *("/api/auth/login%2f..%2f..%2f..%2fforward-auth", "/session/%2e%2e/forward-auth"),
    ],
)
def test_what_only_the_proxy_may_ask_is_the_app_s_path_from_outside(
    reflected: Site, path: str
) -> None:
    """The answer of /forward-auth holds the JWT that the app is to get."""
    answer = reflected.get(path, bearer(token_of(reflected)))
    if answer.status == 200:
        assert Seen.of(answer).all("host"), "the mirror answered"
    else:
        assert answer.status in {400, 404}
    told = {name.lower() for name, _ in answer.lines}
    assert not {"authorization", "remote-user", "x-forward-cookie"} & told


def test_a_client_cannot_say_which_route_it_asks_for(reflected: Site) -> None:
    """A cookie on an unsafe method from another site, dressed up as something harmless."""
    cookie = ("Cookie", f"session={token_of(reflected)}")
    site = ("Sec-Fetch-Site", "cross-site")
    for lie in (
        ("X-Forwarded-Method", "GET"),
        ("X-Original-Method", "GET"),
        ("X-Forwarded-Uri", "/api/health"),
        ("X-Original-URI", "/api/health"),
        ("X-HTTP-Method", "GET"),
    ):
        answer = reflected.send("POST", "/transfer", cookie, site, lie, body=b"{}")
        assert (answer.status, answer.json) == (403, {"error": "csrf"})
        assert reflected.get("/", lie).status == 401


def test_a_web_socket_of_another_site_is_refused(reflected: Site) -> None:
    answer = reflected.get(
        "/live",
        ("Cookie", f"session={token_of(reflected)}"),
        ("Connection", "Upgrade"),
        ("Upgrade", "websocket"),
        ("Sec-WebSocket-Version", "13"),
        ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
        ("Sec-Fetch-Site", "cross-site"),
    )
    assert answer.status == 403


def test_refusals_arrive_with_their_status_headers_and_body(reflected: Site) -> None:
    expected = {"error": {"code": "unauthorized", "message": "Log in first"}}
    ended = token_of(reflected)
    reflected.send("POST", "/api/auth/logout", bearer(ended))
    for credential, challenge in (
        ([], "Bearer"),
        ([bearer(ended)], 'Bearer error="invalid_token"'),
        ([bearer("sess_" + "0" * 49)], 'Bearer error="invalid_token"'),
        ([bearer(sign() + "x")], 'Bearer error="invalid_token"'),
    ):
        answer = reflected.send("GET", "/", *credential)
        assert (answer.status, answer.json) == (401, expected)
        assert answer.get("www-authenticate") == challenge
    both = reflected.get("/", bearer(token_of(reflected, 7)), _cookie(token_of(reflected, 9)))
    assert (both.status, both.json) == (400, {"error": "invalid_request"})
    assert reflected.send("HEAD", "/", bearer("sess_none")).status == 401


def _cookie(token: str) -> tuple[str, str]:
    return ("Cookie", f"session={token}")


@pytest.mark.parametrize("status", [200, 201, 204, 401, 403, 404, 409, 422, 500, 503])
def test_the_app_s_own_status_and_body_arrive(reflected: Site, status: int) -> None:
    answer = reflected.get(f"/status/{status}", bearer(token_of(reflected)))
    assert answer.status == status
    assert bool(answer.body) == (status != 204)
    assert [line.partition("=")[0] for line in answer.all("set-cookie")] == ["theme", "locale"]


@pytest.mark.parametrize(
    ("path", "handed"),
    [
        *(("/", True), ("/status/201", True), ("/status/404", True)),
        *(("/status/304", False), ("/status/500", False), ("/away", False)),
    ],
)
def test_a_token_is_handed_out_on_answers_that_clients_keep(
    reflected: Site, path: str, handed: bool
) -> None:
    own = sign(jti=path)
    answer = reflected.get(path, bearer(own))
    assert (answer.get("session-token") is not None) == handed
    by_cookie = reflected.get(path, ("Cookie", f"access_token={own}"))
    given = [line.partition("=")[0] for line in by_cookie.all("set-cookie")]
    assert ("session" in given) == handed
    if path == "/":
        assert {"theme", "locale"} <= set(given)


def test_heads_as_large_as_a_migration_makes_them_arrive(reflected: Site) -> None:
    own = sign(padding="p" * 5000)
    crumbs = "; ".join(f"c{n}={'v' * 500}" for n in range(24))  # a line above 8 kB
    answer = reflected.get("/", bearer(own), ("Cookie", crumbs))
    assert Seen.of(answer).all("cookie") == [crumbs]
    assert answer.get("session-token") is not None
    assert reflected.get("/", bearer("e" * 9000)).status in {400, 401}


def test_a_preflight_reaches_the_app_and_brings_nothing(reflected: Site) -> None:
    answer = reflected.send(
        "OPTIONS",
        "/notes",
        ("Origin", "https://app.example"),
        ("Access-Control-Request-Method", "POST"),
        ("Remote-User", "root"),
    )
    assert Seen.of(answer).all("remote-user") == []


def test_no_body_is_lost_or_read_on_the_way(reflected: Site) -> None:
    body = b"x" * 300_000
    answer = reflected.send("PUT", "/file", bearer(token_of(reflected)), body=body)
    assert Seen.of(answer).all("content-length") == [str(len(body))]


def test_a_jwt_of_the_bridge_is_refused_in_every_phase(kind: str, ground: Ground) -> None:
    with mirror() as port, ground.site(kind, port) as site:
        site.move("swap")
        token = token_of(site)
        for phase in ("observe", "swap", "drain", "cutover", "retired"):
            reach(site, phase)
            [line] = Seen.of(site.get("/", bearer(token))).all("authorization")
            assert site.get("/", ("Authorization", line)).status == 401, phase
