"""A store of each kind that ships, how to run it, and whoever works on it from outside."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol

import psycopg

from migrator.core.claims import Claims
from migrator.core.interfaces import Ended, Found, Standing, Store, Ticket
from migrator.core.sessions import Session
from migrator.stores.memory import MemoryStore

DAY = timedelta(days=1)
NOW = datetime.now(UTC).replace(microsecond=0)


class Operator(Protocol):
    """What is done to a store from outside the request path."""

    def backfill(self, session: Session, claims: Claims) -> None: ...

    def adopt(self, session_id: uuid.UUID) -> None: ...

    def deny_jti(self, issuer: str, jti: str, until: datetime | None) -> None: ...

    def cut_off(self, issuer: str, kid: str | None) -> None: ...


@dataclass(frozen=True, slots=True)
class InMemory:
    store: MemoryStore

    def backfill(self, session: Session, claims: Claims) -> None:
        self.store.backfill(session, claims)

    def adopt(self, session_id: uuid.UUID) -> None:
        self.store.adopt(session_id)

    def deny_jti(self, issuer: str, jti: str, until: datetime | None) -> None:
        self.store.deny_key(issuer, jti=jti, until=until)

    def cut_off(self, issuer: str, kid: str | None) -> None:
        self.store.cut_off(issuer, kid=kid)


@dataclass(frozen=True, slots=True)
class InPostgres:
    """Writes the rows that backfill, pulse and `cutoff add` write."""

    url: str

    def backfill(self, session: Session, claims: Claims) -> None:
        self._do(
            "INSERT INTO migrator.sessions (id, kind, realm, subject, created_at, expires_at,"
            " origin) VALUES (%s, %s, %s, %s, %s, %s, %s)",
            session.id,
            session.kind,
            session.realm,
            session.subject,
            session.created_at,
            session.expires_at,
            session.origin,
        )
        self._do(
            "INSERT INTO migrator.legacy_tokens (fingerprint, issuer, jti, family, realm, subject,"
            " purpose, exp, session_id, keep_until, percent_bucket)"
            " VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, 0)",
            claims.fingerprint,
            claims.issuer,
            claims.jti,
            claims.family,
            claims.realm,
            claims.subject,
            claims.purpose,
            claims.exp,
            session.id,
            claims.keep_until,
        )

    def adopt(self, session_id: uuid.UUID) -> None:
        self._do(
            "UPDATE migrator.legacy_tokens SET adopted_at = now() WHERE session_id = %s",
            session_id,
        )

    def deny_jti(self, issuer: str, jti: str, until: datetime | None) -> None:
        self._do(
            "INSERT INTO migrator.denials (issuer, jti, until, reason) VALUES (%s, %s, %s, 'x')",
            issuer,
            jti,
            until,
        )

    def cut_off(self, issuer: str, kid: str | None) -> None:
        self._do("INSERT INTO migrator.cutoffs (issuer, kid) VALUES (%s, %s)", issuer, kid)

    def _do(self, statement: str, *values: object) -> None:
        url = self.url.replace("postgresql+psycopg://", "postgresql://", 1)
        with psycopg.connect(url) as connection:
            connection.execute(statement, values)


@dataclass(frozen=True, slots=True)
class World:
    """A store, how to run it, and who works on it from outside."""

    store: Store
    operator: Operator
    run: Callable[[Coroutine[Any, Any, Any]], Any]

    def find(self, digest: bytes) -> Found | None:
        found: Found | None = self.run(self.store.find(digest))
        return found

    def check(self, claims: Claims) -> Standing:
        standing: Standing = self.run(self.store.check(claims))
        return standing

    def swap(self, claims: Claims, ticket: Ticket | None = None) -> Standing:
        standing: Standing = self.run(self.store.swap(claims, ticket or a_ticket(claims)))
        return standing

    def login(self, subject: str = "1", *, cap: int | None = None, **more: Any) -> Found:
        """A session begun by a login; `more` are further fields of it."""
        now = self.run(self.store.now())
        more = {"created_at": now, "expires_at": now + DAY, "origin": "login", **more}
        session = a_session(subject, **more)
        digest = uuid.uuid4().bytes * 2
        self.run(self.store.create(session, digest, cap=cap))
        found = self.find(digest)
        assert found is not None
        return found

    def end(self, session_id: uuid.UUID, *, legacy: bool = True) -> Ended:
        ended: Ended = self.run(self.store.end(session_id, reason="asked", by="me", legacy=legacy))
        return ended

    def end_subject(self, subject: str = "1", realm: str = "users", **more: Any) -> Ended:
        more = {"legacy": True, "reason": "asked", "by": "me", **more}
        ended: Ended = self.run(self.store.end_subject(subject, realm=realm, **more))
        return ended

    def living(self, subject: str = "1") -> list[uuid.UUID]:
        sessions = self.run(self.store.list(subject, realm="users"))
        return [session.id for session in sessions]

    def is_over(self, digest: bytes | None) -> bool:
        assert digest is not None
        found = self.find(digest)
        assert found is not None
        return found.session.revoked_at is not None


def a_session(subject: str = "1", **more: Any) -> Session:
    facts: dict[str, Any] = {
        "id": uuid.uuid4(),
        "kind": "session",
        "realm": "users",
        "created_at": NOW,
        "expires_at": NOW + DAY,
        "origin": "swap",
    }
    return Session(subject=subject, **facts | more)


def a_claims(subject: str = "1", **more: Any) -> Claims:
    facts: dict[str, Any] = {
        "issuer": "a1",
        "realm": "users",
        "fingerprint": uuid.uuid4().bytes * 2,
        "exp": NOW + DAY,
        "keep_until": NOW + DAY + timedelta(seconds=35),
        "kid": "k1",
        "iat": NOW - timedelta(minutes=1),
        "effective_iat": NOW - timedelta(minutes=1),
    }
    return Claims(subject=subject, **facts | more)


def a_ticket(claims: Claims, /, **more: Any) -> Ticket:
    session = a_session(claims.subject, realm=claims.realm, expires_at=claims.exp, **more)
    digest = bytes(255 - byte for byte in claims.fingerprint)  # derived, so always the same
    return Ticket(session=session, digest=digest, swap_key_id="s1", percent_bucket=7)
