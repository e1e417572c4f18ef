"""`yourapp` of the README's snippets: the login of a small app with JWTs, as it always was.

The documentation's tests copy this file beside the snippets. It knows nothing of us.
"""

from __future__ import annotations

import os
import time
import uuid

import jwt

KID = "2024-01"
ACCESS_SECONDS = 2
REFRESH_SECONDS = 6


def check_password(username: str, password: str) -> str | None:
    """The user who gave the right password."""
    return username if password == f"{username}'s password" else None


def make_jwts(user: str) -> dict[str, str]:
    """What a login always answered."""
    return {
        "access": signed(user, "access", ACCESS_SECONDS),
        "refresh": signed(user, "refresh", REFRESH_SECONDS),
    }


def refresh_jwts(refresh: str) -> dict[str, str]:
    """What the refresh route always answered."""
    claims = jwt.decode(refresh, os.environ["JWT_SECRET"], algorithms=["HS256"])
    return make_jwts(claims["sub"])


def signed(user: str, kind: str, seconds: float) -> str:
    """One JWT."""
    now = int(time.time())
    claims = {"sub": user, "token_type": kind, "iat": now, "exp": now + int(seconds)}
    return jwt.encode(
        {**claims, "jti": uuid.uuid4().hex},
        os.environ["JWT_SECRET"],
        algorithm="HS256",
        headers={"kid": KID},
    )
