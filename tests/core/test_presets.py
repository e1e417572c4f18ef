"""The presets: each shape is told from the others, and its facts verify a token of that shape."""

from typing import Any

import pytest

from migrator.core.claims import Claims
from migrator.core.legacy import ClaimNames
from migrator.core.presets import PRESETS, recognise
from migrator.core.verdicts import Reason
from tests.core.signers import NOW_S, SIGNERS, judge

TIMES = {"iat": NOW_S - 60, "exp": NOW_S + 600}
RS, HS = {"alg": "RS256", "kid": "k1", "typ": "JWT"}, {"alg": "HS256", "typ": "JWT"}

SAMPLES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "simplejwt": (HS, {**TIMES, "token_type": "access", "jti": "ab", "user_id": 7}),
    "flask-jwt-extended": (
        HS,
        {**TIMES, "fresh": False, "jti": "a-b", "type": "access", "sub": 7, "nbf": NOW_S - 60},
    ),
    "fastapi-users": (
        HS,
        {"sub": "u1", "aud": ["fastapi-users:auth"], "exp": NOW_S + 600},
    ),
    "fastapi-tutorial": (HS, {"sub": "7", "exp": NOW_S + 600}),
    "tymon": (
        HS,
        {
            **TIMES,
            "iss": "http://app.example/api/login",
            "nbf": NOW_S - 60,
            "sub": 7,
            "jti": "Zz9",
            "prv": "23bd5c8949f600adb39e701c400872db7a5976f7",
        },
    ),
    "keycloak": (
        RS,
        {
            **TIMES,
            "iss": "https://sso.example/realms/main",
            "aud": "account",
            "sub": "f:1",
            "typ": "Bearer",
            "azp": "web",
            "sid": "s1",
            "jti": "j",
            "nonce": "older versions write it",
            "scope": "openid email",
        },
    ),
    "auth0": (
        RS,
        {
            **TIMES,
            "iss": "https://t.eu.auth0.com/",
            "sub": "auth0|1",
            "aud": ["api", "https://t.eu.auth0.com/userinfo"],
            "azp": "web",
            "scope": "openid",
        },
    ),
    "firebase": (
        RS,
        {
            **TIMES,
            "iss": "https://securetoken.google.com/p1",
            "aud": "p1",
            "sub": "u1",
            "user_id": "u1",
            "auth_time": NOW_S - 999,
            "firebase": {"identities": {}, "sign_in_provider": "password"},
        },
    ),
    "cognito": (
        RS,
        {
            **TIMES,
            "iss": "https://cognito-idp.eu-west-1.amazonaws.com/eu-west-1_x",
            "sub": "u1",
            "token_use": "access",
            "client_id": "c1",
            "origin_jti": "o1",
            "auth_time": NOW_S - 999,
            "jti": "j1",
            "scope": "aws.cognito.signin.user.admin",
        },
    ),
    "supabase": (
        HS,
        {
            **TIMES,
            "iss": "https://x.supabase.co/auth/v1",
            "sub": "u1",
            "aud": "authenticated",
            "role": "authenticated",
            "aal": "aal1",
            "session_id": "s1",
            "app_metadata": {},
            "user_metadata": {},
        },
    ),
}


def test_every_preset_has_a_sample() -> None:
    assert SAMPLES.keys() == PRESETS.keys()


@pytest.mark.parametrize("name", PRESETS)
def test_a_sample_is_recognised_as_what_it_is_first(name: str) -> None:
    assert recognise(*SAMPLES[name])[0] == name


def test_an_unknown_shape_is_recognised_as_nothing() -> None:
    assert recognise(HS, {"file": "x", "exp": 1}) == []
    assert recognise({}, {}) == []


def verdict(name: str, payload: dict[str, Any]) -> object:
    header, sample = SAMPLES[name]
    facts: dict[str, Any] = dict(PRESETS[name].defaults)
    signer = SIGNERS[header["alg"]]
    purpose = facts.get("purpose", {})
    issuer = signer.issuer(
        algorithms=facts["algorithms"],
        iss=facts.get("issuer", sample.get("iss")),
        audience=facts.get("audience", () if "aud" not in sample else ("api", "p1")),
        typ=facts.get("typ", ("JWT",)),
        integer_subject=facts.get("integer_subject", False),
        claims=ClaimNames(**facts["claims"]),
        require=purpose.get("require", {}),
        refresh=purpose.get("refresh"),
    )
    return judge(signer.token(payload, header), issuer)


@pytest.mark.parametrize("name", PRESETS)
def test_a_sample_verifies_under_its_preset(name: str) -> None:
    assert isinstance(verdict(name, SAMPLES[name][1]), Claims)


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("simplejwt", {"token_type": "refresh"}),
        ("flask-jwt-extended", {"type": "refresh"}),
        ("fastapi-users", {"aud": "fastapi-users:reset"}),
        ("fastapi-tutorial", {"nbf": NOW_S - 9}),
        ("keycloak", {"typ": "Refresh"}),
        ("keycloak", {"typ": "ID", "at_hash": "x"}),
        ("auth0", {"nonce": "n"}),
        ("firebase", {"firebase": None}),
        ("cognito", {"token_use": "id"}),
        ("supabase", {"role": "anon"}),
    ],
)
def test_another_token_of_the_same_signer_is_refused(name: str, changes: dict[str, Any]) -> None:
    assert verdict(name, SAMPLES[name][1] | changes) in {
        Reason.WRONG_PURPOSE,
        Reason.WRONG_AUDIENCE,
    }


def test_hazards_have_one_id_each() -> None:
    for preset in PRESETS.values():
        ids = [hazard.id for hazard in preset.hazards]
        assert len(ids) == len(set(ids)) > 0
