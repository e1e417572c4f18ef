"""What the app did before: JWTs it signs and checks by hand, in the shape of simplejwt.

This file is the legacy system. It knows nothing of sessions, phases or the shim; the numbers below
are its promises to its users, and the rehearsal's settings repeat them.
"""

from __future__ import annotations

import secrets
import time
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

import jwt

Kind: TypeAlias = Literal["access", "refresh"]
Device: TypeAlias = Literal["script", "phone", "browser", "tablet"]

ACCESS_SECONDS = 6
REFRESH_SECONDS = 10
LEEWAY_SECONDS = 1
# Given to phones and browsers: the "stay logged in" that every app has.
LONG_SECONDS = 30 * 86_400
TABLET_REFRESH_SECONDS = 15 * 60

ACCESS_LIVES: dict[Device, int] = {
    "script": ACCESS_SECONDS,
    "tablet": ACCESS_SECONDS,
    "phone": LONG_SECONDS,
    "browser": LONG_SECONDS,
}
REFRESH_LIVES: dict[Device, int] = {
    "script": REFRESH_SECONDS,
    "tablet": TABLET_REFRESH_SECONDS,
}


@dataclass(frozen=True, slots=True)
class Before:
    """The legacy login's signer and checker."""

    secret: str = field(repr=False)

    def sign(self, user: str, *, kind: Kind, lasts_s: int) -> str:
        """A JWT for `user`, as simplejwt makes them."""
        now = int(time.time())
        payload = {
            "token_type": kind,
            "user_id": user,
            "jti": secrets.token_hex(16),
            "iat": now,
            "exp": now + lasts_s,
        }
        return jwt.encode(payload, self.secret, algorithm="HS256")

    def log_in(self, user: str, device: Device) -> dict[str, str]:
        """What a login answers."""
        jwts = {"access": self.sign(user, kind="access", lasts_s=ACCESS_LIVES[device])}
        if device in REFRESH_LIVES:
            jwts["refresh"] = self.sign(user, kind="refresh", lasts_s=REFRESH_LIVES[device])
        return jwts

    def read(self, token: str | None, kind: Kind) -> str | None:
        """Whose token this is; None: nobody's, or over, or of another kind."""
        if token is None:
            return None
        try:
            claims = jwt.decode(token, self.secret, algorithms=["HS256"], leeway=LEEWAY_SECONDS)
        except jwt.InvalidTokenError:
            return None
        return str(claims["user_id"]) if claims.get("token_type") == kind else None


def end_of(token: str) -> float:
    """The exp of a JWT as Unix time, as a client reads it: unverified."""
    claims = jwt.decode(token, options={"verify_signature": False})
    return float(claims["exp"])


def jti_of(token: str) -> str:
    """The jti of a JWT of our own making."""
    return str(jwt.decode(token, options={"verify_signature": False})["jti"])
