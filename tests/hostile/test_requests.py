"""Hostile requests to five servers: how, where and when a credential is presented.

Security.md 2.4, PUB-063 to PUB-088, PUB-091 and their neighbours, for four families of algorithms.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import nullcontext
from itertools import cycle, islice

import pytest

from migrator import wiring
from migrator.core.app import Sessions
from migrator.settings import Settings
from tests.core.signers import SIGNERS
from tests.counts import counted
from tests.hostile.requests import HTTP, OPAQUE, Case, Held, bearer, cookie
from tests.hostile.standing import House, described, request_bytes, until
from tests.hostile.tokens import mirrored
from tests.http.servers import Answer

pytestmark = pytest.mark.xdist_group("hostile")


def operator(house: House) -> Sessions:
    environ = house.server.deployment.environ()
    return wiring.operator(Settings.load(environ["MIGRATOR_CONFIG"], environ=environ))


def swapped(house: House, jwt: str) -> tuple[str, str]:
    """The session token of a JWT, and the session's id."""
    answer = house.wire.ask(bearer(jwt))
    assert isinstance(answer, Answer)
    token = answer.get("session-token")
    assert answer.status == 200
    assert token is not None
    rows = house.server.deployment.rig.execute(
        "SELECT id FROM migrator.sessions ORDER BY created_at DESC LIMIT 1"
    )
    return token, str(rows[0][0])


_held: dict[tuple[str, str], Held] = {}


def held_at(house: House, family: str) -> Held:
    """What the attacker has of one family, made once for each server."""
    key = (house.server.log.as_posix(), family)
    if key not in _held:
        forge = house.forge(family)
        ann_jwt, bob_jwt, ended_jwt = (
            forge.fresh(sub=sub).decode() for sub in ("ann", "bob", "ann")
        )
        ended, _ = swapped(house, ended_jwt)
        (ann, session_id), (bob, _) = swapped(house, ann_jwt), swapped(house, bob_jwt)
        operator(house).end(ended)
        until(lambda: house.ask(bearer(ended)) == "revoked")
        _held[key] = Held(forge, ann, session_id, ann_jwt, bob, bob_jwt, ended, ended_jwt)
    return _held[key]


def answer_to(house: House, held: Held, case: Case) -> str:
    request = {
        name: value.replace("GOOD", held.ann_jwt)
        if isinstance(value, str)
        else value.replace(b"GOOD", held.ann_jwt.encode())
        for name, value in case.request.items()
    }
    lines = case.made(held)
    if any("\r" in str(value) or name.endswith(" ") for name, value in lines):
        house.wire.close()
    answer = house.wire.ask(*lines, **request)
    if request:  # what was no credential is nothing to hand a session out for
        assert answer is None or not (answer.all("session-token") and "GOOD" in str(case.request))
    return described(answer)


# Each server meets one family in make test, and all of them in make full.
FAMILIES = [
    pytest.param(1, id="one family"),
    pytest.param(len(SIGNERS), id="all", marks=(pytest.mark.full, pytest.mark.timeout(900))),
]


@pytest.mark.parametrize("families", FAMILIES)
@pytest.mark.parametrize("kind", ["opaque", "http"])
def test_a_hostile_request_gets_the_one_right_answer_and_writes_nothing(
    house: House, families: int, kind: str
) -> None:
    cases = OPAQUE if kind == "opaque" else HTTP
    first = house.number if families == 1 else 0
    for family in islice(cycle(SIGNERS), first, first + families):
        held = held_at(house, family)
        rows = house.rows()
        for quiet in (True, False):
            with house.unmoved() if quiet else nullcontext():
                wrong = wrongly_answered(house, held, cases, quiet=quiet)
                assert not wrong, str(wrong)
        assert house.rows() == rows
        assert house.ask(bearer(held.ann)) == "ann"
        assert held.ann_jwt not in house.said()
        counted("G1", "hostile requests to five servers", 2 * len(cases))


def wrongly_answered(
    house: House, held: Held, cases: Mapping[str, Case], *, quiet: bool
) -> list[tuple[str, str]]:
    """The cases that got another answer than the right one, and which."""
    wrong = []
    for name, case in cases.items():
        if case.quiet is quiet:
            proxied = case.proxied if house.server.name == "serve" else None
            for _ in range(2):  # once asked, once remembered
                found = answer_to(house, held, case)
                if found not in (proxied or case.answers):
                    wrong.append((name, found))
    return wrong


def test_the_other_spelling_of_a_revoked_es256_token_is_revoked(house: House) -> None:
    """PUB-084."""
    forge = house.forge("ES256")
    jwt = forge.fresh(sub="eve")
    token, _ = swapped(house, jwt.decode())
    assert house.present(mirrored(forge, jwt)) == "eve"
    operator(house).end(token)
    until(lambda: house.present(jwt) == "revoked")
    assert house.present(mirrored(forge, jwt)) == "revoked"


@pytest.mark.parametrize("family", SIGNERS)
def test_p2_logging_out_everywhere_reaches_tokens_never_seen(house: House, family: str) -> None:
    """PUB-050, PUB-085, PUB-086."""
    forge = house.forge(family)
    seen, unseen = forge.fresh(sub="cem"), forge.fresh(sub="cem")
    token, _ = swapped(house, seen.decode())
    operator(house).end_all("cem", realm=family.lower())
    until(lambda: house.ask(bearer(token)) == "revoked")
    assert [house.present(jwt) for jwt in (seen, unseen)] == ["revoked"] * 2
    later = forge.fresh(sub="cem", iat=forge.now_s + 20)
    assert house.present(later) == "cem"


@pytest.mark.parametrize("family", SIGNERS)
def test_p1_a_swap_whose_answer_was_lost_is_the_same_swap_again(house: House, family: str) -> None:
    """PUB-088."""
    jwt, rig = house.forge(family).fresh(sub=f"lost {family}"), house.server.deployment.rig
    with house.server.connect() as lost:
        lost.sendall(request_bytes(house.server, ("Authorization", b"Bearer " + jwt)))
    first, second = (swapped(house, jwt.decode()) for _ in range(2))
    assert first == second
    assert rig.count("sessions", f"subject = 'lost {family}'") == 1


def test_p3_a_session_brought_along_is_never_adopted(house: House) -> None:
    """PUB-091."""
    forge = house.forge("HS256")
    brought, _ = swapped(house, forge.fresh(sub="mallory").decode())
    operator(house).end(brought)
    until(lambda: house.ask(bearer(brought)) == "revoked")
    jwt = forge.fresh(sub="victim").decode()
    answer = house.wire.ask(cookie(brought), bearer(jwt))
    assert answer is not None
    assert answer.get("session-token") not in {None, brought}
    assert house.ask(bearer(brought)) == "revoked"


IDENTITY = [
    *("Remote-User", "REMOTE_USER", "remote_user", "X-Remote-User", "X-Auth-User", "x_auth_user"),
    *("X-Auth-Scopes", "X-Forwarded-User", "X-Forwarded_User", "X-User-Id", "X_User_Id"),
    *("X-Authenticated-User", "X-Auth-Realm", "Remote-Groups", "X-REMOTE_USER"),
]


@pytest.mark.parametrize("known", [False, True], ids=["stranger", "ann"])
def test_nobody_says_by_a_header_who_they_are(house: House, known: bool) -> None:
    """PUB-079."""
    lines = (bearer(house.forge("HS256").fresh(sub="ann").decode()),) if known else ()
    for name in IDENTITY:
        for spelt in (name, name.lower(), name.upper()):
            answer = house.wire.ask((spelt, "admin"), *lines)
            assert described(answer) == ("ann" if known else "anonymous"), spelt
            assert answer is not None
            assert "admin" not in str(answer.lines) + answer.body.decode(), spelt
    counted("G1", "lies about who one is", 3 * len(IDENTITY))


def test_a_line_feed_makes_no_header_that_names_a_user(house: House) -> None:
    """A bare LF begins a header at some servers, and is refused by the others."""
    for end in ("\n", "\r", "\r\n", "\n\t", "\0\n"):
        house.wire.close()
        answer = house.wire.ask(("X-Note", f"a{end}X-Auth-User: admin"))
        house.wire.close()
        assert described(answer) in {"anonymous", "server"}, end
        if answer is not None and answer.status == 200:
            assert ["x-auth-user", "admin"] not in answer.json["headers"]


@pytest.mark.parametrize("family", SIGNERS)
def test_nothing_is_handed_out_to_head_and_a_bad_one_is_refused(house: House, family: str) -> None:
    """A HEAD has no body: the status and the challenge say it all."""
    if house.server.name == "serve":
        return  # asked by GET, whatever the original method; see test_forward_auth.py
    forge = house.forge(family)
    for token, status in ((forge.fresh(), 200), (forge.token() + b"=", 401)):
        request = request_bytes(house.server, ("Authorization", b"Bearer " + token), method="HEAD")
        answer = house.wire.say(request, "HEAD")
        assert answer is not None
        assert (answer.status, answer.get("session-token")) == (status, None)
