"""The hostile tokens as requests to five servers, and what they leave behind: nothing.

Security.md 2.4, PUB-001 to PUB-059 and PUB-097 to PUB-102, for four families of algorithms.
"""

from __future__ import annotations

import re
import time
from functools import cache
from itertools import islice

import pytest

from tests.core.signers import SIGNERS
from tests.counts import counted
from tests.hostile.recipes import CONTROLS, EXPIRED, RECIPES
from tests.hostile.standing import SERVERS, House, iss_of
from tests.hostile.tokens import Forge, enormous

pytestmark = pytest.mark.xdist_group("hostile")

# What HTTP forbids in a header (RFC 9110 section 5.5): most servers refuse it before us.
_NO_HTTP = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")
_JOINED = re.compile(rb"[ \t,]")
_LONGEST_LINE = 8000


def right_answers(token: bytes) -> set[str]:
    """The only right answers to a hostile token that is not expired."""
    answers = {"invalid"}
    if _NO_HTTP.search(token) or len(token) > _LONGEST_LINE:
        answers.add("server")
    if _NO_HTTP.search(token) or _JOINED.search(token):  # two words are no token
        answers.add("invalid_request")
    return answers


@cache
def corpus(family: str, listener: str) -> tuple[tuple[str, bytes], ...]:
    """Every token of a family, made once for all servers; what is around one is HTTP's."""
    forge = Forge(SIGNERS[family], int(time.time()), iss_of(family), listener)
    made = [(name, token) for name, recipe in RECIPES.items() for token in recipe(forge)]
    return tuple((name, token) for name, token in made if token.strip() == token)


# Each server takes a share of its own, so that all together have met every token.
SHARES = [
    pytest.param(len(SERVERS), id="a fifth"),
    pytest.param(1, id="all", marks=(pytest.mark.full, pytest.mark.timeout(900))),
]


@pytest.mark.parametrize("share", SHARES)
@pytest.mark.parametrize("family", SIGNERS)
def test_p10_a_hostile_token_is_refused_and_nothing_happens(
    house: House, family: str, share: int
) -> None:
    forge, asked = house.forge(family), 0
    mine = islice(corpus(family, house.listener.url), house.number % share, None, share)
    assert house.present(forge.fresh()) == "user-1"
    with house.unmoved():
        for name, token in mine:
            found = house.present(token)
            assert found in right_answers(token), (name, token[:400], found)
            asked += 1
        for name, recipe in EXPIRED.items():
            for token in recipe(forge):
                goes_on = house.server.name != "serve"
                assert house.present(token) == ("anonymous" if goes_on else "expired"), name
                asked += 1
    assert house.present(forge.fresh()) == "user-1"
    counted("G1", "hostile tokens as requests to five servers", asked)


@pytest.mark.parametrize("family", SIGNERS)
def test_p10_a_hostile_token_is_refused_without_asking_a_store(house: House, family: str) -> None:
    """With neither store there, whatever would ask one is answered 503."""
    forge, asked = house.forge(family), 0
    with house.without_stores():
        assert house.present(forge.fresh()) == "temporarily_unavailable"
        for name, recipe in RECIPES.items():
            token = next(recipe(forge), b"")
            if token.strip(b" "):
                assert house.present(token) in right_answers(token), name
                asked += 1
    counted("G1", "hostile tokens with neither store there", asked)


@pytest.mark.parametrize("family", SIGNERS)
def test_a_good_token_is_let_in_however_its_signer_writes_it(house: House, family: str) -> None:
    asked = 0
    for name, recipe in CONTROLS.items():
        for token in recipe(house.forge(family)):
            for scheme in (b"Bearer ", b"bearer ", b"BEARER   "):
                found = house.ask(("Authorization", scheme + token))
                assert found == "user-1", (name, token, found)
                asked += 1
    counted("G1", "controls let in", asked)


@pytest.mark.parametrize("share", SHARES)
def test_megabytes_are_refused_by_the_server_or_by_us(house: House, share: int) -> None:
    """PUB-026."""
    for token in islice(enormous(house.forge("RS256")), 0, None, share):
        assert house.present(token) in {"server", "invalid"}
    assert house.present(house.forge("RS256").fresh()) == "user-1"


def test_p6_no_token_and_no_traceback_is_in_the_log(house: House) -> None:
    forge = house.forge("ES256")
    canary, before = forge.fresh(), len(house.said())
    for token in (canary, canary + b"=", canary[:-4], canary + b"!", b"." + canary):
        house.present(token)
        house.ask(("Cookie", b"access_token=" + token))
        house.ask(("Authorization", b"Digest " + token), ("Cookie", b"a=" + token))
    said = house.said()
    assert "eyJ" not in said[before:]
    assert "Traceback" not in said
