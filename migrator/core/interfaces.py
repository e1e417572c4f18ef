"""What the gate needs from the outside, in its own words. Implementations live in `stores/`.

Every method is a coroutine function in both colours: a blocking driver's coroutines complete
without ever suspending, which is what lets the gate be written once (see `gate.py`). `blocks`
says which colour an implementation is.

Not found is not an error: it is None, or a `Standing` that says so. `Unavailable` means that the
store could not be asked.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence
    from datetime import datetime
    from uuid import UUID

    from migrator.core.claims import Claims
    from migrator.core.phases import Rollout
    from migrator.core.sessions import Session


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """A session as a store knew it at `read_at` by the database's clock."""

    digest: bytes
    session: Session
    read_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Ticket:
    """What a swap would insert, were it the first: a session and its derived token's digest."""

    session: Session
    digest: bytes
    swap_key_id: str
    percent_bucket: int


Bar: TypeAlias = Literal["denied", "cut_off"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """How a legacy token stands, read under the locks of its swap.

    Args:
        bar: a denial or cutoff that names it.
        known: it was seen before, so its row decides, whatever could be derived from it.
        session: the one it became; None if it has none yet, or if its row outlived the session.
        digest: of that session's token, None while none exists.
        swap_key_id: the key that digest was derived with; None when it was not derived.
        adopted: the client has presented that token.
    """

    read_at: datetime
    bar: Bar | None = None
    known: bool = False
    session: Session | None = None
    digest: bytes | None = None
    swap_key_id: str | None = None
    adopted: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """What an ending ended: the sessions' ids and those of their digests that exist."""

    ids: tuple[UUID, ...] = ()
    digests: tuple[bytes, ...] = ()


class Store(Protocol):
    """The truth: Postgres, or the shipped memory store."""

    blocks: bool

    async def rollout(self, *, deaf: str | None = None) -> Rollout:
        """Where everybody stands.

        Args:
            deaf: the node that asks because its pulse is silent; kept on record, best effort.
        """
        ...

    async def now(self) -> datetime:
        """The clock that decides."""
        ...

    async def find(self, digest: bytes) -> Found | None:
        """The session whose token has `digest`, ended or not."""
        ...

    async def check(self, claims: Claims) -> Standing:
        """How a legacy token stands, changing nothing."""
        ...

    async def swap(self, claims: Claims, ticket: Ticket) -> Standing:
        """How a legacy token stands once it has a session: one for each fingerprint, for ever."""
        ...

    async def create(
        self,
        session: Session,
        digest: bytes,
        *,
        cap: int | None,
        legacy: bool = True,
        instead_of: Sequence[Claims] = (),
    ) -> Ended:
        """Insert a session begun by a login; beyond `cap` end the oldest, never swapped ones.

        Args:
            cap: families that a subject may have: what came from one login counts once.
            legacy: as in `end`.
            instead_of: legacy tokens that its client never got: what names them names the session.
        """
        ...

    async def extend(self, session_id: UUID, expires_at: datetime) -> None:
        """Move the end of a living session to `expires_at`, never to earlier."""
        ...

    async def renew(
        self,
        session: Session,
        claims: Mapping[str, object],
        scopes: Collection[str] | None = None,
        *,
        instead_of: Sequence[Claims] = (),
    ) -> None:
        """Replace the claims that a living session echoes, and its scopes unless None.

        Args:
            instead_of: as in `create`; the earlier ones of a refresh are forgotten in an hour.
        """
        ...

    async def end(self, session_id: UUID, *, reason: str, by: str, legacy: bool) -> Ended:
        """End a session with its family, and deny what may still come of that family.

        Args:
            legacy: whether the legacy tables exist; they are gone once retired.
        """
        ...

    async def deny(self, claims: Claims, *, reason: str, by: str) -> Ended:
        """Deny a legacy token and its family, ending what it became."""
        ...

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
        """Cut a subject off: end its sessions, refuse its legacy tokens never seen before."""
        ...

    async def digests_of(self, subject: str, *, realm: str) -> Sequence[bytes]:
        """The digests of the subject's living sessions, to bury before they are ended."""
        ...

    async def family_of(self, session_id: UUID, *, legacy: bool) -> Sequence[Found]:
        """The session and those of its family, alive or not; the named one first."""
        ...

    async def list(self, subject: str, *, realm: str, ended: bool = False) -> Sequence[Session]:
        """The subject's sessions, newest first; with `ended`, those that are over as well."""
        ...


@dataclass(frozen=True, slots=True)
class Tombstone:
    """A cached value that says: ask the store."""


TOMBSTONE = Tombstone()


class Cache(Protocol):
    """What stands before the store. Never the truth: it may lose anything, silently."""

    blocks: bool

    async def get(self, digest: bytes) -> Found | Tombstone | None:
        """What is cached under `digest`; None also when the cache could not be asked."""
        ...

    async def fill(self, found: Found) -> None:
        """Keep `found` unless something is there, until its read time plus the entry's life."""
        ...

    async def bury(self, digests: Sequence[bytes]) -> None:
        """Put a tombstone over each digest."""
        ...

    async def hint(self, kinds: Sequence[tuple[str, str]]) -> None:
        """Tell others sooner what the feed will tell them anyway. Losing it costs nothing."""
        ...
