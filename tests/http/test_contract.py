"""What goes over the wire: tokens handed out, refusals, caches, CORS. Design section 11."""

from __future__ import annotations

import re
import time
from collections.abc import Callable

import pytest

from tests.apps.deployment import sign
from tests.http.servers import Answer, Server, bearer

pytestmark = pytest.mark.xdist_group("http")

TOKEN = re.compile(r"sess_[0-9A-Za-z]{49}")
ORIGIN = ("Origin", "https://shop.example")
BOUND_S = 1.0


def handed(answer: Answer) -> str | None:
    assert TOKEN.fullmatch(answer.get("session-token") or "sess_" + "0" * 49)
    return answer.get("session-token")


def swapped(server: Server, user: str = "ann") -> str:
    token = handed(server.get("/seen", bearer(sign(user))))
    assert token is not None
    return token


def is_served(answer: Answer) -> bool:
    return answer.status == 200


def once_over(ask: Callable[[], Answer], *, lives: Callable[[Answer], bool] = is_served) -> Answer:
    """The first answer after an ending: another worker may have answered that, and has a bound."""
    ended_at = time.monotonic()
    while True:
        asked_at = time.monotonic()
        answer = ask()
        if not lives(answer):
            return answer
        assert asked_at < ended_at + BOUND_S


def listed(answer: Answer, name: str) -> set[str]:
    return {
        member.strip().lower() for line in answer.all(name) for member in line.split(",") if member
    }


def test_a_jwt_is_answered_with_a_session_token_until_it_is_adopted(server: Server) -> None:
    jwt = sign("ann")
    first, second = (server.get("/seen", bearer(jwt)) for _ in range(2))
    assert (first.json["subject"], first.json["via"]) == ("ann", "legacy")
    token = handed(first)
    assert token is not None
    assert token == handed(second)
    adopted = server.get("/seen", bearer(token))
    assert (adopted.json["subject"], adopted.json["via"]) == ("ann", "session")
    assert handed(adopted) is None
    assert adopted.get("set-cookie") is None
    assert adopted.json["session"] == first.json["session"]


def test_the_app_itself_knows_who_asks_with_either(server: Server) -> None:
    jwt = sign("ann")
    token = handed(server.get("/me", bearer(jwt)))
    assert token is not None
    assert server.get("/me", bearer(jwt)).json == {"user": "ann"}
    assert server.get("/me", bearer(token)).json == {"user": "ann"}


def test_login_refresh_and_logout_work_through_the_wire(server: Server) -> None:
    pair = server.post("/login", {"username": "ann", "password": "ann's password"}).json
    assert TOKEN.fullmatch(pair["access"])
    again = server.post("/refresh", {"refresh": pair["refresh"]})
    assert again.json == pair
    assert server.send("POST", "/logout", bearer(pair["access"])).status == 204
    over = once_over(lambda: server.get("/me", bearer(pair["access"])))
    assert over.status == 401


def test_a_refused_credential_gets_the_words_of_the_contract(server: Server) -> None:
    token = swapped(server)
    server.send("POST", "/logout", bearer(token))
    refused = once_over(lambda: server.get("/seen", bearer(token)))
    assert refused.status == 401
    assert refused.json == {"error": "invalid_token", "reason": "revoked"}
    assert refused.get("www-authenticate") == 'Bearer error="invalid_token"'
    assert refused.get("cache-control") == "no-store"
    assert refused.get("content-type") == "application/json"


def test_an_answer_with_a_token_is_for_no_cache_and_readable_across_origins(
    server: Server,
) -> None:
    query = "Cache-Control=public,max-age%3D600&Vary=Accept-Encoding&Expires=0"
    query += "&Access-Control-Expose-Headers=X-Total"
    answer = server.get(f"/answer/200?{query}", bearer(sign("ann")), ORIGIN)
    assert handed(answer) is not None
    assert answer.get("cache-control") == "no-store"
    assert answer.get("expires") is None
    assert listed(answer, "vary") == {"accept-encoding", "authorization", "cookie"}
    assert listed(answer, "access-control-expose-headers") == {"x-total", "session-token"}


def test_an_answer_without_a_token_keeps_the_caching_of_the_app(server: Server) -> None:
    token = swapped(server)
    answer = server.get("/answer/200?Cache-Control=public,max-age%3D600", bearer(token))
    assert answer.get("cache-control") == "public,max-age=600"
    assert listed(answer, "vary") == set()


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("HEAD", "/seen"),
        ("OPTIONS", "/seen"),
        ("GET", "/answer/304"),
        ("GET", "/answer/500"),
        ("GET", "/answer/503"),
        ("GET", "/answer/302?Location=https%3A//elsewhere.example/"),
        ("GET", "/answer/302?Location=//elsewhere.example/"),
    ],
)
@pytest.mark.parametrize("place", ["header", "cookie"])
def test_no_token_goes_where_it_would_be_lost_or_kept(
    server: Server, method: str, path: str, place: str
) -> None:
    jwt = sign("ann")
    line = bearer(jwt) if place == "header" else ("Cookie", f"access_token={jwt}")
    answer = server.send(method, path, line)
    assert answer.status < 400 or answer.status in {500, 503}
    assert handed(answer) is None
    assert answer.get("set-cookie") is None


@pytest.mark.parametrize("to", ["/me", "http%3A//shop.example/me"])
def test_a_redirect_within_the_origin_carries_the_token(server: Server, to: str) -> None:
    answer = server.get(f"/answer/302?Location={to}", bearer(sign("ann")))
    assert answer.status == 302
    assert handed(answer) is not None


def test_a_cookie_client_gets_a_cookie_that_scripts_cannot_read(server: Server) -> None:
    answer = server.get("/seen", ("Cookie", f"theme=dark; access_token={sign('ann')}"))
    assert answer.json["subject"] == "ann"
    assert handed(answer) is None
    set_cookie = answer.get("set-cookie")
    assert set_cookie is not None
    pair, *attributes = set_cookie.split("; ")
    name, _, token = pair.partition("=")
    assert name == "__Host-session"
    assert TOKEN.fullmatch(token)
    said = {attribute.partition("=")[0].lower() for attribute in attributes}
    assert said == {"path", "secure", "httponly", "samesite", "max-age"}
    assert {"Path=/", "Secure", "HttpOnly", "SameSite=Lax"} <= set(attributes)
    again = server.get("/seen", ("Cookie", f"theme=dark; __Host-session={token}"))
    assert (again.json["subject"], again.json["via"]) == ("ann", "session")
    assert again.json["headers"]["cookie"].startswith("theme=dark")


def test_an_adopted_cookie_beats_the_jwt_cookie_left_behind(server: Server) -> None:
    token = swapped(server)
    stale = sign("ann", lasts_s=-60)
    answer = server.get("/seen", ("Cookie", f"access_token={stale}; __Host-session={token}"))
    assert (answer.json["subject"], answer.json["via"]) == ("ann", "session")


def test_a_dead_cookie_is_cleared_on_a_navigation_only(server: Server) -> None:
    token = swapped(server)
    server.send("POST", "/logout", bearer(token))
    cookie = ("Cookie", f"__Host-session={token}; theme=dark")
    binds_at = time.monotonic() + BOUND_S  # in every worker
    page = once_over(
        lambda: server.get("/seen", cookie, ("Sec-Fetch-Mode", "navigate")),
        lives=lambda answer: answer.json["subject"] is not None,
    )
    time.sleep(max(binds_at - time.monotonic(), 0))
    assert page.json["subject"] is None
    assert page.json["headers"]["cookie"] == "theme=dark"
    cleared = page.get("set-cookie") or ""
    assert cleared.startswith("__Host-session=;")
    assert "Max-Age=0" in cleared
    script = server.get("/seen", cookie, ("Sec-Fetch-Mode", "cors"))
    assert script.json["subject"] is None
    assert script.get("set-cookie") is None


def test_an_expired_jwt_is_the_apps_to_answer(server: Server) -> None:
    answer = server.get("/me", bearer(sign("ann", lasts_s=-60)))
    assert answer.status == 401
    assert answer.get("www-authenticate") is None, "this is how the app says it, not us"


def test_a_client_that_hangs_up_gets_the_same_session_when_it_asks_again(server: Server) -> None:
    """PUB-088: the answer that carried the token was lost."""
    jwt = sign("cem")
    where = "subject = 'cem'"
    before = server.deployment.rig.count("sessions", where)
    for _ in range(3):
        with server.connect() as wire:
            wire.sendall(server.request("GET", "/seen", bearer(jwt)))
    tokens = {handed(server.get("/seen", bearer(jwt))) for _ in range(3)}
    assert len(tokens) == 1
    assert server.deployment.rig.count("sessions", where) == before + 1
