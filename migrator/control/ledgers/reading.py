"""What all ledgers have in common: how far a reading came, in pages, and how a source fails.

A ledger is read along an order of its own. With a cursor (what a revocation sets) a reading begins
where one of a minute ago ended: a row may be committed after rows that come later in that order.
Without one, or when the end moved back, it begins at the beginning. A reading that is longer than
one turn goes on in the next.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, Final, Protocol, TypeAlias
from uuid import UUID

from migrator.core import facts
from migrator.core.facts import LATEST
from migrator.settings import Issuer, Ledger, Settings
from migrator.stores.ledgers import Item, Ledgers, Tally, Terms

ROOM: Final = 1000
# In one turn; what is longer takes several, and `doctor` says so.
MOST_ROWS: Final = 50_000
OVERLAP: Final = timedelta(seconds=60)
# Everything again so often, where one turn is enough for it: for rows that no cursor brings.
ALL_AGAIN: Final = timedelta(hours=1)

Checkpoint: TypeAlias = Mapping[str, Any]
Place: TypeAlias = tuple[Any, ...]


class SourceFailed(Exception):
    """A ledger could not be read; `why` never quotes what it holds or where it is."""

    def __init__(self, why: str) -> None:
        self.why = why
        super().__init__(why)


@dataclass(frozen=True, slots=True)
class Step:
    """A part of a turn that is done: where the next begins, and what came of it."""

    checkpoint: Checkpoint
    tally: Tally


Steps: TypeAlias = Generator[Step, None, None]


class Source(Protocol):
    """One ledger, as it is read in a node."""

    def turn(self, ledgers: Ledgers, checkpoint: Checkpoint, now: datetime) -> Steps:
        """Read on from a checkpoint and write what is said, step by step.

        Raises:
            SourceFailed: it could not be read.
            Unavailable: ours could not be written.
        """
        ...

    def check(self) -> str:
        """Read a little and write nothing: what was found, in words.

        Raises:
            SourceFailed: it could not be read.
        """
        ...

    def close(self) -> None:
        """Let go of the connection."""
        ...


def terms_of(settings: Settings, ledger: Ledger) -> Terms:
    """Whom a ledger is about, from the settings."""
    by = f"ledger:{ledger.name}"
    if ledger.kind == "users":
        return terms_of_realm(settings, ledger.realm or "", by=by)
    issuer = issuer_of(settings, ledger)
    return Terms(
        by=by,
        realm=issuer.realm,
        issuer=issuer.id,
        is_sliding=is_sliding(issuer),
        whole_family=ledger.ends == "family",
    )


def terms_of_realm(settings: Settings, realm: str, *, by: str) -> Terms:
    """Whom a table of users is about: everybody of a realm, whoever issued their tokens."""
    theirs = [issuer for issuer in settings.issuers if issuer.realm == realm]
    lifetimes = {
        f"{issuer.id}:{purpose}": lifetime.total_seconds()
        for issuer in theirs
        for purpose, lifetime in (
            ("access", issuer.lifetime),
            ("refresh", issuer.refresh_lifetime),
        )
        if lifetime is not None
    }
    skew = max((issuer.skew for issuer in theirs), default=timedelta(0))
    return Terms(by=by, realm=realm, skew=skew, lifetimes=lifetimes)


def longest_of_realm(settings: Settings, realm: str) -> timedelta | None:
    """How long any token of a realm, or a session, can live after a change; None: not known."""
    lives = [longest(issuer) for issuer in settings.issuers if issuer.realm == realm]
    known = [each for each in lives if each is not None]
    if len(known) < len(lives):
        return None
    return max([*known, settings.sessions.absolute])


def issuer_of(settings: Settings, ledger: Ledger) -> Issuer:
    """The issuer whose tokens a ledger lists; the settings were checked."""
    return next(issuer for issuer in settings.issuers if issuer.id == ledger.issuer)


def is_sliding(issuer: Issuer) -> bool:
    """Whether its tokens may be re-issued under their jti, which then outlives each of them."""
    return not issuer.purpose.refresh or "sliding" in str(issuer.purpose.require)


def longest(issuer: Issuer) -> timedelta | None:
    """How long a token of an issuer can live; None where the settings do not say."""
    if issuer.lifetime is None or issuer.refresh_lifetime is None:
        return None
    return max(issuer.lifetime, issuer.refresh_lifetime)


def until(exp: datetime | None, issuer: Issuer) -> datetime | None:
    """From when on a token that ends at `exp` needs no denial."""
    return None if exp is None else facts.later(exp, issuer.leeway + issuer.skew)


class Twice:
    """What was read twice of late and need not be written again.

    Twice, since the second writing ends what a swap that was under way at the first one opened.
    Forgotten every ten minutes: a row of ours may have been taken away by hand.
    """

    _MOST: Final = 200_000
    _FOR: Final = timedelta(minutes=10)

    def __init__(self) -> None:
        self._seen: dict[object, bool] = {}
        self._since: datetime | None = None

    def begin(self, now: datetime) -> None:
        """A turn begins."""
        is_old = self._since is None or now - self._since > self._FOR
        if is_old or len(self._seen) > self._MOST:
            self._seen.clear()
            self._since = now

    def unseen(self, keys: Sequence[object]) -> list[int]:
        """Which of them, by place, are to be written."""
        return [at for at, key in enumerate(keys) if not self._seen.get(key, False)]

    def wrote(self, keys: Sequence[object]) -> None:
        """Note that they were written."""
        for key in keys:
            self._seen[key] = key in self._seen


@dataclass(slots=True)
class Walk:
    """How far a ledger was read along its order, as its checkpoint keeps it.

    Args:
        after: where the reading goes on; None: it begins.
        marks: [when, where] its ends were, for a cursor; the newest last.
        all_at: when everything was last begun to be read.
        rows: how many that were.
    """

    after: Place | None = None
    marks: list[tuple[datetime, Place]] | None = None
    all_at: datetime | None = None
    rows: int = 0

    @classmethod
    def of(cls, checkpoint: Checkpoint) -> Walk:
        """From a checkpoint."""
        marks = [(_read(at), tuple(map(_read, to))) for at, to in checkpoint.get("marks", ())]
        after = checkpoint.get("after")
        return cls(
            after=None if after is None else tuple(map(_read, after)),
            marks=marks,
            all_at=_read(checkpoint["all_at"]) if checkpoint.get("all_at") else None,
            rows=int(checkpoint.get("rows", 0)),
        )

    def kept(self) -> dict[str, Any]:
        """For a checkpoint."""
        return {
            "after": None if self.after is None else [_said(each) for each in self.after],
            "marks": [[_said(at), [_said(each) for each in to]] for at, to in self.marks or ()],
            "all_at": None if self.all_at is None else _said(self.all_at),
            "rows": self.rows,
        }

    def begins(self, now: datetime, last: Place | None, *, has_cursor: bool) -> Place | None:
        """Where a turn begins: where the last one stopped short, else by cursor or at the start.

        Args:
            last: the ledger's end now, by its cursor alone; None: it is empty.
        """
        if self.after is not None:
            return self.after
        marks = [mark for mark in self.marks or () if has_cursor]
        moved_back = bool(marks) and (last is None or last < marks[-1][1][:1])
        is_stale = self.all_at is None or (
            now - self.all_at > ALL_AGAIN and self.rows <= MOST_ROWS
        )
        if not marks or moved_back or is_stale:
            self.marks, self.all_at, self.rows = [], now, 0
            return None
        # Before the first mark is old enough, everything again: a row may be committed late.
        return next((where for at, where in reversed(marks) if now - at >= OVERLAP), None)

    def ended(self, now: datetime, at: Place | None, *, has_cursor: bool) -> None:
        """The end was reached, at `at`."""
        self.after = None
        if not has_cursor or at is None:
            return
        marks = [*(self.marks or ()), (now, at)]
        old = [mark for mark in marks if now - mark[0] >= OVERLAP]
        self.marks = [*old[-1:], *(mark for mark in marks if now - mark[0] < OVERLAP)]


def denying(
    pages: Iterator[tuple[list[Item], Checkpoint, int]],
    ledgers: Ledgers,
    terms: Terms,
    twice: Twice,
) -> Iterator[Step]:
    """Deny what pages name, but for what was denied twice of late."""
    for items, checkpoint, read in pages:
        keys = [(item.jti, item.fingerprint, item.family) for item in items]
        fresh = twice.unseen(keys)
        tally = ledgers.deny([items[at] for at in fresh], terms)
        twice.wrote([keys[at] for at in fresh])
        tally.read = read
        yield Step(checkpoint, tally)


# ---- values as ledgers have them ---------------------------------------------------------------


def as_text(value: object) -> str | None:
    """A jti, family or subject as a row of ours can hold it; None: it names nothing."""
    if isinstance(value, bytes | memoryview):
        value = bytes(value).decode("utf-8", "replace")
    if isinstance(value, int | UUID | Decimal) and not isinstance(value, bool):
        value = str(value)
    return facts.text(value)


def as_digest(value: object) -> bytes | None:
    """A fingerprint: 32 bytes, or their hex or base64; None: it is none."""
    if isinstance(value, bytes | memoryview) and len(bytes(value)) == _DIGEST_BYTES:
        return bytes(value)
    if not isinstance(value, str):
        return None
    try:
        if len(value) == 2 * _DIGEST_BYTES:
            return bytes.fromhex(value)
        found = base64.b64decode(value.rstrip("=").translate(_URL_SAFE) + "=", validate=True)
    except (ValueError, binascii.Error):
        return None
    return found if len(found) == _DIGEST_BYTES else None


_DIGEST_BYTES: Final = 32
_URL_SAFE: Final = str.maketrans("-_", "+/")


def as_time(value: object) -> datetime | None:
    """A time: a time stamp, seconds since 1970, or ISO 8601; without a zone it is UTC."""
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value)
        except ValueError:
            return None
    if isinstance(value, Decimal):
        value = float(value)
    if not isinstance(value, datetime):
        seconds = facts.seconds(value)
        return None if seconds is None else facts.moment(seconds)
    aware = value if value.tzinfo else value.replace(tzinfo=UTC)
    return min(aware, LATEST)


# A checkpoint is JSON, and a cursor is of whatever type its column has.
def _said(value: object) -> list[str]:
    match value:
        case datetime():
            return ["at" if value.tzinfo else "local", value.isoformat()]
        case bool() | int():
            return ["int", str(int(value))]
        case float():
            return ["float", repr(value)]
        case Decimal():
            return ["decimal", str(value)]
        case UUID():
            return ["uuid", str(value)]
        case bytes() | memoryview():
            return ["bytes", bytes(value).hex()]
        case _:
            return ["text", str(value)]


def _read(said: Sequence[str]) -> Any:
    kind, text = said
    return _READ[kind](text)


_READ: Final[Mapping[str, Any]] = {
    "at": datetime.fromisoformat,
    "local": datetime.fromisoformat,
    "int": int,
    "float": float,
    "decimal": Decimal,
    "uuid": UUID,
    "bytes": bytes.fromhex,
    "text": str,
}
