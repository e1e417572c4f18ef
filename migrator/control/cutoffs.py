"""Cutoffs: legacy tokens refused by subject and time, by key, or by issuer; what they end.

The order is what makes one hold: the row and its word in the feed are committed first, so that no
new swap gets past it; then the lock that swaps under way share is waited for once; then what came
from such tokens is ended, in batches. Killed half-way, the same command again goes on.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Final

from psycopg.errors import LockNotAvailable
from sqlalchemy import func, select
from sqlalchemy.exc import DBAPIError

from migrator.control import cutoff_rows, roster
from migrator.control.cutoff_rows import Cutoff, Place
from migrator.core.errors import Exit, Problem, Stopped
from migrator.core.flow import run
from migrator.stores import cutoffs as sql
from migrator.stores import queries as q
from migrator.stores.postgres import issuer_lock, kid_lock, subject_lock
from migrator.stores.queries import in_schema

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from datetime import datetime
    from uuid import UUID

    from migrator.control.endings import Audit

_ROOM: Final = 1000
_LOCK_TRIES: Final = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Cut:
    """What adding a cutoff did, or would do; `is_new` False: the row was there already."""

    cutoff: Cutoff
    is_new: bool
    ended: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Signer:
    """What dates an issuer's tokens that have no iat."""

    skew: timedelta
    lifetimes: Mapping[str, timedelta | None]

    def effective_iat(
        self, *, iat: datetime | None, exp: datetime, purpose: str
    ) -> datetime | None:
        """When a token was issued, by the same rule as the gate's; None: it cannot be told."""
        lifetime = self.lifetimes.get(purpose)
        dated = iat or (exp - lifetime if lifetime else None)
        return None if dated is None else dated - self.skew


def cut_issuer(place: Place, issuer: str, *, kid: str | None, audit: Audit, dry_run: bool) -> Cut:
    """Refuse everything an issuer, or one of its keys, ever signed; end what came from it.

    Raises:
        Stopped: GATE_FAILED, legacy tokens are retired; CONFLICT, the lock could not be had.
    """
    _require_legacy(place)
    facts = {"issuer": issuer, "kid": kid, "reason": audit.why, "by": audit.who}
    counted = place.connection.exec_driver_sql(
        in_schema(sql.COUNT_SWAPPED_FROM, place.schema), facts
    )
    total = int(counted.scalar_one())
    same = {"issuer": issuer, "kid": kid}
    wanted = Cutoff(id=None, issuer=issuer, kid=kid, created_by=audit.who, reason=audit.why)
    if dry_run:
        found = cutoff_rows.same(place, same)
        place.connection.rollback()
        return Cut(cutoff=found or wanted, is_new=found is None, ended=total)
    cutoff, is_new = cutoff_rows.write(place, same, audit)
    _wait_for_swaps(place, issuer_lock(issuer) if kid is None else kid_lock(issuer, kid))
    ended = 0
    for batch in _swapped_from(place, facts):
        ended += _end(place, batch, facts, everything=total > _ROOM)
    return Cut(cutoff=cutoff, is_new=is_new, ended=ended)


def cut_subject(
    place: Place,
    subject: str,
    *,
    realm: str,
    before: datetime | None,
    signers: Mapping[str, Signer],
    audit: Audit,
    dry_run: bool,
) -> Cut:
    """Refuse a subject's legacy tokens issued before a time (None: now); end what they became.

    Sessions of a login stay: `revoke-subject` ends those too.

    Raises:
        Stopped: GATE_FAILED, legacy tokens are retired; USAGE, the time is not over yet;
            CONFLICT, the lock could not be had.
    """
    _require_legacy(place)
    now: datetime = place.connection.execute(select(func.clock_timestamp())).scalar_one()
    if before is not None and before > now:
        raise _not_over(before, now)
    not_before = before or now
    facts = {"realm": realm, "subject": subject, "reason": audit.why, "by": audit.who}
    same = {"realm": realm, "subject": subject, "not_before": not_before}
    if dry_run:
        found = cutoff_rows.same(place, same)
        hit = _of_subject(place, facts, not_before, signers)
        place.connection.rollback()
        wanted = Cutoff(
            id=None,
            realm=realm,
            subject=subject,
            not_before=not_before,
            created_by=audit.who,
            reason=audit.why,
        )
        return Cut(cutoff=found or wanted, is_new=found is None, ended=len(hit))
    cutoff, is_new = cutoff_rows.write(place, same, audit)
    _wait_for_swaps(place, subject_lock(realm, subject))
    hit = _of_subject(place, facts, not_before, signers)
    ended = _end(place, hit, facts, everything=False)
    return Cut(cutoff=cutoff, is_new=is_new, ended=ended)


def _wait_for_swaps(place: Place, lock: int) -> None:
    """Have the lock once, exclusively: every swap that read before the row was there is through.

    A node that froze inside its pipeline keeps its lock; ending it costs that node one retry.
    """
    for _ in range(_LOCK_TRIES):
        try:
            place.connection.exec_driver_sql(q.LOCK_TIMEOUT)
            place.connection.exec_driver_sql(q.LOCK, {"lock": lock})
        except DBAPIError as error:
            place.connection.rollback()
            if not isinstance(error.orig, LockNotAvailable):
                raise
            place.connection.exec_driver_sql(q.END_HOLDERS, {"lock": lock})
        else:
            place.connection.rollback()
            return
        place.connection.rollback()
    problem = Problem(
        id="cutoff.swaps-under-way",
        what="the cutoff is written, but swaps under way could not be waited for",
        why="somebody kept the lock although its connection was ended several times",
        do="run the same command again: it goes on from here",
    )
    raise Stopped(problem, Exit.CONFLICT)


Named = tuple["UUID", bytes | None]


def _swapped_from(place: Place, facts: Mapping[str, object]) -> Iterator[list[Named]]:
    after = b""
    statement = in_schema(sql.SWAPPED_FROM, place.schema)
    while True:
        rows = place.connection.exec_driver_sql(
            statement, {**facts, "after": after, "room": _ROOM}
        ).all()
        place.connection.rollback()
        if rows:
            yield [(row[1], row[2]) for row in rows]
            after = bytes(rows[-1][0])
        if len(rows) < _ROOM:
            return


def _of_subject(
    place: Place,
    facts: Mapping[str, object],
    not_before: datetime,
    signers: Mapping[str, Signer],
) -> list[Named]:
    unknown = Signer(skew=timedelta(0), lifetimes={})
    statement = in_schema(sql.SWAPPED_OF_SUBJECT, place.schema)
    hit: dict[UUID, bytes | None] = {}
    for issuer, purpose, iat, exp, session_id, digest in place.connection.exec_driver_sql(
        statement, facts
    ):
        signer = signers.get(issuer, unknown)
        issued_at = signer.effective_iat(iat=iat, exp=exp, purpose=purpose)
        if issued_at is None or issued_at <= not_before:
            hit[session_id] = digest
    return list(hit.items())


def _end(
    place: Place, named: Sequence[Named], facts: Mapping[str, object], *, everything: bool
) -> int:
    if not named:
        return 0
    digests = [bytes(digest) for _, digest in named if digest is not None]
    run(place.cache.bury(digests))
    place.connection.exec_driver_sql(q.SYNCHRONOUS)
    ended = place.connection.exec_driver_sql(
        in_schema(sql.END_NAMED, place.schema),
        {**facts, "ids": [one for one, _ in named], "everything": everything},
    ).all()
    place.connection.commit()
    run(place.cache.bury(digests))
    run(place.cache.hint([("session", digest.hex()) for digest in digests]))
    return len(ended)


def _require_legacy(place: Place) -> None:
    legacy = roster.has_legacy(place.connection, place.schema)
    place.connection.rollback()
    if not legacy:
        problem = Problem(
            id="cutoff.retired",
            what="legacy tokens are retired: there is nothing left to cut off",
            why="every one of them is refused unread",
            do="migrator revoke-subject SUBJECT ends sessions",
        )
        raise Stopped(problem, Exit.GATE_FAILED)


def _not_over(before: datetime, now: datetime) -> Stopped:
    problem = Problem(
        id="cutoff.future",
        what=f"{before.isoformat()} is still to come (the database says {now.isoformat()})",
        why="a cutoff in the future would refuse every token that is issued until then",
        do="leave --before out: it means now",
    )
    return Stopped(problem, Exit.USAGE)
