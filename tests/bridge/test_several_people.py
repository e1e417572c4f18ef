"""Two people's tokens in one request or answer, and more of them than a client has."""

from __future__ import annotations

from datetime import timedelta

import jwt
import pytest

from tests.bridge.app import Answer, Asked, said
from tests.bridge.conftest import Deploy
from tests.rig import SECRET, sign, sign_refresh

# Two people in one request or answer.


def test_two_peoples_refresh_tokens_in_one_body_are_nobodys(deploy: Deploy) -> None:
    there = deploy()
    ada, eve = there.login("ada")["refresh"], there.login("eve")["refresh"]
    body = {"refresh": ada, "other": eve}
    assert there.ask("POST", "/refresh", json=body).status_code == 400
    assert there.app.refreshes == 0


def test_whose_refresh_token_it_is_decides_beside_anothers_session(deploy: Deploy) -> None:
    there = deploy()
    ada, eve = there.login("ada")["access"], there.login("eve")["refresh"]
    answer = there.ask("POST", "/refresh", ada, json={"refresh": eve})
    assert answer.json() == {"access": eve, "refresh": eve}
    seen = there.app.seen[-1]
    assert jwt.decode(seen.bearer, SECRET, algorithms=["HS256"])["sub"] == "eve"


def test_a_login_while_another_session_lives_is_the_new_persons(deploy: Deploy) -> None:
    there = deploy()
    ada = there.login("ada")["access"]
    for asked in ({"token": ada}, {"headers": {"Cookie": f"session={ada}"}}):
        answer = there.ask("POST", "/login", json={"user": "eve"}, **asked)
        eve = answer.json()["access"]
        assert eve != ada
        assert there.ask("GET", "/me", eve).json()["sub"] == "eve"
        assert there.ask("GET", "/me", ada).json()["sub"] == "ada"


def test_an_answer_with_two_peoples_tokens_lends_neither_the_others_life(deploy: Deploy) -> None:
    there = deploy()

    def impersonates(_: Asked) -> Answer:
        acting = sign("ada", lasts_s=300, claims={"token_type": "access"})
        return said(200, {"access": acting, "refresh": sign_refresh("root")})

    there.app.says["/login"] = impersonates
    answer = there.ask("POST", "/login").json()
    assert there.ask("GET", "/me", answer["access"]).json()["sub"] == "ada"
    assert there.ask("GET", "/me", answer["refresh"]).json()["sub"] == "root"
    lasts = dict(
        there.rig.execute(
            "SELECT subject, extract(epoch FROM expires_at - now())::int FROM migrator.sessions"
        )
    )
    assert lasts["ada"] <= 300
    assert lasts["root"] > 80_000


@pytest.mark.parametrize("refresh_s", [None, 7200])
def test_a_login_session_ends_with_the_tokens_it_stands_for(
    deploy: Deploy, refresh_s: int | None
) -> None:
    there = deploy()

    def short(_: Asked) -> Answer:
        pair = {"access": sign("ada", lasts_s=900, claims={"token_type": "access"})}
        if refresh_s is not None:
            pair["refresh"] = sign_refresh("ada", lasts_s=refresh_s)
        return said(200, pair)

    there.app.says["/login"] = short
    there.ask("POST", "/login")
    left = there.rig.execute("SELECT max(expires_at) - now() FROM migrator.sessions")[0][0]
    assert timedelta() < left <= timedelta(seconds=refresh_s or 900)


# What it may cost.


def test_thousands_of_tokens_in_an_answer_cost_a_few_sessions_and_signatures(
    deploy: Deploy,
) -> None:
    there = deploy()
    many = [sign(f"user-{at}", claims={"token_type": "access"}) for at in range(400)]
    there.app.says["/login"] = lambda _: said(200, {"many": many})
    assert there.ask("POST", "/login").status_code == 200
    assert there.rig.count("sessions") <= 32


def test_more_tokens_than_a_client_has_are_refused_before_any_is_verified(
    deploy: Deploy,
) -> None:
    there = deploy("swap")
    many = [sign_refresh(f"user-{at}") for at in range(33)]
    answer = there.ask("POST", "/refresh", json={"refresh": many[-1], "more": many})
    assert answer.status_code == 400
    assert there.rig.count("sessions") == 0
