"""Access tokens as real issuers write them, for which there is no preset: each is let in (G3).

Payloads after the pages named beside each; those with a preset are in test_presets.py. A refusal
here would be a user logged out for nothing.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

import pytest

from migrator import prepared
from migrator.core.claims import Claims
from migrator.core.legacy import Legacy, Verifier, Wrong
from migrator.core.presets import PRESETS
from migrator.core.verdicts import Reason
from migrator.settings import Settings
from tests.core.signers import SIGNERS, b64, plain
from tests.counts import counted

_NOW = int(time.time())  # long before the last test of a run: ends are hours away
_TIMES = {"iat": _NOW - 60, "exp": _NOW + 7_200}
_ENTRA = "https://login.microsoftonline.com/9188040d-6c67-4c5b-b112-36a304b66dad"
_GUID = "00000000-0000-0000-66f3-3332eca7ea81"
_KID = "nOo3ZDrODXEK1jKWhXslHR_KXEg"
_PEM = "0b5f1f0e-3d1c-4c5e-9d57-0d9b0c1a7f11"


@dataclass(frozen=True, kw_only=True)
class Real:
    """A token of a real issuer, and what its operator writes in the settings."""

    source: str
    family: str
    header: Mapping[str, Any]
    payload: Mapping[str, Any]
    subject: str
    given: Mapping[str, Any] = field(default_factory=dict)
    padded: bool = False


REAL: dict[str, Real] = {
    "entra v2": Real(
        source="learn.microsoft.com/entra/identity-platform/access-token-claims-reference",
        family="RS256",
        header={"typ": "JWT", "alg": "RS256", "kid": _KID},
        payload={
            **_TIMES,
            "aud": _GUID,
            "iss": f"{_ENTRA}/v2.0",
            "nbf": _NOW - 60,
            "aio": "AXQAi/8I==+/",
            "azp": _GUID,
            "azpacr": "0",
            "name": "Ada",
            "oid": _GUID,
            "scp": "read write",
            "preferred_username": "ada@x.example",
            "rh": "I",
            "sub": "HKZpfaHyWadeOouYlitjrI",
            "tid": "9188040d",
            "uti": "fqiBqXLPj0eQa82S-IYFAA",
            "ver": "2.0",
            "wids": [_GUID],
        },
        subject=_GUID,
        given={"issuer": f"{_ENTRA}/v2.0", "audience": [_GUID], "claims": {"subject": "oid"}},
    ),
    "entra v1": Real(
        source="the same page; v1.0 tokens carry x5t beside kid",
        family="RS256",
        header={"typ": "JWT", "alg": "RS256", "x5t": _KID, "kid": _KID},
        payload={
            **_TIMES,
            "aud": "api://6731de76",
            "iss": "https://sts.windows.net/72f988bf/",
            "acr": "1",
            "amr": ["pwd", "mfa"],
            "appid": _GUID,
            "appidacr": "0",
            "ipaddr": "192.0.2.7",
            "nbf": _NOW - 60,
            "oid": _GUID,
            "scp": "user",
            "sub": "l3_roISQU222bULS9yi2k0XpqpO",
            "tid": "72f988bf",
            "unique_name": "ada@x.example",
            "ver": "1.0",
        },
        subject="l3_roISQU222bULS9yi2k0XpqpO",
        given={"issuer": "https://sts.windows.net/72f988bf/", "audience": ["api://6731de76"]},
    ),
    "okta": Real(
        source="developer.okta.com/docs/api/openapi/okta-oauth: custom authorization server",
        family="RS256",
        header={"kid": "mXstyn9sJuOKnd2Tjwo-3lyjBRCQRD1eFDQQ0c", "alg": "RS256"},
        payload={
            **_TIMES,
            "ver": 1,
            "jti": "AT.0mP4JKAZX1iACIT4vbEDF7LpvDVjxypPMf0D7uX39RE",
            "iss": "https://x.okta.com/oauth2/default",
            "aud": "api://default",
            "cid": "0oa1",
            "uid": "00uid4BxXw6I6TV4m0g3",
            "scp": ["openid"],
            "sub": "ada@x.example",
        },
        subject="ada@x.example",
        given={"issuer": "https://x.okta.com/oauth2/default", "audience": ["api://default"]},
    ),
    "aws alb": Real(
        source="docs.aws.amazon.com/elasticloadbalancing: x-amzn-oidc-data, segments padded",
        family="ES256",
        header={
            "typ": "JWT",
            "kid": _PEM,
            "alg": "ES256",
            "iss": "https://x.okta.com",
            "client": "client-id",
            "exp": _NOW + 7_200,
            "signer": "arn:aws:elasticloadbalancing:eu-west-1:1:loadbalancer/app/x/1",
        },
        payload={
            "sub": "0001",
            "email": "ada@x.example",
            "exp": _NOW + 7_200,
            "iss": "https://x.okta.com",
        },
        subject="0001",
        given={"issuer": "https://x.okta.com", "accept_padding": True, "lifetime": "2m"},
        padded=True,
    ),
    "clerk": Real(
        source="clerk.com/docs: session token v1; the header says what it is in `cat`",
        family="RS256",
        header={"alg": "RS256", "cat": "cl_B7d4PD111AAA", "kid": "ins_2a", "typ": "JWT"},
        payload={
            **_TIMES,
            "azp": "https://x.example",
            "iss": "https://clerk.x.example",
            "nbf": _NOW - 10,
            "sid": "sess_2b",
            "sub": "user_2c",
            "fva": [0, -1],
        },
        subject="user_2c",
        given={"issuer": "https://clerk.x.example", "claims": {"family": "sid"}},
    ),
    "ory hydra": Real(
        source="ory.sh/docs/oauth2-oidc/jwt-access-token",
        family="RS256",
        header={"alg": "RS256", "kid": f"public:hydra.jwt.access-token:{_PEM}", "typ": "JWT"},
        payload={
            **_TIMES,
            "aud": ["api"],
            "client_id": "web",
            "ext": {},
            "iss": "https://hydra.x.example/",
            "jti": _PEM,
            "nbf": _NOW - 60,
            "scp": ["offline"],
            "sub": _PEM,
        },
        subject=_PEM,
        given={"issuer": "https://hydra.x.example/", "audience": ["api"]},
    ),
    "zitadel": Real(
        source="zitadel.com/docs/apis/openidoauth/claims",
        family="RS256",
        header={"alg": "RS256", "kid": "259478347283479723", "typ": "JWT"},
        payload={
            **_TIMES,
            "iss": "https://x.zitadel.cloud",
            "sub": "259242039378444290",
            "jti": "V2_2",
            "aud": ["259254020357488642@portal", "259254317079330818"],
            "nbf": _NOW - 60,
            "urn:zitadel:iam:org:project:roles": {"admin": {"1": "x.example"}},
        },
        subject="259242039378444290",
        given={"issuer": "https://x.zitadel.cloud", "audience": ["259254317079330818"]},
    ),
    "authentik": Real(
        source="docs.goauthentik.io: OAuth2 provider",
        family="RS256",
        header={"alg": "RS256", "kid": "7d2b", "typ": "JWT"},
        payload={
            **_TIMES,
            "iss": "https://sso.x.example/application/o/app/",
            "aud": "app",
            "azp": "app",
            "sub": "3d1c" * 16,
            "auth_time": _NOW - 90,
            "acr": "goauthentik.io/providers/oauth2",
            "amr": ["pwd"],
            "sid": "3d1c",
            "groups": ["a b"],
            "uid": "Ab0",
        },
        subject="3d1c" * 16,
        given={"issuer": "https://sso.x.example/application/o/app/", "audience": ["app"]},
    ),
    "laravel passport": Real(
        source="league/oauth2-server: AccessTokenTrait; times with fractions, sub as text",
        family="RS256",
        header={"typ": "JWT", "alg": "RS256"},
        payload={
            "aud": "3",
            "jti": "3d1c" * 20,
            "iat": _NOW - 60.132,
            "nbf": _NOW - 60.132,
            "exp": _NOW + 31_535_940.118,
            "sub": "7",
            "scopes": ["*"],
        },
        subject="7",
        given={"audience": ["3"], "claims": {"scopes": "scopes"}},
    ),
    "ed25519 by joserfc": Real(
        source="RFC 9864: the name that replaces EdDSA",
        family="EdDSA",
        header={"alg": "Ed25519", "kid": "k1"},
        payload={**_TIMES, "sub": "ada"},
        subject="ada",
    ),
}


def verifier_of(real: Real) -> Verifier:
    signer = SIGNERS[real.family]
    issuer = {
        "id": "a1",
        "name": "main",
        "algorithms": [signer.alg],
        "lifetime": "1h",
        "keys": [signer.pem().decode()],
        **real.given,
    }
    tables = {"database": {"url": "postgresql+psycopg://u@h/d"}, "issuers": [issuer]}
    return prepared.verifier_of(Settings.build(tables, environ={}))


def token_of(real: Real) -> bytes:
    """Signed as its issuer does, padding and all."""
    head, body = b64(plain(dict(real.header))), b64(plain(dict(real.payload)))
    if real.padded:
        head, body = (part + b"=" * (-len(part) % 4) for part in (head, body))
    tail = b64(SIGNERS[real.family].sign(head + b"." + body))
    return head + b"." + body + b"." + (tail + b"=" * (-len(tail) % 4) if real.padded else tail)


@pytest.mark.parametrize("name", REAL)
def test_a_token_of_a_real_issuer_is_let_in(name: str) -> None:
    real = REAL[name]
    judging, token = verifier_of(real), token_of(real)
    owner = judging.whose(token)
    assert isinstance(owner, Legacy), owner
    held = judging.verify(token, owner.candidates, now=datetime.now(UTC))
    assert isinstance(held, Claims), held
    assert held.subject == real.subject
    counted("G3", "shapes of real issuers without a preset")


def test_padding_is_taken_only_where_the_settings_say_so() -> None:
    real = REAL["aws alb"]
    strict = replace(real, given={**real.given, "accept_padding": False})
    assert verifier_of(strict).whose(token_of(real)) == Wrong(Reason.NOT_A_JWS)


def test_more_than_twenty_shapes_are_let_in() -> None:
    assert len(PRESETS) + len(REAL) >= 30
    counted("G3", "shapes with a preset", len(PRESETS))
