"""A browser's jar on the way from JWT cookies to ours: copies, hints, what goes and when.

Over the real gate and a real database; what browsers make of the lines: test_browser.py.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import httpx2
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.testclient import TestClient

from migrator import wiring
from migrator.core.verdicts import Admitted
from shims.asgi import DualAcceptMiddleware
from shims.credentials import Places, find
from tests.rig import ISSUER, Rig, sign

ISSUERS = [{**ISSUER, "transport": [{"cookie": "access_token"}]}]
OLD = [
    {"name": "access_token"},
    {"name": "access_token", "domain": "shop.example"},
    {"name": "refresh_token", "path": "/auth"},
    {"name": "sid", "domain": "api.shop.example"},
    {"name": "sid", "path": "/app"},
]
COOKIE = {"name": "sid", "clear": OLD, "hint": "has_session"}
PAGE = {"Sec-Fetch-Mode": "navigate", "Sec-Fetch-Site": "none"}
SCRIPT = {"Sec-Fetch-Mode": "cors", "Sec-Fetch-Site": "same-origin"}
DEADLINE_S = 10.0

# What ends every copy of our own name that the settings list, or that a parent domain may hold.
COPIES = {
    "sid; Domain=api.shop.example; Path=/",
    "sid; Path=/app",
    "sid; Domain=shop.example; Path=/",
}
LEGACY = {
    "access_token; Path=/",
    "access_token; Domain=shop.example; Path=/",
    "refresh_token; Path=/auth",
}


async def _who(request: Request) -> Response:
    principal = request.state.principal
    said = {"subject": principal and principal.subject, "cookies": dict(request.cookies)}
    response = JSONResponse(said, headers={"Cache-Control": "public, max-age=600"})
    for name, value in request.query_params.multi_items():
        response.headers.append(name, value)
    return response


async def _asked_to_leave(request: Request) -> Response:
    status = int(request.query_params.get("status", "204"))
    response = Response(status_code=status)
    if "keep" in request.query_params:
        response.headers.append("Set-Cookie", "access_token=another; Path=/")
    return response


@pytest.fixture
def rig(migrated: str) -> Rig:
    rig = Rig(migrated, issuers=ISSUERS, cookie=COOKIE)
    rig.move("swap")
    return rig


@pytest.fixture
def client(rig: Rig) -> Iterator[TestClient]:
    app = Starlette(
        routes=[
            Route("/", _who, methods=["GET", "POST"]),
            Route("/login", _who, methods=["GET", "POST"]),
            Route("/logout", _asked_to_leave, methods=["GET", "POST"]),
        ]
    )
    app.add_middleware(DualAcceptMiddleware, rig.settings())
    with TestClient(app, base_url="https://api.shop.example", follow_redirects=False) as client:
        client.get("/", headers=jar(access_token=sign("nobody")))  # the rollout is known
        client.cookies.clear()
        yield client


def jar(*more: str, **cookies: str) -> dict[str, str]:
    return {"Cookie": "; ".join([*(f"{name}={it}" for name, it in cookies.items()), *more])}


def session(rig: Rig, subject: str = "ann", client: str | None = None) -> str:
    """The token of a session begun at login."""
    sessions = wiring.sessions(rig.settings())
    issued = sessions.login(subject, client=client, legacy=lambda: sign(subject))
    assert issued.kind == "session"
    return str(issued.token)


def lines(answer: httpx2.Response) -> dict[str, str]:
    """The Set-Cookie lines by the cookie they mean: name, Domain and Path are its identity."""
    said = {}
    for line in answer.headers.get_list("set-cookie"):
        pair, *attributes = line.split("; ")
        name, _, value = pair.partition("=")
        where = sorted(each for each in attributes if each.startswith(("Domain=", "Path=")))
        cookie = "; ".join([name, *where])
        assert cookie not in said, "one answer says one thing of a cookie"
        said[cookie] = "gone" if "Max-Age=0" in attributes else value
    return said


def gone(answer: httpx2.Response) -> set[str]:
    return {cookie for cookie, said in lines(answer).items() if said == "gone"}


def wait(until: Callable[[], bool]) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not until():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def moved(rig: Rig, phase: str, **given: Any) -> None:
    """Move, and wait until this process has read of it."""
    rig.move(phase, **given)
    behind = "epoch IS DISTINCT FROM (SELECT epoch FROM migrator.rollout)"
    wait(lambda: rig.count("nodes", f"lease_until > now() AND {behind}") == 0)


# Copies of our own cookie.


@pytest.mark.parametrize("first", [True, False])
def test_a_dead_copy_of_our_cookie_hides_no_living_one(
    client: TestClient, rig: Rig, first: bool
) -> None:
    dead, alive = session(rig), session(rig)
    wiring.sessions(rig.settings()).end(dead)
    wait(lambda: client.get("/", headers=jar(sid=dead)).json()["subject"] is None)
    both = (dead, alive) if first else (alive, dead)
    answer = client.get("/", headers=jar(*(f"sid={each}" for each in both)) | SCRIPT)
    assert answer.json()["subject"] == "ann"
    assert gone(answer) == COPIES, "and never the host-only cookie in use"
    assert answer.headers["cache-control"] == "no-store"


def test_junk_under_our_name_locks_nobody_out(client: TestClient, rig: Rig) -> None:
    cookies = jar("sid=", "sid=tossed-by-a-sibling-domain", f"sid={session(rig)}", "sid=a b")
    assert client.get("/", headers=cookies).json()["subject"] == "ann"


def test_two_living_sessions_of_one_subject_are_that_subject(client: TestClient, rig: Rig) -> None:
    cookies = jar(f"sid={session(rig)}", f"sid={session(rig)}")
    answer = client.get("/", headers=cookies)
    assert answer.json()["subject"] == "ann"
    assert gone(answer) == COPIES


@pytest.mark.parametrize("name", ["sid", "access_token"])
def test_whoever_reads_on_finds_the_copy_that_decided(rig: Rig, name: str) -> None:
    settings = rig.settings()
    sessions, gate = wiring.sessions(settings), wiring.gate(settings)
    alive, *dead = (session(rig) if name == "sid" else sign("ann") for _ in range(4))
    for each in dead:
        sessions.end(each)
    for line in ([alive, *dead], [*dead, alive]):
        cookies = "; ".join(f"{name}={each}" for each in line).encode()
        presented, _ = find(Places.of(settings), [(b"cookie", cookies)], method="GET", path="/")
        assert presented is not None
        outcome = gate.admit(presented)
        assert isinstance(outcome.verdict, Admitted)
        first = presented.session_cookie if name == "sid" else presented.legacy
        assert first is not None
        assert first.value == alive.encode()
        assert {each.value for each in presented.everything()} == {it.encode() for it in line}
    gate.close()


def test_two_subjects_are_refused_once_and_the_copy_goes(client: TestClient, rig: Rig) -> None:
    mine, theirs = session(rig, "ann"), session(rig, "bob")
    answer = client.post("/", headers=jar(f"sid={theirs}", f"sid={mine}"))
    assert answer.status_code == 400
    assert answer.json() == {"error": "invalid_request"}
    assert gone(answer) == COPIES
    left = client.post("/", headers=jar(f"sid={mine}"))
    assert left.json()["subject"] == "ann"


def test_two_subjects_do_not_lock_the_login_page(client: TestClient, rig: Rig) -> None:
    cookies = jar(f"sid={session(rig, 'ann')}", f"sid={session(rig, 'bob')}")
    answer = client.post("/login", headers=cookies | SCRIPT)
    assert answer.status_code == 200
    assert answer.json() == {"subject": None, "cookies": {}}
    assert gone(answer) == COPIES


def test_a_post_from_another_site_counts_with_no_copy(client: TestClient, rig: Rig) -> None:
    cookies = jar(f"sid={session(rig)}", "sid=junk") | {"Sec-Fetch-Site": "cross-site"}
    answer = client.post("/", headers=cookies)
    assert (answer.status_code, answer.json()) == (403, {"error": "csrf"})


def test_a_header_of_another_subject_than_any_copy_is_refused(
    client: TestClient, rig: Rig
) -> None:
    header = {"Authorization": f"Bearer {session(rig, 'ann')}"}
    cookies = jar(f"sid={session(rig, 'ann')}", f"sid={session(rig, 'bob')}")
    assert client.get("/", headers=cookies | header).status_code == 400
    cookies = jar(f"sid={session(rig, 'ann')}", "sid=junk")
    assert client.get("/", headers=cookies | header).json()["subject"] == "ann"


# Copies of a legacy cookie.


def test_copies_of_a_jwt_cookie_of_one_subject_lock_nobody_out(client: TestClient) -> None:
    stale, fresh = sign("ann", lasts_s=-60), sign("ann")
    for copies in ((stale, fresh), (fresh, stale), (fresh, sign("ann"))):
        answer = client.get("/", headers=jar(*(f"access_token={each}" for each in copies)))
        assert answer.json()["subject"] == "ann"
        assert "sid; Path=/" in lines(answer)


def test_a_live_session_is_not_asked_about_the_jwt_copies_beside_it(
    client: TestClient, rig: Rig
) -> None:
    copies = [f"access_token={sign(each)}" for each in ("bob", "cem")]
    answer = client.get("/", headers=jar(f"sid={session(rig)}", *copies))
    assert answer.json()["subject"] == "ann"


def test_jwt_copies_of_two_subjects_are_refused(client: TestClient) -> None:
    copies = jar(f"access_token={sign('ann')}", f"access_token={sign('bob')}")
    assert client.get("/", headers=copies).status_code == 400


def test_an_app_sees_no_jwt_copy_where_one_was_revoked(client: TestClient, rig: Rig) -> None:
    revoked, alive = sign("bob"), sign("ann")
    wiring.sessions(rig.settings()).end(revoked)
    for copies in ((revoked, alive), (alive, revoked)):
        said = client.get("/", headers=jar(*(f"access_token={it}" for it in copies))).json()
        assert said == {"subject": "ann", "cookies": {}}
    again = sign("cem")
    wiring.sessions(rig.settings()).end(again)
    both = jar(f"access_token={revoked}", f"access_token={again}")
    assert client.get("/", headers=both).status_code == 401


# Old cookies go, once nothing needs them.


def test_a_jwt_cookie_stays_dormant_as_long_as_there_is_a_way_back(
    client: TestClient, rig: Rig
) -> None:
    both = jar(access_token=sign("ann"), has_session="1", sid=session(rig))
    for phase in ("observe", "swap", "drain"):
        moved(rig, phase)
        answer = client.get("/", headers=both | PAGE)
        assert answer.json()["subject"] == "ann"
        assert lines(answer) == {}
        assert answer.headers["cache-control"] == "public, max-age=600"


def test_a_jwt_cookie_goes_from_the_cutover_on_once_the_session_came_back(
    client: TestClient, rig: Rig
) -> None:
    jwt, token = sign("ann"), session(rig)
    moved(rig, "cutover")
    unadopted = client.get("/", headers=jar(access_token=jwt) | PAGE)
    assert unadopted.status_code == 401
    assert gone(unadopted) == set(), "a rollback would admit it again"
    both = jar(access_token=jwt, has_session="1", sid=token)
    for mode in (PAGE, SCRIPT):
        answer = client.get("/", headers=both | mode)
        assert answer.json()["subject"] == "ann"
        assert gone(answer) == {each for each in LEGACY if each.startswith("access_token")}
        assert answer.headers["cache-control"] == "no-store"
    moved(rig, "drain")
    assert client.get("/", headers=jar(sid=token)).json()["subject"] == "ann"


def test_no_cookie_goes_that_the_app_sets_in_the_same_answer(client: TestClient, rig: Rig) -> None:
    token = session(rig)
    moved(rig, "cutover")
    both = jar(access_token=sign("ann"), has_session="1", sid=token)
    answer = client.get("/?Set-Cookie=access_token%3Dother", headers=both)
    assert lines(answer) == {"access_token": "other"}
    cleared = client.get("/?Set-Cookie=access_token%3D%22%22;+Max-Age=0", headers=both)
    assert gone(cleared) >= {"access_token; Domain=shop.example; Path=/"}


@pytest.mark.parametrize("by", ["issuer", "client", "cohort"])
def test_a_client_that_may_still_use_jwts_keeps_its_cookie(
    client: TestClient, rig: Rig, by: str
) -> None:
    token = session(rig, client="acme-web")
    value = {"issuer": "a1", "client": "acme-web", "cohort": "100"}[by]
    both = jar(access_token=sign("ann"), has_session="1", sid=token)
    moved(rig, "cutover", exceptions=f'[{{"by": "{by}", "value": "{value}", "phase": "drain"}}]')
    assert gone(client.get("/", headers=both)) == set()
    moved(rig, "drain", exceptions=f'[{{"by": "{by}", "value": "{value}", "phase": "cutover"}}]')
    is_over = by != "issuer"  # whose JWT it was a session does not say
    assert bool(gone(client.get("/", headers=both))) is is_over


# Logging in.


@pytest.mark.parametrize("phase", ["observe", "swap"])
def test_a_login_answered_with_a_jwt_cookie_is_not_that_of_the_session_before(
    client: TestClient, rig: Rig, phase: str
) -> None:
    moved(rig, phase, percent=0)
    anns = wiring.sessions(rig.settings()).create_api_token("ann", label="session").token
    held = jar(sid=str(anns), has_session="1")
    assert client.get("/", headers=held).json()["subject"] == "ann"
    failed = client.post("/login", headers=held | SCRIPT)
    assert lines(failed) == {}
    answer = client.post("/login?Set-Cookie=access_token%3Dbobs;+Path=/", headers=held | SCRIPT)
    said = lines(answer)
    assert said.pop("access_token; Path=/") == "bobs"
    assert gone(answer) == {"sid; Path=/", "has_session; Path=/", *COPIES} == set(said)
    both = "/login?Set-Cookie=access_token%3Dbobs;+Path=/&Set-Cookie=sid%3Dbobs;+Path=/"
    assert gone(client.post(both, headers=held)) == set(), "the app knows of both"


# Logging out.


@pytest.mark.parametrize("kind", ["session", "legacy", "dead"])
def test_logging_out_leaves_nothing_behind(client: TestClient, rig: Rig, kind: str) -> None:
    held = {
        "session": jar(sid=session(rig)),
        "legacy": jar(access_token=sign("ann")),
        "dead": jar(sid="over"),
    }[kind]
    answer = client.post("/logout", headers=held | SCRIPT)
    assert answer.status_code == 204
    assert gone(answer) == {"sid; Path=/", "has_session; Path=/", *COPIES, *LEGACY}


def test_what_did_not_log_out_clears_nothing(client: TestClient, rig: Rig) -> None:
    held = jar(sid=session(rig), has_session="1")
    cross_site = {"Sec-Fetch-Site": "cross-site"}
    asking = client.get("/logout?status=200", headers=held)
    failed = client.post("/logout?status=500", headers=held)
    refused = client.post("/logout?status=409", headers=held)
    forged = client.post("/logout", headers=held | cross_site)
    program = client.post("/logout", headers={"Authorization": f"Bearer {session(rig)}"})
    nobody = client.post("/logout", headers=jar(has_session="1"))
    for answer in (asking, failed, refused, forged, program, nobody):
        assert lines(answer) == {}
    left = client.get("/logout?status=303", headers=held)
    assert "sid; Path=/" in gone(left)


def test_logging_out_leaves_what_the_app_sets(client: TestClient, rig: Rig) -> None:
    answer = client.post("/logout?keep=1", headers=jar(sid=session(rig)))
    assert lines(answer)["access_token; Path=/"] == "another"
    assert not [each for each in gone(answer) if each.startswith("access_token")]
    assert "refresh_token; Path=/auth" in gone(answer)


# The hint.


def test_the_hint_comes_with_the_cookie_and_is_no_credential(client: TestClient) -> None:
    answer = client.get("/", headers=jar(access_token=sign("ann")))
    assert lines(answer)["has_session; Path=/"] == "1"
    cookie, hint = answer.headers.get_list("set-cookie")
    ages = [part for line in (cookie, hint) for part in line.split("; ") if "Max-Age" in part]
    assert len(set(ages)) == 1
    assert "HttpOnly" in cookie
    assert "HttpOnly" not in hint


def test_a_session_cookie_without_its_hint_gets_it(client: TestClient, rig: Rig) -> None:
    token = session(rig)
    assert lines(client.get("/", headers=jar(sid=token))) == {"has_session; Path=/": "1"}
    assert lines(client.get("/", headers=jar(sid=token, has_session="1"))) == {}


def test_the_hint_goes_with_the_cookie(client: TestClient, rig: Rig) -> None:
    dead = jar(sid="over", has_session="1")
    assert gone(client.get("/", headers=dead | PAGE)) >= {"sid; Path=/", "has_session; Path=/"}
    assert lines(client.get("/", headers=dead | SCRIPT)) == {}
    held = jar(sid=session(rig), has_session="1")
    cleared = client.get("/?Set-Cookie=sid%3D;+Path=/;+Max-Age=0", headers=held)
    assert gone(cleared) == {"sid; Path=/", "has_session; Path=/"}
    renewed = client.get("/?Set-Cookie=sid%3Dnew;+Path=/;+Max-Age=60", headers=held)
    assert "has_session=1; Path=/; SameSite=Lax; Max-Age=60" in renewed.headers.get_list(
        "set-cookie"
    )
