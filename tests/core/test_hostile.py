"""Hostile tokens at the verifier, for each family of algorithms: none holds, none raises.

The same tokens go to real servers in tests/hostile.
"""

import time

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from migrator.core.claims import Claims
from migrator.core.legacy import FOREIGN, Wrong
from migrator.core.verdicts import Reason
from tests.core.signers import NOW_S, SIGNERS, claims, judge, verifier
from tests.counts import counted
from tests.hostile.recipes import CONTROLS, EXPIRED, RECIPES
from tests.hostile.tokens import Forge, enormous, mirrored


@pytest.mark.parametrize("family", SIGNERS)
@pytest.mark.parametrize("recipe", [*RECIPES, *EXPIRED])
def test_a_hostile_token_is_refused(recipe: str, family: str) -> None:
    signer, tried = SIGNERS[family], 0
    for token in (RECIPES | EXPIRED)[recipe](Forge(signer, NOW_S)):
        found = judge(token, signer.issuer())
        assert isinstance(found, Reason), (recipe, token[:300], found)
        assert (found is Reason.LEGACY_EXPIRED) == (recipe in EXPIRED)
        tried += 1
    counted("G1", "hostile tokens at the verifier", tried)


@pytest.mark.parametrize("family", SIGNERS)
def test_a_good_token_holds_however_its_signer_writes_it(family: str) -> None:
    signer = SIGNERS[family]
    for name, recipe in CONTROLS.items():
        for token in recipe(Forge(signer, NOW_S)):
            found = judge(token, signer.issuer())
            assert isinstance(found, Claims), (name, token, found)
            assert found.subject == "user-1"


def test_megabytes_are_refused_before_they_are_read() -> None:
    """PUB-026: the size comes first (CVE-2025-61920)."""
    signer = SIGNERS["RS256"]
    judging = verifier(signer.issuer())
    for token in enormous(Forge(signer, NOW_S)):
        begun = time.process_time()
        assert judging.whose(token) == Wrong(Reason.OVERSIZED)
        assert time.process_time() - begun < 0.05


def test_a_token_of_another_issuers_key_is_refused() -> None:
    """PUB-017: keys belong to an issuer (RFC 8725 section 3.8)."""
    ours, theirs = SIGNERS["RS256"], SIGNERS["ES256"]
    other = theirs.issuer(id="b1", iss="https://other.example")
    assert isinstance(judge(theirs.token(claims(iss=other.iss)), ours.issuer(), other), Claims)
    assert judge(theirs.token(), ours.issuer(), other) is Reason.WRONG_ALGORITHM


@pytest.mark.parametrize(
    "text",
    [b"", b".", b"..", b"...", b"a.b.c", b"sk_live_4eC39HqLyjW", b"Zm9v", b"\xff" * 40, b"{}"],
)
def test_what_is_no_jwt_is_the_apps_business(text: bytes) -> None:
    assert judge(text, SIGNERS["HS256"].issuer()) is FOREIGN


@pytest.mark.parametrize("family", SIGNERS)
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_a_mutated_token_never_raises_and_never_holds(family: str, data: st.DataObject) -> None:
    good = SIGNERS[family].token()
    at = data.draw(st.integers(0, len(good)))
    cut = data.draw(st.integers(0, 4))
    put = data.draw(st.binary(max_size=6) | st.sampled_from([b".", b"=", b"A", b"e30", b"-_"]))
    mutant = good[:at] + put + good[at + cut :]
    found = judge(mutant, SIGNERS[family].issuer())
    assert not isinstance(found, Claims) or mutant == good


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=400) | st.text(max_size=200).map(lambda text: text.encode()))
def test_any_bytes_are_judged_without_raising(text: bytes) -> None:
    for signed in (text, SIGNERS["HS256"].token(text), SIGNERS["HS256"].token(None, text)):
        assert not isinstance(judge(signed, SIGNERS["HS256"].issuer()), Claims)


def test_the_other_spelling_of_an_es256_signature_is_the_same_token() -> None:
    """PUB-084, PUB-101: (r, n-s) holds, some signers write it, and has the same fingerprint."""
    forge = Forge(SIGNERS["ES256"], NOW_S)
    token = forge.token()
    one = judge(token, forge.signer.issuer())
    other = judge(mirrored(forge, token), forge.signer.issuer())
    assert isinstance(one, Claims)
    assert isinstance(other, Claims)
    assert one.fingerprint == other.fingerprint
