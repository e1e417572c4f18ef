"""What a ledger's word becomes here: denials, cutoffs and endings; and who reads it next.

The same discipline as every ending (queries.py): what bars new swaps is committed with its words
in the feed first; then the lock that such swaps share is had once, exclusively, and what they
opened meanwhile is ended. Repeating any of it changes nothing and writes no row, so a ledger is
simply read again and again. What a ledger no longer says stays said here, but for a user who is
active again.
"""

from __future__ import annotations

from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

from psycopg.types.json import Jsonb

from migrator.core.flow import run
from migrator.stores import ledger_queries
from migrator.stores import queries as q
from migrator.stores.postgres import family_lock, issuer_lock, jti_lock, subject_lock, swept

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from migrator.core.interfaces import Cache
    from migrator.stores.drivers import BlockingDriver, Row

REASON: Final = "ledger"
# More new denials than this wait for the issuer's lock once, in place of one lock for each.
_MOST_LOCKS: Final = 32
_LOCK_TRIES: Final = 20
_UUID_CHARS: Final = frozenset({32, 36})


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """One thing that a ledger says is not to be admitted; never a token.

    Args:
        until: from when on it needs no denial; None: for ever.
    """

    jti: str | None = None
    fingerprint: bytes | None = None
    family: str | None = None
    until: datetime | None = None


@dataclass(slots=True)
class Tally:
    """What came of reading: rows read, and what is different since."""

    read: int = 0
    denied: int = 0
    ended: int = 0
    lifted: int = 0

    def add(self, other: Tally) -> None:
        """Count another one in."""
        self.read += other.read
        self.denied += other.denied
        self.ended += other.ended
        self.lifted += other.lifted


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """Whom a ledger is about.

    Args:
        by: who stands in the rows; says which ledger it was.
        is_sliding: tokens are re-issued under their jti, so a jti stays denied for ever.
        whole_family: what is named takes its family with it.
        skew: how far ahead a signer's clock may be.
        lifetimes: "issuer:purpose" → seconds, for tokens without iat.
    """

    by: str
    realm: str
    issuer: str = ""
    is_sliding: bool = False
    whole_family: bool = False
    skew: timedelta = timedelta(0)
    lifetimes: Mapping[str, float] = field(default_factory=dict)


class Ledgers:
    """Writes what ledgers say, over a connection of its own.

    Args:
        driver: to our database; requests never wait for it.
        cache: gets its tombstones before and after each commit.
        rehearses: nothing is written; the tallies say what would have been.
    """

    def __init__(
        self, driver: BlockingDriver, schema: str, cache: Cache, *, rehearses: bool = False
    ) -> None:
        self._driver = driver
        self._cache = cache
        self._rehearses = rehearses
        self._sql = {
            name: q.in_schema(statement, schema)
            for name, statement in vars(ledger_queries).items()
            if name.isupper() and not name.startswith("_")
        }

    def now(self) -> datetime:
        """The database's clock."""
        now: datetime = run(self._driver.run((q.NOW, None)))[0][0][0]
        return now

    # Whose turn it is.

    def claim(
        self, name: str, run_id: str, lease_s: float, *, at_once: bool = False
    ) -> tuple[Mapping[str, Any], datetime]:
        """Take the turn of a ledger that is due: its checkpoint, and the time.

        Raises:
            NotDue: it is not, and in how many seconds it will be.
            Unavailable: the database could not be asked.
        """
        facts = {"name": name, "run": run_id, "lease_s": lease_s, "at_once": at_once}
        rows = self._run(("BE_THERE", facts), ("CLAIM", facts), ("HOW_LONG", facts))
        if rows[1]:
            return rows[1][0][0], rows[1][0][1]
        raise NotDue(rows[2][0][0])

    def keep(
        self, name: str, run_id: str, lease_s: float, checkpoint: Mapping[str, Any], read: int
    ) -> bool:
        """Write how far the reading came; False: another node has taken over."""
        facts = {
            "name": name,
            "run": run_id,
            "lease_s": lease_s,
            "checkpoint": Jsonb(dict(checkpoint)),
            "read": read,
        }
        return bool(self._run(("KEEP", facts))[0])

    def leave(
        self, name: str, run_id: str, every_s: float, tally: Tally, detail: Mapping[str, Any]
    ) -> None:
        """Write how the turn ended: `detail` has `why` None where it went well."""
        facts = {
            "name": name,
            "run": run_id,
            "every_s": every_s,
            "state": "idle" if detail.get("why") is None else "failed",
            "denied": tally.denied,
            "ended": tally.ended,
            "detail": Jsonb(dict(detail)),
        }
        self._run(("LEAVE", facts))

    # What is said.

    def deny(self, items: Sequence[Item], terms: Terms) -> Tally:
        """Deny what is named, and end what it became."""
        if not items:
            return Tally()
        facts = self._facts(terms) | _columns(items)
        if self._rehearses:
            return _tally(self._run(("WOULD_DENY", facts))[0])
        told = self._commit("LISTED", "DENY", facts)
        tally = _tally(told)
        for lock in _locks(terms.issuer, told):
            tally.add(_tally(self._sweep(lock, "END_LISTED", facts)))
        return tally

    def cut_inactive(self, subjects: Sequence[str], terms: Terms) -> Tally:
        """Refuse and end everything of subjects that are not active, for as long as that lasts."""
        facts = self._facts(terms) | {"subjects": list(subjects)}
        return self._cut(facts, ("LISTED_SUBJECTS", "CUT_INACTIVE", "END_SUBJECTS", "WOULD_CUT"))

    def cut_changed(self, changes: Mapping[str, datetime], terms: Terms) -> Tally:
        """Refuse legacy tokens issued before a subject's time; end sessions that began before."""
        facts = self._facts(terms) | {
            "subjects": list(changes),
            "changes": list(changes.values()),
            "skew": terms.skew,
            "lifetimes": Jsonb(dict(terms.lifetimes)),
        }
        return self._cut(facts, ("LISTED_CHANGED", "CUT_CHANGED", "END_CHANGED", "WOULD_CHANGE"))

    def held_inactive(self, after: str, room: int, terms: Terms) -> list[str]:
        """Subjects that this ledger holds to be inactive, after a name and at most so many."""
        facts = self._facts(terms) | {"after": after, "room": room}
        return [row[0] for row in self._run(("HELD_INACTIVE", facts))[0]]

    def lift(self, subjects: Sequence[str], terms: Terms) -> Tally:
        """Let subjects in again that are active again; what was ended stays ended."""
        if self._rehearses or not subjects:
            return Tally(lifted=len(subjects))
        facts = self._facts(terms) | {"subjects": list(subjects)}
        return _tally(self._synchronously("LIFT", facts))

    def living_tokens(self, issuer: str, after: bytes, room: int) -> list[Row]:
        """Legacy tokens of an issuer that became sessions which live, in their own order."""
        facts = {"issuer": issuer, "after": after, "room": room}
        return self._run(("LIVING_TOKENS", facts))[0]

    def close(self) -> None:
        """Let go of the connection."""
        self._driver.close()

    def _cut(self, facts: dict[str, Any], names: tuple[str, str, str, str]) -> Tally:
        listed, cut, end, would = names
        if not facts["subjects"]:
            return Tally()
        if self._rehearses:
            return _tally(self._run((would, facts))[0])
        told = self._commit(listed, cut, facts)
        tally = _tally(told)
        for what, subject, _ in told:
            if what == "subject":
                lock = subject_lock(facts["realm"], subject)
                tally.add(_tally(self._sweep(lock, end, _only(subject, facts))))
        return tally

    def _commit(self, listed: str, act: str, facts: dict[str, Any]) -> list[Row]:
        self._bury(row[1] for row in self._run((listed, facts))[0])
        told = self._synchronously(act, facts)
        self._settle(told)
        return told

    def _synchronously(self, name: str, facts: Mapping[str, Any]) -> list[Row]:
        steps = ((q.BEGIN, None), (q.SYNCHRONOUS, None), (self._sql[name], facts))
        return run(self._driver.run(*steps, (q.COMMIT, None)))[2]

    def _sweep(self, lock: int, name: str, facts: Mapping[str, Any]) -> list[Row]:
        rows = run(swept(self._driver, lock, (self._sql[name], facts)))
        self._settle(rows)
        return rows

    def _bury(self, digests: Iterable[bytes | None]) -> None:
        found = [bytes(digest) for digest in digests if digest]
        if found:
            run(self._cache.bury(found))

    def _settle(self, told: Sequence[Row]) -> None:
        digests = [row[2] for row in told if row[2]]
        self._bury(digests)
        if told:  # only ever wakes the others' poll of the feed, which says what happened
            hints = [("session", bytes(digest).hex()) for digest in digests]
            run(self._cache.hint(hints or [("legacy", "")]))

    def _run(self, *steps: tuple[str, Mapping[str, Any]]) -> list[list[Row]]:
        return run(self._driver.run(*((self._sql[name], facts) for name, facts in steps)))

    @staticmethod
    def _facts(terms: Terms) -> dict[str, Any]:
        return {
            "by": terms.by,
            "realm": terms.realm,
            "issuer": terms.issuer,
            "reason": REASON,
            "is_sliding": terms.is_sliding,
            "whole_family": terms.whole_family,
        }


class NotDue(Exception):
    """A ledger's turn has not come, or another node is having it; `seconds` until it is due."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        super().__init__(f"due in {seconds:.1f} s")


def _columns(items: Sequence[Item]) -> dict[str, Any]:
    return {
        "jtis": [item.jti for item in items],
        "fingerprints": [item.fingerprint for item in items],
        "families": [item.family for item in items],
        "untils": [item.until for item in items],
        "ids": [_as_id(item.jti) for item in items],
    }


def _as_id(jti: str | None) -> UUID | None:
    if jti is not None and len(jti) in _UUID_CHARS:
        with suppress(ValueError):
            return UUID(jti)
    return None


def _locks(issuer: str, told: Sequence[Row]) -> list[int]:
    """What the swaps of newly denied tokens share; few for few, and the issuer's for many.

    A token that only its fingerprint names has no lock of its own.
    """
    named = [(what, name) for what, name, _ in told if what != "ended"]
    jtis = [jti_lock(issuer, name) for what, name in named if what == "jti"]
    families = [family_lock(issuer, name) for what, name in named if what == "family"]
    bare = sum(what == "fingerprint" for what, _ in named) > len(jtis)
    if bare or len(jtis) + len(families) > _MOST_LOCKS:
        return [issuer_lock(issuer)]
    return [*jtis, *families]


def _only(subject: str, facts: Mapping[str, Any]) -> dict[str, Any]:
    at = facts["subjects"].index(subject)
    changes = {"changes": [facts["changes"][at]]} if "changes" in facts else {}
    return {**facts, "subjects": [subject], **changes}


def _tally(told: Sequence[Row]) -> Tally:
    counts = Counter(row[0] for row in told)
    by_name = max(counts["jti"], counts["fingerprint"])  # a token is denied by both
    return Tally(
        denied=by_name + counts["family"] + counts["subject"] + counts["denied"],
        ended=counts["ended"],
        lifted=counts["lifted"],
    )
