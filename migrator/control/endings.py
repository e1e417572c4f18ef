"""What an operator ends: a session by its id or credential, a legacy token, all of a subject.

How an ending is made to hold (locks, sweeps, the feed) is the store's. This file owns what stands
around it: tombstones before and after the commit, the hint, and who and why in the rows.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias

from migrator.control import pasted, roster
from migrator.control.pasted import OfLegacy, OfSession, Over
from migrator.core.flow import run
from migrator.core.phases import Phase

if TYPE_CHECKING:
    from collections.abc import Sequence
    from uuid import UUID

    from sqlalchemy import Connection

    from migrator.core.app import Sessions

Target: TypeAlias = Literal["session", "legacy_token", "subject"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Audit:
    """Who ends something, and why; both go into the rows."""

    who: str
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """What was ended, or, rehearsed, would be.

    Args:
        target: what was named.
        sessions: those that were alive.
        denied: a legacy token is refused from now on, besides.
        changed: whether anything is different now.
        note: what the operator should know; a sentence, or "".
    """

    target: Target
    sessions: tuple[UUID, ...] = ()
    denied: bool = False
    changed: bool = False
    note: str = ""


_OVER_ALREADY = "it was over already"


def end_session(app: Sessions, session_id: UUID, audit: Audit, *, dry_run: bool) -> Ending:
    """End a session with its family, and deny what may still come of that family.

    Raises:
        Stopped: USAGE, there is no such session.
        Unavailable: the store could not be asked; run it again.
    """
    legacy = has_legacy(app)
    family = run(app.store.family_of(session_id, legacy=legacy))
    if not family:
        raise roster.unknown(session_id)
    alive = tuple(found.session.id for found in family if found.session.revoked_at is None)
    if dry_run:
        return Ending(target="session", sessions=alive, note="" if alive else _OVER_ALREADY)
    run(app.cache.bury([found.digest for found in family if found.digest]))
    ended = run(app.store.end(session_id, reason=audit.why, by=audit.who, legacy=legacy))
    _settle(app, ended.digests)
    return Ending(
        target="session",
        sessions=ended.ids,
        changed=bool(ended.ids),
        note="" if ended.ids else _OVER_ALREADY,
    )


def end_pasted(
    app: Sessions,
    connection: Connection,
    schema: str,
    credential: bytes,
    audit: Audit,
    *,
    issuer_ids: Sequence[str],
    dry_run: bool,
) -> Ending:
    """End what a credential names: the session, or the legacy token with what it became.

    Raises:
        Stopped: USAGE, it names nothing.
        Unavailable: the store or a key set could not be asked; run it again.
    """
    legacy = has_legacy(app)
    known = issuer_ids if legacy else ()
    match pasted.meant(app, connection, schema, credential, issuer_ids=known):
        case OfSession(session_id):
            return end_session(app, session_id, audit, dry_run=dry_run)
        case Over():
            return Ending(
                target="legacy_token", note="it is expired and never became a session: no need"
            )
        case OfLegacy() if not legacy:
            return Ending(target="legacy_token", note="legacy tokens are retired: none is read")
        case OfLegacy() as token:
            return _deny(app, token, audit, dry_run=dry_run)


def end_subject(app: Sessions, subject: str, audit: Audit, *, realm: str, dry_run: bool) -> Ending:
    """End everything a subject has, and refuse its legacy tokens issued until now (a cutoff).

    Raises:
        Unavailable: the store could not be asked; run it again.
    """
    legacy = has_legacy(app)
    if dry_run:
        living = run(app.store.list(subject, realm=realm))
        return Ending(target="subject", sessions=tuple(one.id for one in living), denied=legacy)
    run(app.cache.bury(run(app.store.digests_of(subject, realm=realm))))
    ended = run(
        app.store.end_subject(subject, realm=realm, reason=audit.why, by=audit.who, legacy=legacy)
    )
    _settle(app, ended.digests)
    return Ending(
        target="subject",
        sessions=ended.ids,
        denied=legacy,
        changed=legacy or bool(ended.ids),
    )


def has_legacy(app: Sessions) -> bool:
    """Whether legacy tokens are still read at all."""
    return run(app.store.rollout()).phase is not Phase.RETIRED


def _deny(
    app: Sessions,
    token: OfLegacy,
    audit: Audit,
    *,
    dry_run: bool,
) -> Ending:
    family = run(app.store.family_of(token.session_id, legacy=True)) if token.session_id else ()
    alive = tuple(found.session.id for found in family if found.session.revoked_at is None)
    was_denied = run(app.store.check(token.claims)).bar == "denied"
    if dry_run:
        return Ending(target="legacy_token", sessions=alive, denied=True)
    run(app.cache.bury([found.digest for found in family if found.digest]))
    ended = run(app.store.deny(token.claims, reason=audit.why, by=audit.who))
    _settle(app, ended.digests)
    changed = bool(ended.ids) or not was_denied
    return Ending(
        target="legacy_token",
        sessions=ended.ids,
        denied=True,
        changed=changed,
        note="" if changed else _OVER_ALREADY,
    )


def _settle(app: Sessions, digests: Sequence[bytes]) -> None:
    if digests:
        run(app.cache.bury(digests))
    # Only ever wakes the others' poll of the feed, which says what happened.
    run(app.cache.hint([("session", digest.hex()) for digest in digests] or [("legacy", "")]))
