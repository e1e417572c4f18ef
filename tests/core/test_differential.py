"""What holds here holds everywhere: mutants of legacy tokens, judged here and by three libraries.

G4: whatever the shim's verifier takes, PyJWT, joserfc and jwcrypto take too, each as its own
documentation says to use it (one algorithm, audience, issuer, times), and all four read the same
subject, expiry and id in it. Nothing raises. The last tests are tests of these tests.
"""

from __future__ import annotations

import json
import time
import warnings
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import jwt
import pytest
from joserfc import jwk as joserfc_jwk
from joserfc import jwt as joserfc_jwt
from joserfc.errors import SecurityWarning
from joserfc.jws import JWSRegistry
from jwcrypto import jwk as jwcrypto_jwk  # type: ignore[import-untyped] # it ships no types
from jwcrypto import jwt as jwcrypto_jwt

from migrator.core.claims import Claims
from migrator.core.legacy import Foreign, Legacy, Verifier, Wrong
from migrator.core.verdicts import Reason
from tests.core.mutating import FAMILIES, mutant
from tests.core.signers import IDP, SIGNERS, verifier
from tests.counts import counted

Payload = dict[str, Any]
Library = Callable[[bytes, str], Payload]
# Ours is 30 s, and 5 s for a signer that runs ahead. A mutant at the very edge is not what is
# compared here; what has no time at all, or an absurd one, is.
LEEWAY_S = 60
FEW, MANY = 3_000, 50_000
JUDGES: dict[str, Verifier] = {family: verifier(SIGNERS[family].issuer()) for family in FAMILIES}


def ours(token: bytes, family: str) -> Claims | Reason | Foreign:
    """The verdict of the verifier, on the way the gate takes."""
    judge = JUDGES[family]
    owner = judge.whose(token)
    if isinstance(owner, Wrong):
        return owner.reason
    if not isinstance(owner, Legacy):
        return owner
    found = judge.verify(token, owner.candidates, now=datetime.now(UTC))
    return found if isinstance(found, Claims) else found.reason


def by_pyjwt(token: bytes, family: str) -> Payload:
    signer = SIGNERS[family]
    payload: Payload = jwt.decode(
        token,
        signer.public,
        algorithms=[signer.alg],
        audience="api",
        issuer=IDP,
        leeway=LEEWAY_S,
        options={"require": ["exp", "sub"]},
    )
    return payload


def _joserfc_keys() -> dict[str, Any]:
    kinds: dict[str, Any] = {"HS256": "oct", "RS256": "RSA", "ES256": "EC", "EdDSA": "OKP"}
    return {
        family: joserfc_jwk.import_key(SIGNERS[family].pem(), kind)
        for family, kind in kinds.items()
    }


def _jwcrypto_keys() -> dict[str, Any]:
    return {
        family: jwcrypto_jwk.JWK.from_pem(signer.pem())
        if signer.alg != "HS256"
        else jwcrypto_jwk.JWK.from_password(signer.public.decode("latin-1"))
        for family, signer in SIGNERS.items()
    }


JOSERFC_KEYS, JWCRYPTO_KEYS = _joserfc_keys(), _jwcrypto_keys()


def _as_rfc_7515_says(alg: str) -> JWSRegistry:
    """Members that one does not know MUST be ignored (section 4.1.13); by default joserfc refuses.

    So are keys and their addresses within a token: nobody here reads them, well-formed or not.
    """
    registry = JWSRegistry(algorithms=[alg], strict_check_header=False)
    registry.max_header_length = 8192  # 512 by default
    for unread in ("jku", "jwk", "x5u", "x5c", "x5t", "x5t#S256"):
        del registry.header_registry[unread]
    return registry


REGISTRIES = {family: _as_rfc_7515_says(SIGNERS[family].alg) for family in FAMILIES}


def by_joserfc(token: bytes, family: str) -> Payload:
    with warnings.catch_warnings():
        warnings.simplefilter(
            "ignore", SecurityWarning
        )  # EdDSA has another name by now (RFC 9864)
        decoded = joserfc_jwt.decode(token, JOSERFC_KEYS[family], registry=REGISTRIES[family])
    joserfc_jwt.JWTClaimsRegistry(
        leeway=LEEWAY_S,
        iss={"essential": True, "value": IDP},
        aud={"essential": True, "value": "api"},
        exp={"essential": True},
    ).validate(decoded.claims)
    return decoded.claims


def by_jwcrypto(token: bytes, family: str) -> Payload:
    read = jwcrypto_jwt.JWT(
        algs=[SIGNERS[family].alg],
        check_claims={"iss": IDP, "aud": "api", "exp": None},
        expected_type="JWS",
    )
    read.leeway = LEEWAY_S
    read.deserialize(token.decode("ascii"), JWCRYPTO_KEYS[family])
    payload: Payload = json.loads(read.claims)
    return payload


LIBRARIES: dict[str, Library] = {
    "PyJWT": by_pyjwt,
    "joserfc": by_joserfc,
    "jwcrypto": by_jwcrypto,
}


def differences(token: bytes, family: str, found: Claims) -> list[str]:
    """Which libraries refuse what was taken here, or read something else in it."""
    told = []
    for name, library in LIBRARIES.items():
        try:
            payload = library(token, family)
        except Exception as error:  # noqa: BLE001 - however it says no
            told.append(f"{name} refuses: {error!r}")
            continue
        same = (found.subject, found.exp.timestamp(), found.jti)
        if same != (payload["sub"], float(payload["exp"]), payload.get("jti")):
            told.append(f"{name} reads {payload}")
    return told


def compare(family: str, numbers: range) -> Counter[str]:
    """Judge mutants on all sides; how many were taken, and what was said of the others."""
    seen: Counter[str] = Counter()
    now = int(time.time())
    for number in numbers:
        token = mutant(number, family, now)
        found = ours(token, family)
        if isinstance(found, Claims):
            told = differences(token, family, found)
            assert told == [], (family, number, token)
            seen["taken"] += 1
        else:
            seen[found.value if isinstance(found, Reason) else "foreign"] += 1
    counted("G4", "mutated tokens", len(numbers))
    counted("G4", "of them taken, by all four", seen["taken"])
    return seen


@pytest.mark.parametrize("family", FAMILIES)
def test_what_is_taken_here_is_taken_by_three_libraries_and_read_alike(family: str) -> None:
    seen = compare(family, range(FEW // len(FAMILIES)))
    # Neither all nor nothing, and refused for more than one reason: else the mutants are dull.
    assert FEW // len(FAMILIES) // 10 < seen["taken"] < FEW // len(FAMILIES) // 2, seen
    assert len(seen) >= 12, seen


@pytest.mark.full
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("family", FAMILIES)
def test_what_is_taken_here_is_taken_by_three_libraries_and_read_alike_at_length(
    family: str,
) -> None:
    start = FEW // len(FAMILIES)
    compare(family, range(start, start + MANY // len(FAMILIES)))


# ---- tests of the tests ------------------------------------------------------------------------


@pytest.mark.parametrize("lax", LIBRARIES)
def test_each_library_alone_takes_mutants_that_are_refused_here(lax: str) -> None:
    """The differential is not empty: were the shim no stricter than one of them, this is it."""
    now = int(time.time())
    strays = 0
    for number in range(400):
        for family in ("HS256", "ES256"):
            token = mutant(number, family, now)
            if isinstance(ours(token, family), Claims):
                continue
            try:
                LIBRARIES[lax](token, family)
            except Exception:  # noqa: BLE001 - however it says no
                continue
            strays += 1
    assert strays > 0


def test_a_shim_as_lax_as_pyjwt_would_be_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    def lax(token: bytes, family: str) -> Claims | Reason:
        try:
            payload = by_pyjwt(token, family)
        except Exception:  # noqa: BLE001 - however it says no
            return Reason.NOT_A_JWS
        exp = datetime.fromtimestamp(int(payload["exp"]), UTC)
        facts: dict[str, Any] = {"issuer": "a1", "realm": "users", "fingerprint": bytes(32)}
        return Claims(
            **facts, subject=payload["sub"], jti=payload.get("jti"), exp=exp, keep_until=exp
        )

    monkeypatch.setattr("tests.core.test_differential.ours", lax)
    with pytest.raises(AssertionError, match=r"refuses|reads"):
        compare("HS256", range(3000))
