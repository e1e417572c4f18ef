"""Outages and races while a credential crosses the bridge."""

from __future__ import annotations

import json
import threading
from base64 import urlsafe_b64decode, urlsafe_b64encode
from concurrent.futures import ThreadPoolExecutor

import jwt
import pytest

from migrator.core.bridge import is_marked
from tests.bridge.app import Answer, Asked
from tests.bridge.conftest import BRIDGED, Deploy, Deployment, bridge_jwt
from tests.rig import ISSUER, SECRET, sign, sign_refresh


def test_a_session_that_is_revoked_while_it_crosses_is_not_admitted_again(deploy: Deploy) -> None:
    there = deploy()
    token = there.login()["access"]
    original = there.app.refresh

    def revoked_meanwhile(asked: Asked) -> Answer:
        answer = original(asked)
        there.rig.execute("UPDATE migrator.sessions SET revoked_at = now()")
        return answer

    there.app.says["/refresh"] = revoked_meanwhile
    there.ask("POST", "/refresh", json={"refresh": token})
    there.move("drain")
    assert there.ask("GET", "/me", token).status_code == 401
    assert there.rig.count("sessions", "revoked_at IS NULL") == 0


@pytest.mark.parametrize("table", ["sessions", "legacy_tokens", "denials"])
def test_an_outage_at_the_refresh_route_is_503_and_the_app_is_not_asked(
    deploy: Deploy, table: str
) -> None:
    there = deploy("swap")
    legacy = sign_refresh("ada")
    there.rig.execute(f"ALTER TABLE migrator.{table} RENAME TO gone")
    answer = there.ask("POST", "/refresh", json={"refresh": legacy})
    assert answer.status_code == 503
    assert there.app.refreshes == 0
    there.rig.execute(f"ALTER TABLE migrator.gone RENAME TO {table}")
    assert there.ask("POST", "/refresh", json={"refresh": legacy}).status_code == 200


def test_an_outage_while_an_answer_is_judged_lets_no_jwt_out(deploy: Deploy) -> None:
    there = deploy()
    token = there.login()["access"]
    original = there.app.refresh

    def goes_away(asked: Asked) -> Answer:
        there.rig.execute("ALTER TABLE migrator.sessions RENAME TO gone")
        return original(asked)

    there.app.says["/refresh"] = goes_away
    answer = there.ask("POST", "/refresh", json={"refresh": token})
    there.rig.execute("ALTER TABLE migrator.gone RENAME TO sessions")
    assert (answer.status_code, answer.json()) == (503, {"error": "temporarily_unavailable"})
    assert "eyJ" not in answer.text + str(answer.headers)
    assert there.ask("GET", "/me", token).json()["sub"] == "ada"


def test_an_outage_at_logout_is_503_and_the_session_is_not_said_to_be_over(
    deploy: Deploy,
) -> None:
    there = deploy()
    token = there.login()["access"]
    assert there.ask("GET", "/me", token).status_code == 200
    there.rig.execute("ALTER TABLE migrator.sessions RENAME TO gone")
    assert there.ask("POST", "/logout", token).status_code == 503
    there.rig.execute("ALTER TABLE migrator.gone RENAME TO sessions")
    assert there.ask("POST", "/logout", token).status_code == 204
    assert there.ask("GET", "/me", token).status_code == 401


def test_without_redis_everything_crosses_a_little_slower(deploy: Deploy) -> None:
    there = deploy(redis={"url": "redis://127.0.0.1:1/0"})
    token = there.login()["access"]
    assert there.ask("GET", "/me", token).json()["sub"] == "ada"
    assert there.ask("POST", "/refresh", json={"refresh": token}).json()["access"] == token
    assert there.ask("POST", "/logout", token).status_code == 204
    assert there.ask("GET", "/me", token).status_code == 401


def test_one_legacy_refresh_token_in_two_processes_at_once_is_one_session(deploy: Deploy) -> None:
    there = deploy("swap")
    # Settings that differ in nothing that matters share nothing: as two processes do.
    beside = Deployment(there.rig, there.colour, {"memory": {"poll_ms": 101, "trust_ms": 900}})
    legacy = sign_refresh("ada")
    barrier = threading.Barrier(8)

    def refresh(at: int) -> str:
        barrier.wait()
        answer = (there, beside)[at % 2].ask("POST", "/refresh", json={"refresh": legacy})
        token: str = answer.json()["access"]
        return token

    with ThreadPoolExecutor(8) as tabs:
        tokens = set(tabs.map(refresh, range(8)))
    beside.stop()
    assert len(tokens) == 1
    assert there.rig.count("sessions") == 1


def test_scopes_that_the_app_takes_away_at_a_refresh_are_gone(deploy: Deploy) -> None:
    issuer = {**BRIDGED, "claims": {**ISSUER["claims"], "scopes": "perms"}}
    there = deploy(issuers=[issuer])
    original = there.app.pair
    perms = ["write", "read"]

    def pair(user: str) -> dict[str, str]:
        made = original(user)
        for kind, token in made.items():
            claims = {**jwt.decode(token, SECRET, algorithms=["HS256"]), "perms": perms}
            made[kind] = jwt.encode(claims, SECRET, algorithm="HS256")
        return made

    there.app.pair = pair  # type: ignore[method-assign]
    token = there.login()["access"]
    assert there.ask("GET", "/me", token).json()["perms"] == ["write", "read"]
    perms.remove("write")
    there.ask("POST", "/refresh", json={"refresh": token})
    assert there.ask("GET", "/me", token).json()["perms"] == ["read"]
    assert there.rig.execute("SELECT scopes FROM migrator.sessions")[0][0] == ["read"]


def test_a_dotted_claim_is_shown_where_the_app_looks_for_it(deploy: Deploy) -> None:
    there = deploy("swap")
    claims = {"token_type": "access", "kubernetes.io": {"pod": "a"}, "user": {"id": 5, "a": 1}}
    token = there.ask("GET", "/me", sign("ada", claims=claims)).headers["session-token"]
    shown = there.ask("GET", "/me", token).json()
    assert shown["kubernetes.io"] == {"pod": "a"}
    assert shown["user"] == {"id": 5, "a": 1}


def test_a_bridge_jwt_is_no_spelling_of_itself(deploy: Deploy) -> None:
    there = deploy()
    head, payload, signature = bridge_jwt(there).split(".")
    raw = urlsafe_b64decode(payload + "==")
    spaced = json.dumps(json.loads(raw), indent=1).encode()
    respelt = urlsafe_b64encode(spaced).rstrip(b"=").decode()
    assert is_marked(f"{head}.{respelt}.{signature}".encode())
