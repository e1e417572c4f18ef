"""`/forward-auth`: the verdict of the shim, for a proxy. Design section 11, security.md 3.1."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator

import jwt as pyjwt
import pytest

from tests.apps.deployment import JWT_SECRET, sign
from tests.conftest import CacheServer, DatabaseServer
from tests.http.servers import Answer, bearer
from tests.serve.conftest import deployed
from tests.serve.served import Serve, serving

pytestmark = pytest.mark.xdist_group("serve")

TOKEN = re.compile(r"sess_[0-9A-Za-z]{49}")
TOLD = ("remote-user", "x-auth-scopes", "x-auth-realm", "authorization", "x-forward-cookie")


def swapped(serve: Serve, user: str = "ann") -> str:
    token = serve.auth(bearer(sign(user))).get("session-token")
    assert token is not None
    assert TOKEN.fullmatch(token)
    return token


def is_anonymous(answer: Answer) -> bool:
    """Whether the app is to get nothing that names anybody, said in so many words."""
    return answer.status == 200 and all(answer.get(name) == "" for name in TOLD)


def challenged(answer: Answer) -> bool:
    return answer.status == 401 and answer.get("www-authenticate") == "Bearer"


# Who comes in


def test_a_jwt_goes_to_the_app_byte_for_byte_and_its_client_is_handed_a_session(
    serve: Serve,
) -> None:
    jwt = sign("ann")
    answer = serve.auth(("authorization", f"bearer   {jwt}"))
    assert answer.status == 200
    assert answer.get("remote-user") == "ann"
    assert answer.get("x-auth-realm") == "users"
    assert answer.get("authorization") == f"bearer   {jwt}"
    assert answer.get("cache-control") == "no-store"
    assert TOKEN.fullmatch(answer.get("session-token") or "")
    assert answer.body == b""


def test_a_session_token_names_the_user_and_never_reaches_the_app(serve: Serve) -> None:
    token = swapped(serve, "bob")
    answer = serve.auth(bearer(token))
    assert (answer.status, answer.get("remote-user")) == (200, "bob")
    assert answer.get("authorization") == ""
    assert answer.get("session-token") is None


def test_a_session_cookie_is_taken_out_of_what_the_app_gets(serve: Serve) -> None:
    token, other = swapped(serve), sign("cem")
    cookie = f"theme=dark; __Host-session={token}; access_token={other}; lang=de"
    answer = serve.auth(("Cookie", cookie))
    assert (answer.status, answer.get("remote-user")) == (200, "ann")
    assert token not in (answer.get("x-forward-cookie") or "")
    assert other not in (answer.get("x-forward-cookie") or ""), "it may be anybody's"
    assert "theme=dark" in (answer.get("x-forward-cookie") or "")
    assert "lang=de" in (answer.get("x-forward-cookie") or "")


def test_a_cookie_client_is_handed_a_cookie_and_keeps_its_own(serve: Serve) -> None:
    jwt = sign("ann")
    answer = serve.auth(("Cookie", f"access_token={jwt}"))
    assert answer.status == 200
    assert any(line.startswith("__Host-session=sess_") for line in answer.all("set-cookie"))
    assert answer.get("x-forward-cookie") == f"access_token={jwt}"
    assert answer.get("session-token") is None


@pytest.mark.parametrize("method", ["HEAD", "OPTIONS"])
def test_nothing_is_handed_out_where_nobody_reads_it(serve: Serve, method: str) -> None:
    answer = serve.auth(bearer(sign("ann")), method=method)
    assert answer.status == 200
    assert answer.get("session-token") is None


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "DELETE", "PATCH", "HEAD"])
def test_the_proxy_may_ask_with_any_method(serve: Serve, method: str) -> None:
    token = swapped(serve)
    told = (("X-Forwarded-Method", "GET"), ("X-Forwarded-Uri", "/me"))
    answer = serve.send(method, "/forward-auth", *told, bearer(token))
    assert (answer.status, answer.get("remote-user")) == (200, "ann")


# Who does not


def test_no_credential_is_a_bare_challenge(serve: Serve) -> None:
    """PUB-070."""
    answer = serve.auth()
    assert challenged(answer)
    assert answer.get("cache-control") == "no-store"


@pytest.mark.parametrize(
    "name", ["X-Auth-User", "X-User-Id", "X-Forwarded-User", "Remote-User", "Remote_User"]
)
def test_a_client_cannot_say_who_it_is(serve: Serve, name: str) -> None:
    """PUB-079."""
    assert challenged(serve.auth((name, "admin")))
    answer = serve.auth((name, "admin"), bearer(swapped(serve)))
    assert "admin" not in str(answer.lines)
    assert is_anonymous(serve.auth((name, "admin"), uri="/login", method="POST"))


@pytest.mark.parametrize("scheme", ["Basic dTpw", "Digest x", f"DPoP {sign('ann')}"])
def test_another_scheme_gets_a_bare_challenge(serve: Serve, scheme: str) -> None:
    """PUB-072."""
    assert challenged(serve.auth(("Authorization", scheme)))


@pytest.mark.parametrize(
    "token", ["an-api-key", "7c9e6679-7425-40de-944b-e07fc1f90ae7", sign("ann") + "="]
)
def test_whatever_is_nobodys_is_refused(serve: Serve, token: str) -> None:
    answer = serve.auth(bearer(token))
    assert answer.status == 401
    assert answer.json == {"error": "invalid_token", "reason": "invalid"}
    assert answer.get("www-authenticate") == 'Bearer error="invalid_token"'


def test_what_is_nobodys_is_refused_on_public_routes_too(serve: Serve) -> None:
    assert serve.auth(("Authorization", "Basic dTpw"), uri="/public/a").status == 401


def test_an_expired_jwt_is_refused(serve: Serve) -> None:
    """PUB-044."""
    answer = serve.auth(bearer(sign("ann", lasts_s=-60)))
    assert answer.status == 401
    assert answer.json == {"error": "invalid_token", "reason": "expired"}


@pytest.mark.parametrize(
    "lines",
    [
        [("Authorization", "Bearer ")],
        [("Authorization", "Bearer a b")],
        [bearer("sess_" + "0" * 49), bearer("an-api-key")],
    ],
)
def test_an_unreadable_request_is_400(serve: Serve, lines: list[tuple[str, str]]) -> None:
    answer = serve.auth(*lines)
    assert answer.status == 400
    assert answer.json == {"error": "invalid_request"}


def test_a_cookie_from_another_site_is_403_by_the_original_method(serve: Serve) -> None:
    cookie = ("Cookie", f"__Host-session={swapped(serve)}")
    across = ("Sec-Fetch-Site", "cross-site")
    assert serve.auth(cookie, across).status == 200
    refused = serve.auth(cookie, across, method="POST")
    assert (refused.status, refused.json) == (403, {"error": "csrf"})
    assert serve.auth(cookie, ("Origin", "https://shop.example"), method="POST").status == 200
    evil = ("Origin", "https://evil.example")
    assert serve.auth(cookie, evil, method="POST").status == 403
    assert serve.auth(cookie, evil, ("Sec-WebSocket-Version", "13")).status == 403
    untold = serve.get("/forward-auth", cookie, evil)
    assert untold.status == 403, "a method that nobody told is no safe one"


def test_the_refusal_can_be_asked_for_once_more(serve: Serve) -> None:
    """nginx loses the body of a subrequest's answer."""
    told = (("X-Original-Method", "GET"), ("X-Original-URI", "/me"))
    refused = serve.get("/forward-auth/refusal", *told, bearer("an-api-key"))
    assert (refused.status, refused.json["reason"]) == (401, "invalid")
    changed = serve.get("/forward-auth/refusal", *told, bearer(swapped(serve)))
    assert changed.status == 503, "neither a refusal nor the app's answer"
    assert changed.get("retry-after") is not None


# Routes


@pytest.mark.parametrize("uri", ["/login", "/refresh", "/logout", "/public/x?y=/", "/public/"])
@pytest.mark.parametrize("names", ["X-Original", "X-Forwarded"])
def test_named_routes_need_no_credential(serve: Serve, uri: str, names: str) -> None:
    uri_name = f"{names}-URI" if names == "X-Original" else f"{names}-Uri"
    told = ((f"{names}-Method", "POST"), (uri_name, uri))
    assert is_anonymous(serve.get("/forward-auth", *told))


def test_a_dead_credential_does_not_bar_the_way_to_the_login(serve: Serve) -> None:
    for dead in (sign("ann", lasts_s=-60), "sess_" + "0" * 49, sign("ann")[:-3] + "abc"):
        assert is_anonymous(serve.auth(bearer(dead), uri="/login", method="POST"))


@pytest.mark.parametrize(
    "uri",
    [
        "/public/../me",
        "/public/%2e%2e/me",
        "/public/..%2fme",
        "/public//x",
        "/public/%252e%252e/me",
        "/public/..;/me",
        "/public\\..\\me",
        "public/x",
        "/public/\xff",
        "/me?/public/x",
        "/me#/public/x",
    ],
)
def test_a_path_that_an_app_might_read_otherwise_is_no_public_route(
    serve: Serve, uri: str
) -> None:
    assert challenged(serve.auth(uri=uri))


@pytest.mark.parametrize(
    "lies",
    [
        [("X-Forwarded-Uri", "/public/x"), ("X-Forwarded-Method", "GET")],
        [("X-Forwarded-Uri", "/public/x")],
        [("X-Original-URI", "/public/x")],
        [("X-Original-Method", "OPTIONS")],
        [("X-Forwarded-Method", "OPTIONS")],
    ],
)
def test_what_the_client_says_of_its_request_contradicts_the_proxy_and_is_refused(
    serve: Serve, lies: list[tuple[str, str]]
) -> None:
    assert serve.auth(*lies).status == 400


def test_a_method_of_the_clients_own_does_not_make_its_request_safe(serve: Serve) -> None:
    cookie = ("Cookie", f"__Host-session={swapped(serve)}")
    lines = [cookie, ("Origin", "https://evil.example"), ("X-Forwarded-Method", "GET")]
    assert serve.get("/forward-auth", ("X-Original-URI", "/me"), *lines).status == 403


def test_a_preflight_needs_no_credential(serve: Serve) -> None:
    asks = [("Origin", "https://front.example"), ("Access-Control-Request-Method", "GET")]
    assert is_anonymous(serve.auth(*asks, method="OPTIONS"))
    assert challenged(serve.auth(method="OPTIONS"))
    assert challenged(serve.auth(*asks, method="GET"))


def test_a_dead_cookie_is_anonymous_and_cleared_on_a_navigation(serve: Serve) -> None:
    dead = ("Cookie", "__Host-session=sess_" + "0" * 49)
    page = serve.auth(dead, ("Sec-Fetch-Mode", "navigate"))
    assert challenged(page)
    assert any(line.startswith("__Host-session=;") for line in page.all("set-cookie"))
    assert serve.auth(dead, ("Sec-Fetch-Mode", "cors")).all("set-cookie") == []


# What the app is told


@pytest.mark.parametrize(
    ("subject", "told"),
    [
        ("ann@example.org", "ann@example.org"),
        ("zoë", "zoë"),
        (" ann", "UTF-8''%20ann"),
        ("ann ", "UTF-8''ann%20"),
        ("annà", "UTF-8''ann%C3%A0"),
        ("UTF-8''ann", "UTF-8''UTF-8%27%27ann"),
    ],
)
def test_no_two_subjects_are_spelt_alike(serve: Serve, subject: str, told: str) -> None:
    answer = serve.auth(bearer(sign(subject)))
    assert (answer.get("remote-user") or "").encode("latin-1").decode() == told


# Phases


def test_the_phases_are_those_of_the_shim(moved: Serve) -> None:
    jwt, expired = sign("ann"), sign("ann", lasts_s=-60)
    token = swapped(moved)
    moved.reach("observe")
    own = moved.auth(bearer(expired))
    assert (own.status, own.get("remote-user")) == (200, "")
    assert own.get("authorization") == f"Bearer {expired}", "the app decides"
    garbled = moved.auth(("Authorization", "Bearer a b"))
    assert (garbled.status, garbled.get("authorization")) == (200, "Bearer a b")
    moved.reach("drain")
    told = moved.auth(bearer(jwt))
    assert (told.get("deprecation") or "").startswith("@")
    assert moved.auth(bearer(token)).get("deprecation") is None
    moved.reach("cutover")
    assert moved.auth(bearer(jwt)).json["reason"] == "legacy_retired"
    assert moved.auth(bearer(token)).get("remote-user") == "ann"


@pytest.fixture(scope="module")
def bridged(
    postgres: DatabaseServer,
    migrated_template: str,
    redis_server: CacheServer,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Serve]:
    tables = {"bridge": {}, "serve": {"expired": "pass"}}
    made = deployed(postgres, migrated_template, redis_server, tmp_path_factory, **tables)
    with made as deployment, serving(deployment) as running:
        yield running


def test_over_the_bridge_an_app_that_knows_jwts_is_shown_one(bridged: Serve) -> None:
    token = swapped(bridged)
    for line in (bearer(token), ("Cookie", f"__Host-session={token}; theme=dark")):
        answer = bridged.auth(line)
        assert answer.get("remote-user") == "ann"
        shown = answer.get("authorization") or ""
        cookies = dict(
            pair.split("=", 1)
            for pair in (answer.get("x-forward-cookie") or "").split("; ")
            if pair
        )
        jwt = shown.removeprefix("Bearer ") or cookies["access_token"]
        claims = pyjwt.decode(jwt, JWT_SECRET, algorithms=["HS256"])
        assert claims["sub"] == "ann"
        assert claims["exp"] - time.time() < 120
        assert token not in str(answer.lines)
        refused = bridged.auth(bearer(jwt))
        assert refused.status == 401, "from outside it is nobody's"


def test_an_expired_jwt_is_the_apps_to_answer_where_the_settings_say_so(bridged: Serve) -> None:
    expired = sign("ann", lasts_s=-60)
    answer = bridged.auth(bearer(expired))
    assert (answer.status, answer.get("remote-user")) == (200, "")
    assert answer.get("authorization") == f"Bearer {expired}"
