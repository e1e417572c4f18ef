"""How one credential is judged: memory, then cache, then store; and remembered.

Written once for both colours. The flow is a coroutine: over a blocking store it completes without
ever suspending, so a blocking gate runs it with one `send(None)` and an async one awaits it. It
decides nothing about requests (gate.py), tokens (tokens.py), lifetimes (sessions.py) or phases
(phases.py); it asks each of them in order.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from migrator.core import tokens
from migrator.core.errors import Unavailable
from migrator.core.interfaces import Found
from migrator.core.openings import Openings
from migrator.core.phases import bucket_of
from migrator.core.recent import LIFE_NS, SECOND_NS, Entry
from migrator.core.seen import IpShare, kept_ip
from migrator.core.sessions import FAR, Limits, Session, idle_end, judge
from migrator.core.sharing import Alone
from migrator.core.verdicts import (
    Admitted,
    Principal,
    Reason,
    Refused,
)

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine
    from datetime import datetime
    from uuid import UUID

    from migrator.core.claims import Claims
    from migrator.core.clock import DatabaseClock
    from migrator.core.interfaces import Cache, Store, Tombstone
    from migrator.core.legacy import Verifier
    from migrator.core.phases import Rollout
    from migrator.core.recent import Mark, Recent
    from migrator.core.sharing import Flights
    from migrator.core.usage import Usage

_T = TypeVar("_T")

# How late the pulse may write last-seen; idle ends are judged with it, so never early.
SEEN_GRAIN = timedelta(seconds=90)
CACHE_LIFE = timedelta(microseconds=LIFE_NS // 1000)


@dataclass(frozen=True, slots=True)
class SubjectState:
    """What an app says of a subject right now, through its `resolve_subject` hook.

    Args:
        active: whether it may come in at all.
        scopes: what it may do now; None leaves what the credential says.
    """

    active: bool
    scopes: frozenset[str] | None = None


@dataclass(frozen=True, slots=True)
class SwapKey:
    """A key that tokens of swapped sessions are derived with."""

    id: str
    secret: bytes

    def __repr__(self) -> str:
        return f"SwapKey({self.id!r})"


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """The settings the flow needs, in its own types."""

    session_prefix: str
    api_prefix: str
    swap_keys: tuple[SwapKey, ...]
    min_remaining: timedelta
    limits: Limits
    refuses_foreign: bool = False
    per_subject: int | None = None
    rolling_by_realm: dict[str, timedelta] | None = None
    login_realm: str = "users"
    store_ip: IpShare = "full"
    denies_with: int = 401
    strict: bool = False
    swaps_per_minute: int = 0

    def keep_ip(self, ip: str | None) -> str | None:
        """What is kept of a client's address."""
        return kept_ip(ip, self.store_ip)


class Node:
    """What all of one process has in common: what it remembers, counts and knows.

    `rollout` is None until it was read once, and then the pulse's to keep: an outage keeps the
    last phase. `heard_until` is the tick up to which the pulse vouches for it, within the lease;
    past that nobody waits for this node any more, so it asks before it acts (`is_deaf`).
    """

    __slots__ = (
        "clock",
        "heard_until",
        "id",
        "openings",
        "recent",
        "rollout",
        "sleep",
        "usage",
        "wake",
    )

    def __init__(self, *, recent: Recent, usage: Usage, clock: DatabaseClock) -> None:
        self.recent = recent
        self.usage = usage
        self.clock = clock
        self.openings = Openings(clock.ticks)
        self.rollout: Rollout | None = None
        self.id: str | None = None
        self.heard_until: int | None = None
        self.wake: Callable[[], None] = _without_pulse
        self.sleep: Callable[[], None] = _without_pulse

    def follow(self, rollout: Rollout, now: datetime) -> None:
        """Act under `rollout` as it stands at `now`, and make stale what was judged otherwise."""
        before, after = self.rollout, rollout.at(now)
        if before == after:
            return
        # The rollout first, the stamp after it: a verdict judged before carries the old stamp, and
        # is stale before it lands.
        self.rollout = after
        if before is None or (before.epoch, before.open) != (after.epoch, after.open):
            self.recent.distrust_legacy()

    def is_deaf(self) -> bool:
        """Whether its pulse fell silent for so long that moves are made without it."""
        return self.heard_until is not None and self.clock.ticks() > self.heard_until

    def turn(self) -> None:
        """Open and close windows by the clock alone, as it was last learned: no feed is needed."""
        if self.rollout is not None and self.clock.is_set:
            self.follow(self.rollout, self.clock.now())


def _without_pulse() -> None:
    """Nothing to start or stop: this process has no pulse."""


def run(flow: Coroutine[object, None, _T]) -> _T:
    """The result of a coroutine that never suspends.

    Raises:
        RuntimeError: it did; a blocking gate was given something that has to be awaited.
    """
    try:
        flow.send(None)
    except StopIteration as done:
        result: _T = done.value
        return result
    flow.close()
    raise RuntimeError("a blocking gate was given a store or hook that suspends")


class Flow:
    """What both gates and both `Sessions` share: the parts, and how a credential is judged."""

    def __init__(
        self,
        *,
        terms: Terms,
        verifier: Verifier,
        store: Store,
        cache: Cache,
        node: Node,
        new_id: Callable[[], UUID],
        secret: Callable[[], bytes],
        resolve: Callable[[str, str], Awaitable[SubjectState | None]] | None = None,
        flights: Flights | None = None,
    ) -> None:
        self.terms = terms
        self.verifier = verifier
        self.store = store
        self.cache = cache
        self.node = node
        self.recent = node.recent
        self.usage = node.usage
        self.clock = node.clock
        self.new_id = new_id
        self.secret = secret
        self.resolve = resolve
        self.flights = Alone() if flights is None else flights
        self._keys = {key.id: key.secret for key in terms.swap_keys}
        self._ours = (tokens.prefixed(terms.session_prefix), tokens.prefixed(terms.api_prefix))

    # What is known without asking.

    async def where(self) -> Rollout:
        """Where everybody stands; the pulse keeps it fresh, and an outage keeps the last phase."""
        self.node.wake()
        if self.node.is_deaf() and self.node.rollout is not None:
            await self._ask_where()
        rollout = self.node.rollout or await self._learn_where()
        # Memory may be a poll behind a window's edge; whoever asks anew never is.
        return rollout.at(await self.now()) if rollout.brownouts else rollout

    async def _learn_where(self) -> Rollout:
        await self.flights.share(_WHERE, self._read_where, lambda: self.node.rollout)
        rollout = self.node.rollout
        assert rollout is not None  # whoever was waited for has set it
        return rollout

    async def _read_where(self) -> None:
        self.node.rollout = await self.store.rollout()

    async def _ask_where(self) -> None:
        node = self.node
        try:
            rollout = await self.store.rollout(deaf=node.id)
        except Unavailable:
            node.heard_until = node.clock.ticks() + _ASK_AGAIN_NS
        else:
            node.follow(rollout, await self.now())

    async def now(self) -> datetime:
        """The database's time."""
        self.node.wake()
        if not self.clock.is_set:
            await self.flights.share(_NOW, self._set_clock, lambda: self.clock.is_set or None)
        return self.clock.now()

    async def _set_clock(self) -> None:
        self.clock.learn(await self.store.now())

    def is_ours(self, credential: bytes) -> bool:
        """By our reserved prefix alone, never by dots or length."""
        return credential.startswith(self._ours)

    def well_formed(self, token: bytes) -> bool:
        """Whether it could be one of ours, by length, alphabet and checksum."""
        return tokens.is_well_formed(token, self.terms.session_prefix) or tokens.is_well_formed(
            token, self.terms.api_prefix
        )

    # Judging a session token.

    async def judge_session(self, token: bytes, *, strict: bool = False) -> Admitted | Refused:
        """Whether a token of ours names a living session; `strict`: by the store alone."""
        strict = strict or self.terms.strict
        remembered = None if strict else self.recent.peek(token, _NOBODY)
        if remembered is not None:
            return remembered
        if not self.well_formed(token):
            return self.refuse(Reason.BAD_TOKEN)
        mark = self.recent.mark()
        digest = tokens.digest(token)
        if strict:
            return await self._judged(await self._ask_store(digest), mark)
        shared = await self.flights.share(
            ("session", digest),
            partial(self._asked, digest, mark),
            partial(self.recent.peek, token, _NOBODY),
        )
        if isinstance(shared, Admitted):
            return shared
        (found, verdict), is_own = shared
        return verdict if is_own else await self._judged(found, mark)

    async def _asked(self, digest: bytes, mark: Mark) -> tuple[Found | None, Admitted | Refused]:
        found = await self.find(digest)
        return found, await self._judged(found, mark)

    async def _judged(self, found: Found | None, mark: Mark) -> Admitted | Refused:
        if found is None:
            return self.refuse(Reason.UNKNOWN_TOKEN)
        verdict = await self._judge_found(found)
        if isinstance(verdict, Admitted):
            self._remember_session(found, verdict, mark)
        return verdict

    async def find(self, digest: bytes) -> Found | None:
        """The session under `digest`: the cache's where that may be believed, else the store's."""
        now = await self.now()
        cached = await self.cache.get(digest)
        believed = self._believed(cached, now)
        if believed is not None and self.recent.informed():
            return believed
        try:
            found = await self._ask_store(digest)
        except Unavailable:
            if believed is None:
                raise
            return believed
        if found is not None and cached is None and found.session.revoked_at is None:
            await self.cache.fill(found)
        return found

    async def _ask_store(self, digest: bytes) -> Found | None:
        """What the store alone says. Whoever is strict asks here, and shares nobody's answer."""
        found = await self.store.find(digest)
        if found is not None:
            self.clock.learn(found.read_at)
        return found

    def _believed(self, cached: Found | Tombstone | None, now: datetime) -> Found | None:
        if not isinstance(cached, Found) or now - cached.read_at >= CACHE_LIFE:
            return None
        session = cached.session
        if self.over(session, now) is not None:
            return None  # a cache may admit; whether a session is over is the store's to say
        about = ("subject", session.realm, session.subject)
        return None if self.recent.suspect(cached.digest, about) else cached

    def over(self, session: Session, now: datetime) -> Reason | None:
        """Why a session is over at `now`, or None while it lives."""
        return judge(session, now=now, idle=self.terms.limits.idle, grain=SEEN_GRAIN)

    async def _judge_found(self, found: Found) -> Admitted | Refused:
        session = found.session
        reason = self.over(session, await self.now())
        if reason is not None:
            return self.refuse(reason, client=session.client)
        return await self.as_principal(principal_of(session, session.scopes))

    async def as_principal(self, principal: Principal) -> Admitted | Refused:
        """Admit `principal`, as far as the app's own hook lets it."""
        if self.resolve is None:
            return Admitted(principal)
        state = await self.resolve(principal.subject, principal.realm)
        if state is None or not state.active:
            return self.refuse(Reason.INACTIVE_SUBJECT, client=principal.client)
        if state.scopes is None:
            return Admitted(principal)
        return Admitted(replace(principal, scopes=state.scopes))

    def _remember_session(self, found: Found, verdict: Admitted, mark: Mark) -> None:
        session = found.session
        over = min(
            found.read_at + CACHE_LIFE,
            session.expires_at or FAR,
            idle_end(session, idle=self.terms.limits.idle, grain=SEEN_GRAIN),
        )
        tally = self.usage.tally(None, session.client, "session")
        tally.bump()
        entry = Entry(
            verdict,
            until=self.clock.ticks_at(over),
            tally=tally,
            about=(found.digest, ("subject", session.realm, session.subject)),
        )
        self.recent.fill(found.digest, entry, mark)

    def refuse(
        self, reason: Reason, issuer: str | None = None, client: str | None = None
    ) -> Refused:
        """The refusal for `reason`, counted."""
        self.usage.count(issuer, client, f"refused:{reason}")
        return Refused(reason)

    def refuse_retired(self, claims: Claims, client: str | None, rollout: Rollout) -> Refused:
        """The refusal of a legacy token that holds, where none is taken any more: seen by name."""
        bucket = bucket_of(claims.subject, claims.realm)
        hit = rollout.brownout_of(issuer=claims.issuer, client=client, bucket=bucket)
        self.usage.saw(claims, client, brownout=None if hit is None else hit.id)
        return self.refuse(Reason.LEGACY_RETIRED, claims.issuer, client)


def principal_of(session: Session, scopes: frozenset[str]) -> Principal:
    """Who comes in by the token of `session`."""
    return Principal(
        subject=session.subject,
        realm=session.realm,
        scopes=scopes,
        claims=session.claims,
        client=session.client,
        via="session",
        session=session,
    )


_NOBODY: frozenset[str] = frozenset()
# What many may want to know at once, besides the sessions themselves.
_WHERE = ("where", b"")
_NOW = ("now", b"")
# A deaf node that cannot ask keeps its last phase; not every request has to find that out.
_ASK_AGAIN_NS = SECOND_NS
