"""Vectors that others wrote: Wycheproof, RFC 7515, RFC 7520, RFC 8037. Read, never committed.

The one allowed skip of the suite: they stand in a folder beside the project, or nowhere.
"""

import json
from base64 import urlsafe_b64decode
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from migrator.core import strict
from migrator.core.errors import BadSettings
from migrator.core.legacy import ALGORITHMS, Key, signed_by
from migrator.core.verdicts import Reason
from migrator.stores.keys import KeySource, StaticRing, key_ring
from tests.counts import counted

VECTORS = Path(__file__).resolve().parents[3] / "shared" / "vectors"
pytestmark = pytest.mark.skipif(
    not VECTORS.is_dir(), reason="third-party vectors are not beside the project"
)

# Vectors that are wrong themselves, or where one key, one algorithm (RFC 8725 section 3.1) says
# otherwise; the file of known defects beside them gives the reason for each.
ACCEPTED_THOUGH_LABELLED_INVALID = {("signature", 367), ("signature", 370)}
REFUSED_THOUGH_LABELLED_VALID = {
    ("signature", number) for number in (346, 347, 350, 351, 372, 373)
}


def read(path: str) -> Any:
    return json.loads((VECTORS / path).read_text("utf-8"))


def holds(token: object, jwk: dict[str, Any], algorithms: tuple[str, ...]) -> Key | Reason | str:
    """What strict parsing, key loading and the signature check say, as in production."""
    try:
        source = KeySource(value=json.dumps(jwk).encode(), origin="vector", form="json")
        ring = key_ring([source], algorithms)
    except BadSettings as error:
        return error.problems[0].id
    text = token if isinstance(token, str) else json.dumps(token)  # JSON serialization
    jws = strict.parse(text.encode("utf-8", "surrogatepass"))
    return jws if isinstance(jws, Reason) else signed_by(jws, algorithms, ring)


def wycheproof() -> Iterator[tuple[str, int, str, bool, dict[str, Any], dict[str, Any]]]:
    if not VECTORS.is_dir():
        return
    for name in ("signature", "key", "crypto"):
        for group in read(f"wycheproof/json_web_{name}_test.json")["testGroups"]:
            for test in group["tests"]:
                if "jws" in test:
                    key = group.get("public") or group["private"]
                    yield name, test["tcId"], test["jws"], test["result"] == "valid", key, test


def algorithms_of(jwk: dict[str, Any]) -> tuple[str, ...]:
    keys = jwk.get("keys", [jwk])
    declared = {key.get("alg") for key in keys}
    return tuple(sorted(alg for alg in declared if alg in ALGORITHMS)) or ("ES256",)


def test_wycheproof_is_met_but_for_vectors_that_are_wrong_themselves() -> None:
    seen, wrong = 0, set()
    for name, number, token, valid, jwk, _ in wycheproof():
        seen += 1
        if isinstance(holds(token, jwk, algorithms_of(jwk)), Key) != valid:
            wrong.add((name, number))
    assert seen > 440
    counted("G2", "Wycheproof vectors with a signature", seen)
    counted("G2", "of them wrong themselves", len(wrong))
    assert wrong == ACCEPTED_THOUGH_LABELLED_INVALID | REFUSED_THOUGH_LABELLED_VALID


def test_wycheproof_is_met_by_an_issuer_that_lists_every_public_algorithm() -> None:
    """A wide list must not let a token choose among the algorithms of one key."""
    public = tuple(name for name in ALGORITHMS if not name.startswith("HS"))
    for name, number, token, valid, jwk, _ in wycheproof():
        if any(key.get("kty") == "oct" for key in jwk.get("keys", [jwk])):
            continue
        if not valid and (name, number) not in ACCEPTED_THOUGH_LABELLED_INVALID:
            assert not isinstance(holds(token, jwk, public), Key), (name, number)


@pytest.mark.parametrize(
    ("name", "number", "problem"),
    [
        ("key", 1, "key-mixed-set"),
        ("key", 4, "key-duplicate-kid"),
        ("key", 7, "key-roca"),
        ("key", 8, "key-rsa-small"),
        ("key", 9, "key-rsa-exponent"),
        ("key", 10, "key-too-short"),
        ("key", 16, "key-too-short"),
        ("key", 21, "key-use"),
        ("key", 22, "key-unreadable"),
        ("crypto", 46, "key-roca"),
        ("crypto", 47, "key-mixed-set"),
    ],
)
def test_an_unfit_key_is_refused_when_it_is_loaded(name: str, number: int, problem: str) -> None:
    [(token, jwk)] = [
        (token, jwk)
        for group, at, token, _, jwk, _ in wycheproof()
        if (group, at) == (name, number)
    ]
    assert holds(token, jwk, algorithms_of(jwk)) == problem


@pytest.mark.parametrize(
    "path",
    [
        "ietf-jose-cookbook/jws/4_1.rsa_v15_signature.json",
        "ietf-jose-cookbook/jws/4_2.rsa-pss_signature.json",
        "ietf-jose-cookbook/jws/4_3.ecdsa_signature.json",
        "ietf-jose-cookbook/jws/4_4.hmac-sha2_integrity_protection.json",
        "ietf-jose-cookbook/curve25519/jws.json",
    ],
)
def test_the_cookbook_of_rfc_7520_and_8037_verifies(path: str) -> None:
    """With its private RSA keys too: their public half is what verifies."""
    vector = read(path)
    token, alg = vector["output"]["compact"], vector["input"]["alg"]
    assert isinstance(holds(token, vector["input"]["key"], (alg,)), Key)
    flipped = token[:-20] + ("A" if token[-20] != "A" else "B") + token[-19:]
    assert holds(flipped, vector["input"]["key"], (alg,)) == Reason.BAD_SIGNATURE


@pytest.mark.parametrize("name", ["4.2.hmac-sha2_b64_false.json", "hmac-sha2_b64_false.json"])
def test_an_unencoded_payload_of_rfc_7797_is_refused(name: str) -> None:
    vector = read(f"ietf-jose-cookbook/rfc7797/{name}")
    for token in _compact_forms(vector):
        assert strict.parse(token.encode()) in {Reason.BAD_HEADER, Reason.NOT_A_JWS}


def _compact_forms(vector: dict[str, Any]) -> list[str]:
    protected = vector["signing"].get("protected_b64u", "")
    return [
        vector["output"].get("compact", "") or f"{protected}..AA",
        f"{protected}.e30.AA",
    ]


def test_rfc_7515_appendix_a() -> None:
    signed, unsecured = read("rfc/rfc7515.json")["vectors"]
    assert holds(signed["token"], signed["jwk"], ("HS256",)) == "key-well-known"
    ring = StaticRing([Key(None, "HS256", urlsafe_b64decode(signed["jwk"]["k"] + "=="))])
    for token, verdict in ((signed["token"], ring.keys[0]), (unsecured["token"], None)):
        jws = strict.parse(token.encode())
        assert isinstance(jws, strict.Compact)
        assert signed_by(jws, ("HS256",), ring) == (verdict or Reason.WRONG_ALGORITHM)
