"""An app that verifies JWTs itself, unchanged, behind the bridge; its clients hold sessions."""

from __future__ import annotations

import json
import time
from concurrent.futures import ThreadPoolExecutor

import jwt
import pytest

from migrator import wiring
from tests.bridge.app import said
from tests.bridge.conftest import BRIDGED, Deploy
from tests.rig import ISSUER, SECRET, sign, sign_refresh

PHASES = ("observe", "swap", "drain", "cutover")


def test_what_login_issues_is_a_session_in_the_shape_of_the_app(deploy: Deploy) -> None:
    there = deploy()
    answer = there.ask("POST", "/login", json={"user": "ada"})
    assert set(answer.json()) == {"access", "refresh"}
    token = answer.json()["access"]
    assert token.startswith("sess_")
    assert answer.json()["refresh"] == token
    assert answer.headers["content-length"] == str(len(answer.content))
    assert answer.headers["cache-control"] == "no-store"
    assert there.rig.count("sessions", "origin = 'exchange'") == 1


def test_outside_the_cohort_login_answers_as_it_always_did(deploy: Deploy) -> None:
    there = deploy("observe")
    pair = there.login()
    assert jwt.decode(pair["access"], SECRET, algorithms=["HS256"])["sub"] == "ada"
    assert there.rig.count("sessions") == 0


def test_the_app_is_shown_a_jwt_with_the_claims_of_the_login(deploy: Deploy) -> None:
    there = deploy()
    there.app.roles["ada"] = "editor"
    token = there.login()["access"]
    answer = there.ask("GET", "/me", token)
    assert answer.status_code == 200
    assert answer.json()["sub"] == "ada"
    assert answer.json()["role"] == "editor"
    assert all(token not in str(asked.headers) for asked in there.app.seen)


def test_one_jwt_is_minted_for_many_requests(deploy: Deploy) -> None:
    there = deploy()
    token = there.login()["access"]
    for _ in range(20):
        assert there.ask("GET", "/me", token).status_code == 200
    assert len({asked.bearer for asked in there.app.seen if asked.path == "/me"}) == 1


def test_an_echoed_jwt_never_leaves(deploy: Deploy) -> None:
    there = deploy()
    token = there.login()["access"]
    answer = there.ask("GET", "/echo", token)
    assert answer.json() == {"user": {"token": token}}
    assert answer.headers["content-length"] == str(len(answer.content))
    assert "etag" not in answer.headers  # of bytes that nobody sees
    assert there.ask("GET", "/echo-header", token).headers["x-token"] == token


def test_an_echo_in_a_stream_is_found_wherever_it_is_cut(deploy: Deploy) -> None:
    there = deploy()
    token = there.login()["access"]
    assert there.ask("GET", "/stream", token).text == f"data: {token} eyJ ende"


def test_an_echo_in_an_answer_too_large_to_hold_is_found(deploy: Deploy) -> None:
    there = deploy()
    token = there.login()["access"]
    answer = there.ask("GET", "/large", token)
    assert answer.text.strip() == token


def test_a_clients_own_jwt_goes_through_byte_for_byte(deploy: Deploy) -> None:
    there = deploy("swap")
    legacy = sign("ada", claims={"token_type": "access"})
    answer = there.ask("GET", "/echo", legacy)
    assert answer.json() == {"user": {"token": legacy}}
    assert answer.headers["etag"] == '"1"'
    assert there.app.seen[-1].bearer == legacy
    assert answer.headers["session-token"].startswith("sess_")


def test_a_token_for_something_else_goes_through_untouched(deploy: Deploy) -> None:
    there = deploy("swap", foreign=[{"claims": {"file": "*"}}])
    link = jwt.encode({"file": "a.pdf", "exp": 4_000_000_000}, SECRET, algorithm="HS256")
    assert there.ask("GET", "/file-link", link).json() == {"file": True}


def test_a_session_is_refreshed_without_rotation_by_any_number_of_tabs(deploy: Deploy) -> None:
    there = deploy()
    token = there.login()["refresh"]
    with ThreadPoolExecutor(8) as tabs:
        answers = list(
            tabs.map(lambda _: there.ask("POST", "/refresh", json={"refresh": token}), range(16))
        )
    assert [answer.json() for answer in answers] == [{"access": token, "refresh": token}] * 16


def test_a_legacy_refresh_token_becomes_one_session_however_often_it_is_sent(
    deploy: Deploy,
) -> None:
    there = deploy("observe")
    legacy = there.login()["refresh"]
    there.move("swap")
    answers = [there.ask("POST", "/refresh", json={"refresh": legacy}).json() for _ in range(3)]
    token = answers[0]["access"]
    assert token.startswith("sess_")
    assert answers == [{"access": token, "refresh": token}] * 3
    assert there.rig.count("sessions") == 1
    assert there.ask("GET", "/me", token).json()["role"] == "reader"


def test_what_the_app_says_at_a_refresh_is_what_its_sessions_say_from_then_on(
    deploy: Deploy,
) -> None:
    there = deploy()
    token = there.login()["access"]
    there.app.roles["ada"] = "admin"
    there.ask("POST", "/refresh", json={"refresh": token})
    assert there.ask("GET", "/me", token).json()["role"] == "admin"


def test_a_refresh_token_that_is_over_is_the_apps_to_answer(deploy: Deploy) -> None:
    there = deploy()
    over = sign_refresh("ada", lasts_s=-3600)
    answer = there.ask("POST", "/refresh", json={"refresh": over})
    assert (answer.status_code, answer.json()["why"]) == (401, "ExpiredSignatureError")


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("application/json", '{"refresh": "%s"}'),
        ("text/plain", '{"refresh": "%s"}'),
        ("application/json", '{"refresh": "%s", "note": 1}'),
    ],
)
def test_a_denied_refresh_token_gets_nothing(deploy: Deploy, kind: str, body: str) -> None:
    there = deploy("observe")
    legacy = there.login()["refresh"]
    there.move("swap")
    assert there.ask("POST", "/refresh", json={"refresh": legacy}).status_code == 200
    there.rig.execute("UPDATE migrator.sessions SET revoked_at = now()")
    answer = there.ask(
        "POST", "/refresh", content=(body % legacy).encode(), headers={"Content-Type": kind}
    )
    assert answer.status_code == 401
    assert there.app.refreshes == 1


def test_a_refresh_token_spelt_in_escapes_is_refused_unread(deploy: Deploy) -> None:
    there = deploy("swap")
    body = json.dumps({"refresh": sign_refresh("ada")}).replace("eyJ", "\\u0065yJ")
    answer = there.ask(
        "POST", "/refresh", content=body.encode(), headers={"Content-Type": "application/json"}
    )
    assert answer.status_code == 400
    assert there.app.refreshes == 0


def test_a_request_too_long_to_read_is_refused_and_not_let_through(deploy: Deploy) -> None:
    there = deploy("swap")
    body = {"pad": "x" * 70_000, "refresh": sign_refresh("ada")}
    assert there.ask("POST", "/refresh", json=body).status_code == 400
    assert there.app.refreshes == 0


def test_logout_ends_the_session(deploy: Deploy) -> None:
    there = deploy()
    token = there.login()["access"]
    assert there.ask("POST", "/logout", token, json={"refresh": token}).status_code == 204
    answer = there.ask("GET", "/me", token)
    assert (answer.status_code, answer.json()["reason"]) == (401, "revoked")
    assert there.ask("POST", "/refresh", json={"refresh": token}).status_code == 401


def test_logout_with_jwts_ends_what_they_became(deploy: Deploy) -> None:
    there = deploy("observe")
    pair = there.login()
    there.move("swap")
    token = there.ask("POST", "/refresh", json={"refresh": pair["refresh"]}).json()["access"]
    there.app.blocked.clear()
    answer = there.ask("POST", "/logout", pair["access"], json={"refresh": pair["refresh"]})
    assert answer.status_code == 204
    assert there.ask("GET", "/me", token).status_code == 401
    assert there.ask("GET", "/me", pair["access"]).status_code == 401


def test_what_the_app_blocks_by_jti_stays_blocked_for_the_session(deploy: Deploy) -> None:
    there = deploy()
    token = there.login()["access"]
    there.app.blocked.add(there.ask("GET", "/me", token).json()["jti"])
    assert there.ask("GET", "/me", token).json()["detail"] == "token_not_valid"
    there.move("drain")  # another process mints another JWT
    assert there.ask("GET", "/me", token).json()["detail"] == "token_not_valid"


def test_a_swapped_session_keeps_the_jti_and_iat_of_its_jwt(deploy: Deploy) -> None:
    there = deploy("swap")
    legacy = sign("ada", claims={"token_type": "access"})
    token = there.ask("GET", "/me", legacy).headers["session-token"]
    as_jwt = jwt.decode(legacy, SECRET, algorithms=["HS256"])
    shown = there.ask("GET", "/me", token).json()
    assert (shown["jti"], shown["iat"]) == (as_jwt["jti"], as_jwt["iat"])


@pytest.mark.parametrize("phase", [*PHASES])
def test_a_bridge_jwt_from_outside_is_refused_first(deploy: Deploy, phase: str) -> None:
    there = deploy()
    there.ask("GET", "/me", there.login()["access"])
    bridge = there.app.seen[-1].bearer
    there.move(phase)
    before = len(there.app.seen)
    spellings = [bridge, bridge + "=", bridge + "==", f"{bridge}%3D", bridge.replace(".", ". ", 1)]
    for spelt in spellings:
        assert there.ask("GET", "/me", spelt).status_code in {400, 401}, spelt
    for scheme in ("JWT", "Token", "bearer"):
        answer = there.ask("GET", "/me", headers={"Authorization": f"{scheme} {bridge}"})
        assert answer.status_code == 401, scheme
    assert there.ask("GET", "/me", headers={"Cookie": f"jwt={bridge}"}).status_code == 401
    live = there.ask("GET", "/me", sign("eve"), headers={"Cookie": f"jwt={bridge}"})
    assert live.status_code == 401
    assert there.ask("POST", "/refresh", json={"refresh": bridge}).status_code == 401
    assert len(there.app.seen) == before


def test_the_session_speaks_for_the_request_whatever_else_names_a_user(deploy: Deploy) -> None:
    there = deploy("swap")
    token = there.ask("GET", "/me", sign("ada", claims={"token_type": "access"})).headers[
        "session-token"
    ]
    answer = there.ask(
        "GET",
        "/me",
        token,
        headers={"Cookie": f"jwt={sign('eve')}; theme=dark", "X-User-Id": "eve"},
    )
    assert answer.json()["sub"] == "ada"
    assert there.app.seen[-1].headers["cookie"] == "theme=dark"
    assert "x-user-id" not in there.app.seen[-1].headers


def test_a_token_that_slides_in_a_header_is_the_clients_own(deploy: Deploy) -> None:
    there = deploy()
    token = there.login()["access"]
    assert there.ask("GET", "/slide", token).headers["authorization"] == f"Bearer {token}"


def test_a_route_that_nobody_configured_and_that_issues_is_counted(deploy: Deploy) -> None:
    there = deploy("swap")
    answer = there.ask("POST", "/other-login", json={"user": "ada"})
    assert not answer.json()["access"].startswith("sess_")
    there.move("swap")  # what was counted is written
    rows = there.rig.execute(
        "SELECT sum(count) FROM migrator.legacy_usage WHERE outcome = 'issued:elsewhere'"
    )
    assert rows[0][0] >= 1


def test_a_login_while_the_store_is_away_is_503_and_leaves_nothing(deploy: Deploy) -> None:
    there = deploy()
    assert there.login()
    there.rig.execute("ALTER TABLE migrator.sessions RENAME TO gone")
    answer = there.ask("POST", "/login", json={"user": "ada"})
    assert (answer.status_code, answer.json()) == (503, {"error": "temporarily_unavailable"})
    assert "retry-after" in answer.headers
    there.rig.execute("ALTER TABLE migrator.gone RENAME TO sessions")
    assert there.login()["access"].startswith("sess_")


def test_a_token_in_a_json_body_is_a_credential_where_a_transport_says_so(deploy: Deploy) -> None:
    places = [{"json": "access_token"}, {"header": "Authorization", "scheme": "Bearer"}]
    there = deploy("swap", issuers=[{**ISSUER, "transport": places}])
    legacy = sign("ada", claims={"token_type": "access"})
    answer = there.ask("POST", "/in-body", json={"access_token": legacy, "note": "é"})
    assert answer.json() == {"sub": "ada", "note": "é"}
    token = answer.headers["session-token"]
    answer = there.ask("POST", "/in-body", json={"note": "é", "access_token": token})
    assert answer.json() == {"sub": "ada", "note": "é"}
    assert token.encode() not in there.app.seen[-1].body
    there.rig.execute("UPDATE migrator.sessions SET revoked_at = now()")
    there.move("swap")
    before = len(there.app.seen)
    for refused in (legacy, token):
        answer = there.ask("POST", "/in-body", json={"access_token": refused, "note": ""})
        assert (answer.status_code, answer.json()["reason"]) == (401, "revoked")
    twice = f'{{"access_token": "{refused}", "access_token": "{sign("ada")}"}}'
    answer = there.ask(
        "POST", "/in-body", content=twice, headers={"Content-Type": "application/json"}
    )
    assert answer.status_code == 401
    assert there.ask("POST", "/in-body", json={"pad": "x" * 70_000}).status_code == 400
    assert len(there.app.seen) == before


@pytest.mark.parametrize("before", ["swap", "drain"])
def test_the_shim_is_taken_out_again_with_nobody_logged_out(deploy: Deploy, before: str) -> None:
    there = deploy(before)
    token = there.login()["access"]
    there.move("observe")
    assert there.ask("GET", "/me", token).json()["sub"] == "ada"  # it lives on
    tabs = [there.ask("POST", "/refresh", json={"refresh": token}).json() for _ in range(3)]
    assert len({tab["access"] for tab in tabs}) == 3
    for tab in tabs:  # no shim any more
        claims = there.app.read(tab["access"], "access")
        assert claims["sub"] == "ada"
        assert "urn:migrator:bridge" not in claims
        assert there.app.read(tab["refresh"], "refresh")["sub"] == "ada"
    assert there.ask("GET", "/me", tabs[0]["access"]).status_code == 200
    assert there.ask("GET", "/me", token).status_code == 200


def test_a_client_that_refreshes_on_a_401_alone_goes_back_too(deploy: Deploy) -> None:
    rotates = {**ISSUER, "rotates_refresh": True, "refresh_lifetime": "1d"}
    there = deploy("drain", issuers=[rotates])
    used, unused, ended = (there.login(user)["refresh"] for user in ("ada", "bob", "eve"))
    there.rig.execute("UPDATE migrator.sessions SET expires_at = now()")
    there.rig.execute(
        "UPDATE migrator.sessions SET last_seen_at = now() - interval '25 h' WHERE subject = 'bob'"
    )
    there.rig.execute("UPDATE migrator.sessions SET revoked_at = now() WHERE subject = 'eve'")
    there.move("drain")
    assert there.ask("POST", "/refresh", json={"refresh": used}).status_code == 401
    there.move("observe")
    assert there.ask("GET", "/me", used).status_code == 401
    pair = there.ask("POST", "/refresh", json={"refresh": used}).json()
    assert there.app.read(pair["access"], "access")["sub"] == "ada"
    for refused in (unused, ended):
        assert there.ask("POST", "/refresh", json={"refresh": refused}).status_code == 401


@pytest.mark.parametrize("refreshes", [0, 2])
def test_what_the_apps_own_list_names_ends_the_session_that_took_its_place(
    deploy: Deploy, refreshes: int
) -> None:
    """P2: a refresh token that was taken out of an answer is on the app's list all the same."""
    there = deploy("drain")
    token = there.login()["access"]
    for _ in range(refreshes):
        there.ask("POST", "/refresh", json={"refresh": token})
    listed = there.app.issued[-1]["refresh"]
    wiring.sessions(there.rig.settings(bridge={}, issuers=[BRIDGED])).end(listed)
    assert there.ask("GET", "/me", token).json()["reason"] == "revoked"
    assert there.rig.count("legacy_tokens", "adopted_at IS NULL") == 0


def test_a_client_that_refreshes_by_the_clock_leaves_no_row_each_time(deploy: Deploy) -> None:
    there = deploy("drain")
    token = there.login()["access"]
    for _ in range(5):
        there.rig.execute("UPDATE migrator.legacy_tokens SET adopted_at = now() - interval '2 h'")
        there.ask("POST", "/refresh", json={"refresh": token})
    assert there.rig.count("legacy_tokens", "purpose = 'refresh'") == 1


def test_whoever_holds_the_very_jwt_that_was_taken_from_an_answer_keeps_it(deploy: Deploy) -> None:
    """P12: without a jti, two logins within one second are one and the same JWT."""
    there = deploy("swap")
    claims = {"sub": "ada", "token_type": "access", "exp": int(time.time()) + 3600}
    same = jwt.encode(claims, SECRET, algorithm="HS256")
    there.app.says["/login"] = lambda _: said(200, {"access": same})
    assert there.login()["access"].startswith("sess_")
    assert there.ask("GET", "/file-link", same).status_code == 200
