"""The shipped store that lives in this process: for tests, and to read what a store does.

It keeps by one lock every rule that Postgres keeps by its locks and constraints: the same contract
suite runs over both. It remembers nothing once the process is gone, so no logins belong here.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Final
from uuid import UUID

from migrator.core.claims import Claims
from migrator.core.interfaces import (
    Bar,
    Ended,
    Found,
    Standing,
    Ticket,
)
from migrator.core.phases import Phase, Rollout
from migrator.core.sessions import Session
from migrator.stores.memory_cache import MemoryCache as MemoryCache
from migrator.stores.memory_cache import NoCache as NoCache
from migrator.stores.memory_cache import utc_now
from migrator.stores.memory_rows import Denial, IssuerCutoff, LegacyRow, SubjectCutoff

_CAPPED: Final = frozenset({"login", "regenerate"})  # never a swapped one


class MemoryStore:
    """`interfaces.Store` in this process. Safe between threads.

    Args:
        clock: the time that decides.
        blocks: the colour it passes for; it suits both, since it never waits.
    """

    def __init__(self, clock: Callable[[], datetime] = utc_now, *, blocks: bool = True) -> None:
        self.blocks = blocks
        self._clock = clock
        self._lock = threading.Lock()
        self._sessions: dict[UUID, Session] = {}
        self._digests: dict[UUID, bytes] = {}
        self._by_digest: dict[bytes, UUID] = {}
        self._legacy: dict[bytes, LegacyRow] = {}
        self._denials: list[Denial] = []
        self._cutoffs: list[SubjectCutoff | IssuerCutoff] = []
        self._rollout = Rollout(phase=Phase.OBSERVE, epoch=1, percent=0, since=clock())

    # ---- asking --------------------------------------------------------------------------------

    async def rollout(self, *, deaf: str | None = None) -> Rollout:  # noqa: ARG002 - no nodes here
        """See `Store.rollout`."""
        return self._rollout

    async def now(self) -> datetime:
        """See `Store.now`."""
        return self._clock()

    async def find(self, digest: bytes) -> Found | None:
        """See `Store.find`."""
        with self._lock:
            session_id = self._by_digest.get(digest)
            return None if session_id is None else self._found(session_id)

    async def check(self, claims: Claims) -> Standing:
        """See `Store.check`."""
        with self._lock:
            return self._standing(claims)

    async def digests_of(self, subject: str, *, realm: str) -> Sequence[bytes]:
        """See `Store.digests_of`."""
        with self._lock:
            ids = [session.id for session in self._living(subject, realm)]
            return [self._digests[session_id] for session_id in ids if session_id in self._digests]

    async def family_of(self, session_id: UUID, *, legacy: bool) -> Sequence[Found]:
        """See `Store.family_of`; the digest of one that has no token yet is empty."""
        with self._lock:
            ids = [session_id, *(self._family(session_id) - {session_id} if legacy else ())]
            return [self._found(one) for one in ids if one in self._sessions]

    async def list(self, subject: str, *, realm: str, ended: bool = False) -> Sequence[Session]:
        """See `Store.list`."""
        with self._lock:
            now = self._clock()
            theirs = [
                session
                for session in self._sessions.values()
                if (session.realm, session.subject) == (realm, subject)
                and (ended or _lives(session, now))
            ]
        return sorted(theirs, key=_age, reverse=True)

    # ---- beginning -----------------------------------------------------------------------------

    async def swap(self, claims: Claims, ticket: Ticket) -> Standing:
        """See `Store.swap`."""
        with self._lock:
            if self._bar(claims) is None:
                row = self._legacy.get(claims.fingerprint)
                if row is None:
                    self._open(claims, ticket)
                else:
                    self._give_token(row, claims, ticket)
            return self._standing(claims)

    async def create(
        self,
        session: Session,
        digest: bytes,
        *,
        cap: int | None,
        legacy: bool = True,
        instead_of: Sequence[Claims] = (),
    ) -> Ended:
        """See `Store.create`."""
        with self._lock:
            self._plant(session, instead_of)
            if session.id not in self._sessions and digest not in self._by_digest:
                self._sessions[session.id] = replace(session, last_seen_at=session.created_at)
                self._name(session.id, digest)
            if cap is None:
                return Ended()
            ids = self._over(session.subject, session.realm, cap, legacy=legacy)
            return self._end(ids, reason="cap", by="cap")

    async def extend(self, session_id: UUID, expires_at: datetime) -> None:
        """See `Store.extend`."""
        with self._lock:
            session = self._sessions.get(session_id)
            if session is None or not _lives(session, self._clock()):
                return
            if session.expires_at is not None and session.expires_at < expires_at:
                self._sessions[session_id] = replace(session, expires_at=expires_at)

    async def renew(
        self,
        session: Session,
        claims: Mapping[str, object],
        scopes: Collection[str] | None = None,
        *,
        instead_of: Sequence[Claims] = (),
    ) -> None:
        """See `Store.renew`."""
        with self._lock:
            self._plant(session, instead_of)
            kept = self._sessions.get(session.id)
            if kept is not None and kept.revoked_at is None:
                may = kept.scopes if scopes is None else frozenset(scopes)
                self._sessions[session.id] = replace(kept, claims=dict(claims), scopes=may)

    def _plant(self, session: Session, instead_of: Sequence[Claims]) -> None:
        for claims in instead_of:
            row = LegacyRow(claims, session.id, adopted=True)
            self._legacy.setdefault(claims.fingerprint, row)

    # ---- ending --------------------------------------------------------------------------------

    async def end(self, session_id: UUID, *, reason: str, by: str, legacy: bool) -> Ended:
        """See `Store.end`."""
        with self._lock:
            if not legacy:
                return self._end([session_id], reason=reason, by=by)
            self._denials += [
                Denial(issuer=issuer, family=family)
                for issuer, family in self._families(session_id)
            ]
            return self._end(self._family(session_id), reason=reason, by=by)

    async def deny(self, claims: Claims, *, reason: str, by: str) -> Ended:
        """See `Store.deny`."""
        one = Denial(issuer=claims.issuer, fingerprint=claims.fingerprint, until=claims.keep_until)
        family = Denial(issuer=claims.issuer, family=claims.family)
        with self._lock:
            return self._bar_all([one, family] if claims.family else [one], reason, by=by)

    async def end_subject(
        self,
        subject: str,
        *,
        realm: str,
        reason: str,
        by: str,
        legacy: bool,
        keep: UUID | None = None,
        before: datetime | None = None,
    ) -> Ended:
        """See `Store.end_subject`."""
        with self._lock:
            if legacy:
                not_before = before or self._clock()
                self._cutoffs.append(
                    SubjectCutoff(realm=realm, subject=subject, not_before=not_before)
                )
            ids = [one.id for one in self._living(subject, realm) if one.id != keep]
            return self._end(ids, reason=reason, by=by)

    # ---- what operators do: beyond the protocol ------------------------------------------------

    def set_rollout(self, rollout: Rollout) -> None:
        """Move everybody."""
        self._rollout = rollout

    def backfill(self, session: Session, claims: Claims) -> None:
        """Take over a row of the old ledger: a session without a token, until its JWT is seen."""
        with self._lock:
            if claims.fingerprint not in self._legacy:
                self._sessions[session.id] = session
                self._legacy[claims.fingerprint] = LegacyRow(claims, session.id)

    def adopt(self, session_id: UUID) -> None:
        """Note that the client presented the token its swap gave it."""
        with self._lock:
            for row in self._rows(session_id):
                row.adopted = True

    def deny_key(
        self,
        issuer: str,
        *,
        jti: str | None = None,
        family: str | None = None,
        fingerprint: bytes | None = None,
        until: datetime | None = None,
        reason: str = "denied",
    ) -> Ended:
        """Deny one legacy token or family, never seen or not; ends what it became."""
        denial = Denial(
            issuer=issuer, jti=jti, family=family, fingerprint=fingerprint, until=until
        )
        with self._lock:
            return self._bar_all([denial], reason, by=reason)

    def cut_off(self, issuer: str, *, kid: str | None = None, reason: str = "cut_off") -> Ended:
        """Refuse everything an issuer, or one of its keys, ever signed; ends what it became."""
        cutoff = IssuerCutoff(issuer=issuer, kid=kid)
        with self._lock:
            self._cutoffs.append(cutoff)
            return self._end_barred([cutoff], reason, by=reason)

    # ---- under the lock ------------------------------------------------------------------------

    def _open(self, claims: Claims, ticket: Ticket) -> None:
        now = self._clock()
        session = replace(ticket.session, created_at=now, last_seen_at=now)
        self._legacy[claims.fingerprint] = LegacyRow(claims, session.id, ticket.swap_key_id)
        if ticket.digest not in self._by_digest:
            self._sessions[session.id] = session
            self._name(session.id, ticket.digest)

    def _give_token(self, row: LegacyRow, claims: Claims, ticket: Ticket) -> None:
        session, now = self._sessions.get(row.session_id), self._clock()
        if session is None or session.id in self._digests or not _lives(session, now):
            return
        new = ticket.session
        self._sessions[session.id] = replace(
            session,
            expires_at=new.expires_at,
            scopes=new.scopes,
            claims=new.claims,
            amr=new.amr,
            user_agent=new.user_agent,
            ip=new.ip,
            client=session.client or new.client,
            auth_time=session.auth_time or new.auth_time,
            last_seen_at=now,
        )
        self._name(session.id, ticket.digest)
        row.swap_key_id = ticket.swap_key_id
        row.claims = replace(row.claims, kid=row.claims.kid or claims.kid)

    def _name(self, session_id: UUID, digest: bytes) -> None:
        self._digests[session_id] = digest
        self._by_digest[digest] = session_id

    def _found(self, session_id: UUID) -> Found:
        return Found(
            digest=self._digests.get(session_id, b""),
            session=self._sessions[session_id],
            read_at=self._clock(),
        )

    def _standing(self, claims: Claims) -> Standing:
        bar, row = self._bar(claims), self._legacy.get(claims.fingerprint)
        if row is None:
            return Standing(read_at=self._clock(), bar=bar)
        return Standing(
            read_at=self._clock(),
            bar=bar,
            known=True,
            session=self._sessions.get(row.session_id),
            digest=self._digests.get(row.session_id),
            swap_key_id=row.swap_key_id,
            adopted=row.adopted,
        )

    def _bar(self, claims: Claims) -> Bar | None:
        now = self._clock()
        for denial in self._denials:
            if denial.covers(claims) and (denial.until is None or denial.until > now):
                return "denied"
        return "cut_off" if any(cutoff.covers(claims) for cutoff in self._cutoffs) else None

    def _bar_all(self, denials: Sequence[Denial], reason: str, *, by: str) -> Ended:
        self._denials += denials
        return self._end_barred(denials, reason, by=by)

    def _end_barred(self, bars: Sequence[Denial | IssuerCutoff], reason: str, *, by: str) -> Ended:
        ids = [
            row.session_id
            for row in self._legacy.values()
            if any(bar.covers(row.claims) for bar in bars)
        ]
        return self._end(ids, reason=reason, by=by)

    def _end(self, ids: Iterable[UUID], *, reason: str, by: str) -> Ended:
        ended = []
        for session_id in dict.fromkeys(ids):
            session = self._sessions.get(session_id)
            if session is not None and session.revoked_at is None:
                self._sessions[session_id] = replace(
                    session, revoked_at=self._clock(), revoked_reason=reason, revoked_by=by
                )
                ended.append(session_id)
        digests = tuple(self._digests[one] for one in ended if one in self._digests)
        return Ended(ids=tuple(ended), digests=digests)

    def _living(self, subject: str, realm: str) -> Sequence[Session]:
        return [
            session
            for session in self._sessions.values()
            if (session.realm, session.subject) == (realm, subject) and session.revoked_at is None
        ]

    def _over(self, subject: str, realm: str, cap: int, *, legacy: bool) -> Sequence[UUID]:
        """The sessions of the families beyond the newest `cap`."""
        families: dict[object, list[Session]] = {}
        now = self._clock()
        for one in self._living(subject, realm):
            if one.kind == "session" and _lives(one, now):
                named = min(self._families(one.id), default=None) if legacy else None
                families.setdefault(named or one.id, []).append(one)
        counted = [of for of in families.values() if all(one.origin in _CAPPED for one in of)]
        counted.sort(key=lambda of: max(map(_age, of)), reverse=True)
        return [one.id for of in counted[cap:] for one in of]

    def _rows(self, session_id: UUID) -> Sequence[LegacyRow]:
        return [row for row in self._legacy.values() if row.session_id == session_id]

    def _families(self, session_id: UUID) -> set[tuple[str, str]]:
        rows = self._rows(session_id)
        return {(row.claims.issuer, row.claims.family) for row in rows if row.claims.family}

    def _family(self, session_id: UUID) -> set[UUID]:
        named = self._families(session_id)
        rows = self._legacy.values()
        return {session_id} | {
            row.session_id for row in rows if (row.claims.issuer, row.claims.family) in named
        }


def _lives(session: Session, now: datetime) -> bool:
    return session.revoked_at is None and (session.expires_at is None or session.expires_at > now)


def _age(session: Session) -> tuple[datetime, UUID]:
    return session.created_at, session.id
