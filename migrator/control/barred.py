"""Which legacy tokens of a subject are refused for good, and by what: denials and cutoffs.

A subject whose JWT was never swapped has no session that could have ended; this is what support
reads instead. Reads only, and nothing of a token but the beginning of its fingerprint.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import and_, or_, select

from migrator.control import cutoff_rows, roster
from migrator.stores import tables

if TYPE_CHECKING:
    from datetime import datetime

    from sqlalchemy import Connection

    from migrator.control.cutoff_rows import Cutoff


@dataclass(frozen=True, slots=True, kw_only=True)
class Denied:
    """A legacy token with its denial.

    Args:
        at: when it was denied; why: the reason given then.
        by: who denied it; None: a ledger did.
        until: how long the denial is kept; None: for ever.
    """

    fingerprint: str
    issuer: str
    realm: str
    client: str | None
    purpose: str
    iat: datetime | None
    exp: datetime
    at: datetime
    why: str
    by: str | None
    until: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Barred:
    """What bars a subject's legacy tokens, the newest first."""

    denied: tuple[Denied, ...] = ()
    cutoffs: tuple[Cutoff, ...] = ()


def listed(connection: Connection, schema: str, subject: str, *, realm: str | None) -> Barred:
    """What bars the subject in `realm`, None: in every one; nothing once tokens are retired."""
    if not roster.has_legacy(connection, schema):
        return Barred()
    named = tables.in_schema(schema).tables
    token, denial = named[f"{schema}.legacy_tokens"], named[f"{schema}.denials"]
    # A family's own denial stands beside that of the token: the first of them says when and why.
    query = (
        select(token, denial.c.created_at, denial.c.reason, denial.c.until, denial.c.created_by)
        .join(
            denial,
            or_(
                denial.c.fingerprint == token.c.fingerprint,
                and_(denial.c.issuer == token.c.issuer, denial.c.jti == token.c.jti),
                and_(denial.c.issuer == token.c.issuer, denial.c.family == token.c.family),
            ),
        )
        .where(token.c.subject == subject)
        .order_by(denial.c.id.desc())
    )
    if realm is not None:
        query = query.where(token.c.realm == realm)
    denied = {
        row.fingerprint: Denied(
            fingerprint=row.fingerprint.hex()[:12],
            issuer=row.issuer,
            realm=row.realm,
            client=row.client,
            purpose=row.purpose,
            iat=row.iat,
            exp=row.exp,
            at=row.created_at,
            why=row.reason,
            by=row.created_by,
            until=row.until,
        )
        for row in connection.execute(query)
    }
    cutoffs = (
        one
        for one in cutoff_rows.listed(connection, schema)
        if one.subject == subject and realm in {None, one.realm}
    )
    return Barred(
        denied=tuple(sorted(denied.values(), key=lambda one: one.at, reverse=True)),
        cutoffs=tuple(cutoffs),
    )
