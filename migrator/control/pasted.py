"""Which session or legacy token an operator means by the credential that was pasted.

Wider than the gate on purpose, since ending admits nobody: a JWT that was seen before is known by
its fingerprint, so one without its signature (as logs keep it), one that is expired and one whose
key is gone end what they became all the same. A JWT never seen must verify before it is denied.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeAlias

from sqlalchemy import select

from migrator.core import strict, tokens
from migrator.core.claims import Claims
from migrator.core.errors import Exit, Problem, Stopped
from migrator.core.flow import run
from migrator.core.legacy import Legacy, Wrong
from migrator.core.verdicts import Reason, Refused
from migrator.stores import tables

if TYPE_CHECKING:
    from collections.abc import Sequence
    from uuid import UUID

    from sqlalchemy import Connection

    from migrator.core.app import Sessions
    from migrator.core.claims import Purpose

LARGEST_BYTES: Final = 65_536
_PURPOSES: Final[tuple[Purpose, ...]] = ("access", "refresh")
# `Authorization: Bearer X`, `Token X`, `Cookie: name=X`: what stands before X, as people copy it.
_BEFORE: Final = re.compile(
    rb"(?:authorization:\s*|(?:set-)?cookie:\s*[^\s=;,]{1,64}=)?(?:[a-z][a-z0-9-]{0,19}\s+)?",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class OfSession:
    """A token of ours, and the session it names."""

    session_id: UUID


@dataclass(frozen=True, slots=True)
class OfLegacy:
    """A legacy token, and the session it became if it became one."""

    claims: Claims
    session_id: UUID | None


@dataclass(frozen=True, slots=True)
class Over:
    """A legacy token that holds, but for being expired, and never became a session."""


Meant: TypeAlias = OfSession | OfLegacy | Over


def bare(pasted: bytes) -> bytes:
    """The credential in what came from stdin: without line ends, quotes, header name and scheme.

    Raises:
        Stopped: USAGE, nothing or far too much came.
    """
    credential = pasted.strip().strip(b"\"'").strip()
    if before := _BEFORE.match(credential):
        credential = credential[before.end() :].strip().strip(b"\"'")
    if credential and len(credential) <= LARGEST_BYTES:
        return credential
    problem = Problem(
        id="stdin.no-credential",
        what="no credential came by stdin" if not credential else "what came is no credential",
        why="a credential on a command line would stay in the shell's history, so it is read "
        f"from stdin, up to {LARGEST_BYTES} bytes",
        do="pipe the token or JWT into this command",
    )
    raise Stopped(problem, Exit.USAGE)


def meant(
    app: Sessions,
    connection: Connection,
    schema: str,
    credential: bytes,
    *,
    issuer_ids: Sequence[str],
) -> Meant:
    """What `credential` names.

    Args:
        app: whose store, verifier and prefixes are asked.
        connection: for what the store does not answer.
        schema: where the tables are.
        credential: as `bare` left it.
        issuer_ids: whose legacy tokens may have been seen; none once they are retired.

    Raises:
        Stopped: USAGE, it names nothing.
        Unavailable: the keys that could tell were never fetched.
    """
    if app.is_ours(credential):
        return OfSession(_session_of(app, credential))
    jws = _parsed(credential)
    if issuer_ids and isinstance(jws, strict.Compact):
        prints = [tokens.fingerprint(one, jws.signing_input) for one in issuer_ids]
        known = _known(connection, schema, prints)
        if known is not None:
            return known
    return _verified(app, credential)


def _session_of(app: Sessions, token: bytes) -> UUID:
    if not app.well_formed(token):
        raise _nothing("its checksum is wrong: it is cut short or mistyped")
    found = run(app.store.find(tokens.digest(token)))
    if found is None:
        raise _nothing("no session has this token: it was regenerated, or swept long ago")
    return found.session.id


def _parsed(credential: bytes) -> strict.Compact | Reason:
    # Two segments: somebody cut the signature off before writing it into a log.
    whole = credential + b"." if credential.count(b".") == 1 else credential
    return strict.parse(whole, accept_padding=True)


def _known(connection: Connection, schema: str, prints: Sequence[bytes]) -> OfLegacy | None:
    legacy = tables.in_schema(schema).tables[f"{schema}.legacy_tokens"]
    row = connection.execute(select(legacy).where(legacy.c.fingerprint.in_(prints))).first()
    connection.rollback()
    if row is None:
        return None
    claims = Claims(
        issuer=row.issuer,
        realm=row.realm,
        subject=row.subject,
        fingerprint=row.fingerprint,
        exp=row.exp,
        keep_until=row.keep_until,
        purpose=row.purpose,
        kid=row.kid,
        iat=row.iat,
        jti=row.jti,
        family=row.family,
    )
    return OfLegacy(claims, row.session_id)


def _verified(app: Sessions, credential: bytes) -> Meant:
    owner = app.verifier.whose(credential)
    if isinstance(owner, Wrong):
        raise _nothing(f"no configured issuer signs tokens like it ({owner.reason})")
    if not isinstance(owner, Legacy):
        raise _nothing("it is neither a token of ours nor a JWT")
    reasons: list[Reason] = []
    for purpose in _PURPOSES:
        verdict = app.verifier.verify(
            credential, owner.candidates, now=run(app.now()), purpose=purpose
        )
        if isinstance(verdict, Refused):
            reasons.append(verdict.reason)
        else:
            return OfLegacy(verdict, None)
    if Reason.LEGACY_EXPIRED in reasons:
        return Over()
    raise _nothing(f"it would be refused anyway: {reasons[0]}, and was never seen here")


def _nothing(why: str) -> Stopped:
    problem = Problem(
        id="credential.names-nothing",
        what="what came by stdin names no session and no legacy token that holds",
        why=why,
        do="check that all of it was copied; `migrator inspect` says what a JWT is",
    )
    return Stopped(problem, Exit.USAGE)
