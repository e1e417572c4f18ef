"""The truth: sessions and how legacy tokens stand, in Postgres.

One class for both colours: the driver decides. Each method is one round trip, an ending two: what
must be true before a lock is waited for is committed before it.
"""

from __future__ import annotations

import hashlib
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

from psycopg.types.json import Jsonb

from migrator.core.errors import Unavailable
from migrator.core.interfaces import Ended, Found, Standing
from migrator.core.phases import bucket_of
from migrator.core.sessions import Session
from migrator.stores import queries as q
from migrator.stores.rollout_row import rollout_of

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence
    from datetime import datetime
    from uuid import UUID

    from migrator.core.claims import Claims
    from migrator.core.interfaces import Ticket
    from migrator.core.phases import Rollout
    from migrator.stores.drivers import Row, Step

_LOCK_TRIES = 20


Rows: TypeAlias = "list[Row]"
Scripts: TypeAlias = "list[Rows]"


class Driver(Protocol):
    """What runs a script; see drivers.py."""

    blocks: bool

    async def run(self, *steps: Step, by_anyone: bool = False) -> list[Rows]:
        """The rows of each statement, in one round trip."""
        ...


class Postgres:
    """`interfaces.Store` over a driver of either colour.

    Args:
        schema: where our tables are.
    """

    def __init__(self, driver: Driver, schema: str) -> None:
        self.blocks = driver.blocks
        self._driver = driver
        self._sql = {
            name: q.in_schema(statement, schema)
            for name, statement in vars(q).items()
            if name.isupper() and isinstance(statement, str)
        }

    async def rollout(self, *, deaf: str | None = None) -> Rollout:
        """See `Store.rollout`."""
        rows = await self._one("ROLLOUT")
        if deaf is not None:
            with suppress(Unavailable):  # a server that takes no writes
                await self._one("STILL_ACTS", id=deaf)
        return rollout_of(rows)

    async def now(self) -> datetime:
        """See `Store.now`."""
        now: datetime = (await self._one("NOW"))[0][0]
        return now

    async def find(self, digest: bytes) -> Found | None:
        """See `Store.find`."""
        asked = (self._sql["FIND"], {"digest": digest})
        rows = (await self._driver.run(asked, by_anyone=True))[0]
        return found_of(digest, rows[0]) if rows else None

    async def check(self, claims: Claims) -> Standing:
        """See `Store.check`."""
        return _standing((await self._one("STAND", **_facts(claims)))[0])

    async def swap(self, claims: Claims, ticket: Ticket) -> Standing:
        """See `Store.swap`."""
        session = ticket.session
        facts = {
            **_facts(claims),
            **_columns(session),
            "client": session.client,
            "digest": ticket.digest,
            "swap_key_id": ticket.swap_key_id,
            "percent_bucket": ticket.percent_bucket,
        }
        rows = await self._driver.run(
            (q.BEGIN, None),
            (self._sql["SHARE_LOCKS"], {"locks": locks_of(claims)}),
            *((self._sql[name], facts) for name in ("KNOW", "OPEN", "GIVE_TOKEN", "STAND")),
            (q.COMMIT, None),
        )
        return _standing(rows[5][0])

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
        facts = {**_columns(session), "digest": digest, "cap": cap or 0}
        locks = dict.fromkeys([subject_lock(session.realm, session.subject)])
        steps: list[Step] = [(self._sql["CREATE"], facts)]
        steps += self._planting(session, instead_of)
        if cap is not None:  # last: by then its own family is known
            steps.append((self._sql["CAP" if legacy else "CAP_EACH"], facts))
        for claims in instead_of:
            locks |= dict.fromkeys(locks_of(claims))
        rows = await self._driver.run(
            (q.BEGIN, None),
            (self._sql["SHARE_LOCKS"], {"locks": list(locks)}),
            *steps,
            (q.COMMIT, None),
        )
        return _ended(rows[-2]) if cap is not None else Ended()

    async def extend(self, session_id: UUID, expires_at: datetime) -> None:
        """See `Store.extend`."""
        await self._one("EXTEND", session_id=session_id, expires_at=expires_at)

    async def renew(
        self,
        session: Session,
        claims: Mapping[str, object],
        scopes: Collection[str] | None = None,
        *,
        instead_of: Sequence[Claims] = (),
    ) -> None:
        """See `Store.renew`."""
        facts = {
            "session_id": session.id,
            "claims": Jsonb(dict(claims)),
            "scopes": None if scopes is None else sorted(scopes),
        }
        steps: list[Step] = [(self._sql["SET_CLAIMS"], facts)]
        if instead_of:
            steps += [*self._planting(session, instead_of), (self._sql["UPROOT"], facts)]
        await self._driver.run((q.BEGIN, None), *steps, (q.COMMIT, None))

    def _planting(self, session: Session, instead_of: Sequence[Claims]) -> list[Step]:
        known = {
            "session_id": session.id,
            "client": session.client,
            "percent_bucket": bucket_of(session.subject, session.realm),
        }
        return [(self._sql["PLANT"], {**_facts(claims), **known}) for claims in instead_of]

    async def end(self, session_id: UUID, *, reason: str, by: str, legacy: bool) -> Ended:
        """See `Store.end`."""
        facts = {"session_id": session_id, "reason": reason, "by": by}
        if not legacy:
            return _ended((await self._synchronously(("END_ONE", facts)))[-1])
        rows = await self._synchronously(("DENY_FAMILY", facts), ("END_FAMILY", facts))
        ended = [_ended(rows[-1])]
        for issuer, family in await self._one("FAMILIES", session_id=session_id):
            ended.append(await self._sweep(family_lock(issuer, family), "END_FAMILY", facts))
        return _joined(*ended)

    async def deny(self, claims: Claims, *, reason: str, by: str) -> Ended:
        """See `Store.deny`."""
        facts = {**_facts(claims), "reason": reason, "by": by}
        rows = await self._synchronously(("DENY_TOKEN", facts), ("END_DENIED", facts))
        lock = subject_lock(claims.realm, claims.subject)
        return _joined(_ended(rows[-1]), await self._sweep(lock, "END_DENIED", facts))

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
        facts = {
            "subject": subject,
            "realm": realm,
            "reason": reason,
            "by": by,
            "keep": keep,
            "before": before,
        }
        names = ("TELL_SUBJECT", "END_SUBJECT")
        steps = ("CUT_OFF_SUBJECT", *names) if legacy else names
        rows = await self._synchronously(*((name, facts) for name in steps))
        lock = subject_lock(realm, subject)
        return _joined(_ended(rows[-1]), await self._sweep(lock, "END_SUBJECT", facts))

    async def digests_of(self, subject: str, *, realm: str) -> Sequence[bytes]:
        """See `Store.digests_of`."""
        return [row[0] for row in await self._one("DIGESTS", subject=subject, realm=realm)]

    async def family_of(self, session_id: UUID, *, legacy: bool) -> Sequence[Found]:
        """See `Store.family_of`."""
        rows = await self._one("FAMILY" if legacy else "JUST_ONE", session_id=session_id)
        return [found_of(row[1] or b"", (row[0], *row[2:])) for row in rows]

    async def list(self, subject: str, *, realm: str, ended: bool = False) -> Sequence[Session]:
        """See `Store.list`."""
        rows = await self._one("LIST", subject=subject, realm=realm, ended=ended)
        return [session_of(row) for row in rows]

    async def _one(self, name: str, **facts: object) -> Rows:
        return (await self._driver.run((self._sql[name], facts)))[0]

    async def _synchronously(self, *steps: tuple[str, dict[str, Any]]) -> Scripts:
        rows = await self._driver.run(
            (q.BEGIN, None),
            (q.SYNCHRONOUS, None),
            *((self._sql[name], facts) for name, facts in steps),
            (q.COMMIT, None),
        )
        return rows[:-1]

    async def _sweep(self, lock: int, name: str, facts: dict[str, Any]) -> Ended:
        return _ended(await swept(self._driver, lock, (self._sql[name], facts)))


async def swept(driver: Driver, lock: int, step: Step) -> Rows:
    """The rows of `step`, run once every swap under way is through: it ends what they opened.

    What bars new swaps was committed before: the lock only waits for those that read before that.

    Raises:
        Unavailable: a swap holds on, whatever is done.
    """
    for _ in range(_LOCK_TRIES):
        try:
            rows = await driver.run(
                (q.BEGIN, None),
                (q.SYNCHRONOUS, None),
                (q.LOCK_TIMEOUT, None),
                (q.LOCK, {"lock": lock}),
                step,
                (q.COMMIT, None),
            )
        except Unavailable as error:
            if "55P03" not in error.why:  # lock_not_available
                raise
            await driver.run((q.END_HOLDERS, {"lock": lock}))
        else:
            return rows[4]
    raise Unavailable("postgres", "a swap under way could not be waited for")


def locks_of(claims: Claims) -> list[int]:
    """The shared locks of a swap, always in this order."""
    keys = [subject_lock(claims.realm, claims.subject), issuer_lock(claims.issuer)]
    if claims.kid is not None:
        keys.append(kid_lock(claims.issuer, claims.kid))
    if claims.jti is not None:
        keys.append(jti_lock(claims.issuer, claims.jti))
    if claims.family is not None:
        keys.append(family_lock(claims.issuer, claims.family))
    return keys


def subject_lock(realm: str, subject: str) -> int:
    """The lock that whoever ends a subject takes exclusively."""
    return _lock("subject", realm, subject)


def issuer_lock(issuer: str) -> int:
    """The lock that whoever cuts an issuer off takes exclusively."""
    return _lock("issuer", issuer)


def kid_lock(issuer: str, kid: str) -> int:
    """The lock that whoever cuts a key off takes exclusively."""
    return _lock("kid", issuer, kid)


def family_lock(issuer: str, family: str) -> int:
    """The lock that whoever ends a family takes exclusively."""
    return _lock("family", issuer, family)


def jti_lock(issuer: str, jti: str) -> int:
    """The lock that whoever denies a jti takes exclusively."""
    return _lock("jti", issuer, jti)


def _lock(*parts: str) -> int:
    named = hashlib.sha256("\0".join(parts).encode("utf-8", "surrogatepass")).digest()
    return int.from_bytes(named[:8], "big", signed=True)


def session_of(row: Row) -> Session:
    """A session from its columns in the order of `queries.SESSION_COLUMNS`."""
    facts = dict(zip(_SESSION_FIELDS, row, strict=True))
    facts["scopes"] = frozenset(facts["scopes"])
    facts["amr"] = tuple(facts["amr"])
    return Session(**facts)


_SESSION_FIELDS = tuple(q.SESSION_COLUMNS.split(", "))


def found_of(digest: bytes, row: Row) -> Found:
    """A session with the time it was read at, its first column."""
    return Found(digest=digest, read_at=row[0], session=session_of(row[1:]))


def _facts(claims: Claims) -> dict[str, Any]:
    return {
        "fingerprint": claims.fingerprint,
        "issuer": claims.issuer,
        "jti": claims.jti,
        "family": claims.family,
        "realm": claims.realm,
        "subject": claims.subject,
        "kid": claims.kid,
        "purpose": claims.purpose,
        "iat": claims.iat,
        "exp": claims.exp,
        "effective_iat": claims.effective_iat,
        "keep_until": claims.keep_until,
    }


def _columns(session: Session) -> dict[str, Any]:
    facts = {name: getattr(session, name) for name in _SESSION_FIELDS}
    del facts["id"]
    return {
        **facts,
        "session_id": session.id,
        "scopes": sorted(session.scopes),
        "claims": Jsonb(dict(session.claims)),
        "amr": list(session.amr),
    }


def _standing(row: Row) -> Standing:
    read_at, cut_off, denied, known, digest, key_id, adopted, *session = row
    return Standing(
        read_at=read_at,
        bar="denied" if denied else "cut_off" if cut_off else None,
        known=known,
        session=session_of(tuple(session)) if session[0] is not None else None,
        digest=digest,
        swap_key_id=key_id,
        adopted=adopted,
    )


def _ended(rows: Sequence[Row]) -> Ended:
    return Ended(
        ids=tuple(row[0] for row in rows), digests=tuple(row[1] for row in rows if row[1])
    )


def _joined(*parts: Ended) -> Ended:
    return Ended(
        ids=tuple(one for part in parts for one in part.ids),
        digests=tuple(one for part in parts for one in part.digests),
    )
