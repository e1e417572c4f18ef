"""Signers of legacy tokens for tests: every byte of a token can be chosen, signed or not."""

import json
from base64 import urlsafe_b64encode
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from jwt.algorithms import get_default_algorithms

from migrator.core.claims import Claims
from migrator.core.legacy import (
    FOREIGN,
    Foreign,
    ForeignRule,
    Issuer,
    Key,
    KeyRing,
    Legacy,
    Verifier,
)
from migrator.core.verdicts import Reason
from migrator.stores.keys import StaticRing

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
NOW_S = int(NOW.timestamp())
IDP = "https://idp.example"
SECRET = bytes(range(7, 71))


def b64(raw: bytes) -> bytes:
    return urlsafe_b64encode(raw).rstrip(b"=")


def plain(value: object) -> bytes:
    return value if isinstance(value, bytes) else json.dumps(value).encode()


def claims(**changes: Any) -> dict[str, Any]:
    """A good payload of the profile; a change to Ellipsis leaves a claim out."""
    good: dict[str, Any] = {
        "iss": IDP,
        "aud": "api",
        "sub": "user-1",
        "iat": NOW_S - 60,
        "exp": NOW_S + 3600,
        "jti": "5f1d",
    }
    return {name: value for name, value in (good | changes).items() if value is not ...}


@dataclass(frozen=True)
class Signer:
    alg: str
    private: Any
    public: Any

    def sign(self, signing_input: bytes, alg: str | None = None) -> bytes:
        return get_default_algorithms()[alg or self.alg].sign(signing_input, self.private)

    def header(self, **changes: Any) -> dict[str, Any]:
        good: dict[str, Any] = {"alg": self.alg, "kid": "k1", "typ": "JWT"}
        return {name: value for name, value in (good | changes).items() if value is not ...}

    def token(
        self, payload: object = None, header: object = None, *, alg: str | None = None
    ) -> bytes:
        head = plain(self.header() if header is None else header)
        body = plain(claims() if payload is None else payload)
        signing_input = b64(head) + b"." + b64(body)
        return signing_input + b"." + b64(self.sign(signing_input, alg))

    def ring(self) -> StaticRing:
        return StaticRing([Key("k1", self.alg, self.public)])

    def issuer(self, **changes: Any) -> Issuer:
        return replace(
            Issuer(
                id="a1",
                name="main",
                realm="users",
                algorithms=(self.alg,),
                keys=self.ring(),
                iss=IDP,
                audience=("api",),
                lifetime=timedelta(hours=1),
                refresh_lifetime=timedelta(days=30),
            ),
            **changes,
        )

    def pem(self) -> bytes:
        if isinstance(self.public, bytes):
            return self.public
        return bytes(self.public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))


def _signers() -> Mapping[str, Signer]:
    rsa_key = rsa.generate_private_key(65537, 2048)
    ec_key = ec.generate_private_key(ec.SECP256R1())
    ed_key = ed25519.Ed25519PrivateKey.generate()
    return {
        "HS256": Signer("HS256", SECRET, SECRET),
        "RS256": Signer("RS256", rsa_key, rsa_key.public_key()),
        "ES256": Signer("ES256", ec_key, ec_key.public_key()),
        "EdDSA": Signer("EdDSA", ed_key, ed_key.public_key()),
    }


SIGNERS = _signers()


def verifier(*issuers: Issuer, foreign: tuple[ForeignRule, ...] = ()) -> Verifier:
    return Verifier(issuers, foreign=foreign, max_bytes=8192)


def judge(token: bytes, *issuers: Issuer, **options: Any) -> Claims | Reason | Foreign:
    """What becomes of a credential on the way the gate takes."""
    judging = verifier(*issuers)
    owner = judging.whose(token, allowed=None, path="/")
    if owner is FOREIGN or isinstance(owner, Foreign):
        return FOREIGN
    if not isinstance(owner, Legacy):
        return owner.reason
    found = judging.verify(token, owner.candidates, now=NOW, **options)
    return found if isinstance(found, Claims) else found.reason


def ring_of(*keys: Key) -> KeyRing:
    return StaticRing(keys)
