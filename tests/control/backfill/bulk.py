"""A simplejwt ledger of any size, in seconds: tokens signed in bulk, written by COPY."""

from __future__ import annotations

import base64
import hmac
import json
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

import psycopg

from migrator.stores.drivers import conninfo
from tests.control.backfill.ledgers import SCHEMA, SECRET

_HEADER = base64.urlsafe_b64encode(b'{"alg":"HS256","typ":"JWT"}').rstrip(b"=")
_DAY = 86_400
# Of every ten rows one is over, one is revoked; of every thousand one cannot be read.
_TENTH, _BROKEN = 10, 1000


@dataclass(frozen=True, slots=True)
class Bulk:
    """What a ledger of `rows` rows holds.

    Args:
        living, revoked: a token of each kind.
    """

    rows: int
    seeded: int
    denied: int
    expired: int
    broken: int
    living: str
    revoked: str


def sign(subject: int, *, iat: int, exp: int) -> tuple[str, str]:
    """A refresh token as simplejwt signs it, and its jti."""
    jti = uuid.uuid4().hex
    claims = {
        "token_type": "refresh",
        "exp": exp,
        "iat": iat,
        "jti": jti,
        "user_id": str(subject),
    }
    body = base64.urlsafe_b64encode(json.dumps(claims, separators=(",", ":")).encode())
    signed = _HEADER + b"." + body.rstrip(b"=")
    mac = hmac.digest(SECRET.encode(), signed, "sha256")
    tail = base64.urlsafe_b64encode(mac).rstrip(b"=")
    return (signed + b"." + tail).decode(), jti


def fill(url: str, rows: int, *, tables: bool = True) -> Bulk:
    """Make the ledger, its tables too; every kind of row is spread over all of it."""
    now = int(time.time())
    kinds: dict[str, str] = {}
    counts = dict.fromkeys(("living", "revoked", "expired", "broken"), 0)
    with psycopg.connect(**conninfo(url), autocommit=True) as connection:
        if tables:
            connection.execute(SCHEMA)
        outstanding = (
            "COPY token_blacklist_outstandingtoken (id, token, created_at, expires_at, user_id,"
            " jti) FROM STDIN"
        )
        revoked: list[int] = []
        with connection.cursor().copy(outstanding) as copy:
            for number, kind, exp in _rows(rows, now):
                token, jti = sign(number, iat=now - 8 * _DAY, exp=exp)
                token = "broken" if kind == "broken" else token
                at = datetime.fromtimestamp(now - 8 * _DAY, UTC)
                copy.write_row((number, token, at, datetime.fromtimestamp(exp, UTC), number, jti))
                counts[kind] += 1
                kinds.setdefault(kind, token)
                if kind == "revoked":
                    revoked.append(number)
        black = "COPY token_blacklist_blacklistedtoken (blacklisted_at, token_id) FROM STDIN"
        with connection.cursor().copy(black) as copy:
            for number in revoked:
                copy.write_row((datetime.now(UTC), number))
        connection.execute("ANALYZE")
    return Bulk(
        rows=rows,
        seeded=counts["living"],
        denied=counts["revoked"],
        expired=counts["expired"],
        broken=counts["broken"],
        living=kinds["living"],
        revoked=kinds["revoked"],
    )


def _rows(rows: int, now: int) -> Iterator[tuple[int, str, int]]:
    for number in range(1, rows + 1):
        kind = {3: "expired", 7: "revoked"}.get(number % _TENTH, "living")
        if number % _BROKEN == 1:
            kind = "broken"
        yield number, kind, now + (-_DAY if kind == "expired" else 7 * _DAY)
