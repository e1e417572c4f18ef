"""G18: what a page of another site can make a browser send, as raw requests to real servers.

Method x Origin x Sec-Fetch-Site x cookie x bearer token x method override. The rule is written
here once more, from design section 11 and not from `shims/csrf.py`.
"""

from __future__ import annotations

import itertools
import random

import pytest

from tests.apps.deployment import sign
from tests.counts import counted
from tests.http.servers import Answer, Line, Server, bearer

pytestmark = pytest.mark.xdist_group("http")

METHODS = ("GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE", "QUERY")
SAFE = {"GET", "HEAD", "OPTIONS"}
ORIGINS = (
    None,
    "https://shop.example",
    "https://evil.example",
    "https://blog.shop.example",
    "https://shop.example.evil.example",
    "null",
)
SITES = (None, "same-origin", "none", "same-site", "cross-site")
COOKIES = ("session", "jwt", "both", "dead", "absent")
BEARERS = (None, "session", "jwt")
OVERRIDES: tuple[Line | None, ...] = (
    None,
    ("X-HTTP-Method-Override", "GET"),
    ("X-HTTP-Method", "GET"),
    ("X-Method-Override", "GET"),
)
MATRIX = tuple(itertools.product(METHODS, ORIGINS, SITES, COOKIES, BEARERS, OVERRIDES))
SAMPLE = 240
USER = "ann"


def comes_from_the_site(method: str, origin: str | None, site: str | None) -> bool:
    if method in SAFE:
        return True
    if site is not None:
        return site in {"same-origin", "none"}
    return origin in {None, "https://shop.example"}


def held(server: Server) -> dict[str, str]:
    jwt = sign(USER)
    token = server.get("/seen", bearer(jwt)).get("session-token")
    assert token is not None
    over = server.get("/seen", bearer(sign(USER))).get("session-token")
    assert over is not None
    server.send("POST", "/logout", bearer(over))
    return {"jwt": jwt, "session": token, "dead": over}


def cookies(kind: str, kept: dict[str, str]) -> list[Line]:
    named = {
        "session": f"__Host-session={kept['session']}",
        "jwt": f"access_token={kept['jwt']}",
        "dead": f"__Host-session={kept['dead'][:-1]}0",
    }
    named["both"] = f"{named['jwt']}; {named['session']}"
    return [("Cookie", named[kind])] if kind in named else []


def gave_something(answer: Answer) -> bool:
    return answer.get("session-token") is not None or bool(answer.all("set-cookie"))


@pytest.mark.parametrize(
    "size",
    [SAMPLE, pytest.param(len(MATRIX), marks=[pytest.mark.full, pytest.mark.timeout(3600)])],
)
def test_p2_no_request_of_another_site_counts_by_its_cookie(server: Server, size: int) -> None:
    kept = held(server)
    passes = refusals = 0
    for case in random.Random(20).sample(MATRIX, size):
        method, origin, site, cookie, token, override = case
        lines = cookies(cookie, kept)
        lines += [("Origin", origin)] if origin else []
        lines += [("Sec-Fetch-Site", site)] if site else []
        lines += [bearer(kept[token])] if token else []
        lines += [override] if override else []
        answer = server.send(method, "/seen", *lines)
        is_ambient = token is None and cookie in {"session", "jwt", "both"}
        if is_ambient and not comes_from_the_site(method, origin, site):
            refusals += 1
            passes += (answer.status, answer.json) != (403, {"error": "csrf"})
            assert not gave_something(answer), case
        else:
            assert answer.status in {200, 204, 405, 501}, (case, answer)
            if answer.status == 200 and method in {"GET", "POST"}:
                is_nobody = token is None and not is_ambient
                assert answer.json["subject"] == (None if is_nobody else USER), case
    assert refusals
    assert passes == 0
    counted("G18", "requests of the CSRF matrix", size)
    counted("G18", "CSRF passes", passes)


@pytest.mark.parametrize("site", ["cross-site", "same-site", None])
def test_p3_no_form_logs_anybody_in_by_a_jwt_it_brings(server: Server, site: str | None) -> None:
    """Login CSRF: a JWT is read where the settings say, and nowhere a form can put it."""
    jwt = sign("mallory")
    where = [("Origin", "https://evil.example"), ("Content-Type", _FORM)]
    where += [("Sec-Fetch-Site", site)] if site else []
    for name in ("token", "access_token", "Authorization", "__Host-session"):
        body = f"{name}={jwt}".encode()
        for answer in (
            server.send("POST", "/seen", *where, body=body),
            server.send("POST", f"/seen?{name}={jwt}", *where),
            server.send("GET", f"/seen?{name}={jwt}", *where),
        ):
            assert answer.json["subject"] is None
            assert not gave_something(answer)
    counted("G18", "attempts at a login CSRF", 12)


@pytest.mark.parametrize("exposed", ["*", "X-Total", None])
def test_a_token_is_exposed_by_name_and_no_origin_is_allowed_by_us(
    server: Server, exposed: str | None
) -> None:
    """With credentials `*` is the name of a header to browsers, and not a wild card."""
    query = f"?Access-Control-Expose-Headers={exposed}" if exposed else ""
    answer = server.get(
        f"/answer/200{query}", bearer(sign(USER)), ("Origin", "https://evil.example")
    )
    listed = ",".join(answer.all("access-control-expose-headers")).lower().split(",")
    assert answer.get("session-token") is not None
    assert "session-token" in {each.strip() for each in listed}
    for name in ("origin", "credentials", "headers", "methods"):
        assert answer.all(f"access-control-allow-{name}") == []


def test_a_websocket_of_another_site_is_refused_by_its_handshake(server: Server) -> None:
    kept = held(server)
    if server.name == "gunicorn":  # WSGI has none: it is a GET, which the app may not like
        answer = server.get("/seen", *_UPGRADE, *cookies("session", kept))
        assert answer.status in {200, 400}
        return
    for kind in ("session", "jwt", "both"):
        for line, is_refused in (
            (("Origin", "https://evil.example"), True),
            (("Sec-Fetch-Site", "cross-site"), True),
            (("Origin", "https://blog.shop.example"), True),
            (("Origin", "https://shop.example"), False),
            (("Sec-Fetch-Site", "same-origin"), False),
        ):
            answer = server.get("/seen", *_UPGRADE, *cookies(kind, kept), line)
            assert answer.status in {403, 404}  # the shop has no WebSocket at all
            assert (b"csrf" in answer.body) == is_refused
            assert not (is_refused and gave_something(answer))
    counted("G18", "WebSocket handshakes", 15)


_FORM = "application/x-www-form-urlencoded"
_UPGRADE: tuple[Line, ...] = (
    ("Connection", "Upgrade"),
    ("Upgrade", "websocket"),
    ("Sec-WebSocket-Version", "13"),
    ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
)
