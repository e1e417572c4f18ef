"""`/session` and `/sessions`: what a front end may know of its login, and end of its own."""

from __future__ import annotations

import time
import uuid
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.routing import Mount
from starlette.testclient import TestClient

from migrator import wiring
from migrator.settings import Settings
from shims.asgi import DualAcceptMiddleware
from shims.endpoints import session_endpoints
from tests.apps.deployment import sign
from tests.http.servers import Line, bearer
from tests.rig import Rig
from tests.rig import sign as sign_for_rig
from tests.serve.served import ORIGIN, Serve

pytestmark = pytest.mark.xdist_group("serve")


def fresh() -> str:
    return f"user-{uuid.uuid4().hex[:12]}"


def swapped(serve: Serve, user: str, jwt: str | None = None) -> str:
    token = serve.auth(bearer(jwt or sign(user))).get("session-token")
    assert token is not None
    return token


def cookie(token: str) -> Line:
    return ("Cookie", f"__Host-session={token}")


def test_a_front_end_is_told_what_it_used_to_decode(serve: Serve) -> None:
    user = fresh()
    jwt = sign(user, auth_time=int(time.time()) - 60, amr=["pwd"])
    token = swapped(serve, user, jwt)
    for line in (bearer(token), cookie(token)):
        answer = serve.get("/session", line)
        assert answer.status == 200
        assert answer.get("cache-control") == "no-store"
        said = answer.json
        assert (said["subject"], said["realm"], said["via"]) == (user, "users", "session")
        assert said["amr"] == ["pwd"]
        assert said["auth_time"].endswith("Z")
        assert said["expires_at"].endswith("Z")
        assert said.keys() >= {"scopes", "client", "claims", "session"}
        assert token.encode() not in answer.body


def test_a_jwt_is_described_too_and_swapped_on_the_way(serve: Serve) -> None:
    user = fresh()
    answer = serve.get("/session", bearer(sign(user)))
    assert (answer.json["subject"], answer.json["via"]) == (user, "legacy")
    assert answer.json["expires_at"]
    token = answer.get("session-token") or ""
    assert token.startswith("sess_")
    assert token.encode() not in answer.body


def test_a_jwt_that_has_no_session_says_when_it_ends(serve: Serve) -> None:
    short = serve.get("/session", bearer(sign(fresh(), lasts_s=60)))
    assert short.json["session"] is None
    assert short.json["expires_at"].endswith("Z")


def test_without_a_credential_there_is_nothing_to_tell(serve: Serve) -> None:
    for method, path in (("GET", "/session"), ("GET", "/sessions"), ("DELETE", "/sessions")):
        answer = serve.send(method, path)
        assert (answer.status, answer.get("www-authenticate")) == (401, "Bearer")
        assert answer.get("cache-control") == "no-store"


def test_a_bad_credential_is_refused_in_the_words_of_the_shim(serve: Serve) -> None:
    answer = serve.get("/session", bearer("sess_" + "0" * 49))
    assert (answer.status, answer.json["reason"]) == (401, "invalid")
    assert serve.get("/session", ("Authorization", "Bearer a b")).status == 400


def test_a_subject_sees_its_own_sessions_and_nobody_elses(serve: Serve) -> None:
    user = fresh()
    here, _ = swapped(serve, user), swapped(serve, user)
    swapped(serve, fresh())
    answer = serve.get("/sessions", bearer(here))
    listed = answer.json["sessions"]
    assert len(listed) == 2
    assert [one["current"] for one in listed].count(True) == 1
    assert b"sess_" not in answer.body
    assert all({"id", "client", "created_at", "ip"} <= one.keys() for one in listed)


def test_a_subject_ends_one_of_its_own_sessions(serve: Serve) -> None:
    user = fresh()
    here, there = swapped(serve, user), swapped(serve, user)
    other = serve.get("/session", bearer(there)).json["session"]
    assert serve.send("DELETE", f"/sessions/{other}", bearer(here)).status == 204
    assert serve.get("/session", bearer(there)).status == 401
    assert serve.get("/session", bearer(here)).status == 200
    assert serve.send("DELETE", f"/sessions/{other}", bearer(here)).status == 404


def test_nobody_elses_session_can_be_told_from_none(serve: Serve) -> None:
    mine, theirs = swapped(serve, fresh()), swapped(serve, fresh())
    foreign = serve.get("/session", bearer(theirs)).json["session"]
    for named in (foreign, str(uuid.uuid4()), "not-an-id", theirs):
        answer = serve.send("DELETE", f"/sessions/{named}", bearer(mine))
        assert (answer.status, answer.json) == (404, {"error": "not_found"})
    assert serve.get("/session", bearer(theirs)).status == 200


def test_ending_ones_own_session_takes_its_cookie_away(serve: Serve) -> None:
    token = swapped(serve, fresh())
    own = serve.get("/session", cookie(token)).json["session"]
    same = ("Sec-Fetch-Site", "same-origin")
    left = serve.send("DELETE", f"/sessions/{own}", cookie(token), same)
    assert left.status == 204
    assert any(line.startswith("__Host-session=;") for line in left.all("set-cookie"))


def test_the_others_are_ended_and_this_one_stays(serve: Serve) -> None:
    user = fresh()
    here, there, unseen = swapped(serve, user), swapped(serve, user), sign(user)
    answer = serve.send("DELETE", "/sessions", bearer(here))
    assert (answer.status, answer.json) == (200, {"ended": 1})
    assert serve.get("/session", bearer(there)).status == 401
    assert serve.get("/session", bearer(here)).status == 200
    assert serve.get("/session", bearer(unseen)).status == 401, "a JWT never seen before"


def test_a_jwt_without_a_session_cannot_cut_itself_off(serve: Serve) -> None:
    answer = serve.send("DELETE", "/sessions", bearer(sign(fresh(), lasts_s=60)))
    assert (answer.status, answer.json) == (403, {"error": "session_required"})


def test_another_site_ends_nothing_by_a_cookie(serve: Serve) -> None:
    token = swapped(serve, fresh())
    own = serve.get("/session", cookie(token)).json["session"]
    across = ("Sec-Fetch-Site", "cross-site")
    for path in ("/sessions", f"/sessions/{own}"):
        refused = serve.send("DELETE", path, cookie(token), across)
        assert (refused.status, refused.json) == (403, {"error": "csrf"})
    assert serve.get("/session", cookie(token)).status == 200


def test_allowed_origins_may_ask_with_credentials_and_no_others(serve: Serve) -> None:
    token = swapped(serve, fresh())
    asks = ("Access-Control-Request-Method", "DELETE")
    names = ("Access-Control-Request-Headers", "authorization")
    preflight = serve.send("OPTIONS", "/sessions", ("Origin", ORIGIN), asks, names)
    assert preflight.status == 200
    assert preflight.get("access-control-allow-origin") == ORIGIN
    assert preflight.get("access-control-allow-credentials") == "true"
    allowed = serve.get("/session", cookie(token), ("Origin", ORIGIN))
    assert allowed.get("access-control-allow-origin") == ORIGIN
    refused = serve.get("/session", ("Origin", ORIGIN))
    assert (refused.status, refused.get("access-control-allow-origin")) == (401, ORIGIN)
    evil = serve.get("/session", cookie(token), ("Origin", "https://evil.example"))
    assert evil.get("access-control-allow-origin") is None


# In an app of one's own


@pytest.fixture
def mounted(migrated: str) -> Any:
    rig = Rig(migrated)
    rig.move("swap")
    settings = rig.settings()
    app: Any = Starlette(routes=[Mount("/auth", session_endpoints(settings))])
    with TestClient(DualAcceptMiddleware(app, settings)) as client:
        yield client, settings
    wiring.stop()


def test_they_can_be_mounted_into_an_asgi_app(mounted: tuple[TestClient, Settings]) -> None:
    client, _ = mounted
    answer = client.get("/auth/session", headers={"Authorization": f"Bearer {sign_for_rig('a')}"})
    assert (answer.status_code, answer.json()["subject"]) == (200, "a")
    assert answer.headers.get_list("session-token") == [answer.headers["session-token"]]


def test_a_programs_token_knows_itself_and_manages_no_logins(
    mounted: tuple[TestClient, Settings],
) -> None:
    client, settings = mounted
    token = wiring.sessions(settings).create_api_token("ann", label="ci", scopes=["read"]).token
    headers = {"Authorization": f"Bearer {token}"}
    assert client.get("/auth/session", headers=headers).json()["scopes"] == ["read"]
    for method, path in (("GET", ""), ("DELETE", ""), ("DELETE", f"/{uuid.uuid4()}")):
        refused = client.request(method, f"/auth/sessions{path}", headers=headers)
        assert refused.status_code == 403
        assert refused.json() == {"error": "insufficient_scope"}
