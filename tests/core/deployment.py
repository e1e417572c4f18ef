"""A deployment without a server: the real flows over the shipped memory store, under one clock."""

from __future__ import annotations

import itertools
import uuid
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from migrator.core import tokens
from migrator.core.app import Sessions
from migrator.core.bridge import Minter, Shape, Signer, Style
from migrator.core.bridging import BlockingBridge
from migrator.core.claims import Claims, Purpose
from migrator.core.clock import DatabaseClock
from migrator.core.errors import Unavailable
from migrator.core.flow import Node, SubjectState, SwapKey, Terms, run
from migrator.core.gate import Gate
from migrator.core.issuing import Issued
from migrator.core.legacy import ClaimNames, Issuer, Verifier
from migrator.core.phases import Phase, Rollout
from migrator.core.presented import Credential, Outcome, Place, Presented
from migrator.core.recent import FOREVER, Recent
from migrator.core.sessions import Limits, Session
from migrator.core.usage import Usage
from migrator.core.verdicts import Admitted, Passed, Verdict
from migrator.stores.memory import MemoryCache, MemoryStore
from tests.core.signers import NOW, NOW_S, SECRET, SIGNERS, claims, verifier

HS = SIGNERS["HS256"]
HOUR, DAY = timedelta(hours=1), timedelta(days=1)
DECIDING = [phase for phase in Phase if phase is not Phase.OBSERVE]
ISSUERS = frozenset({"a1"})
ISSUER = HS.issuer(
    claims=ClaimNames(client="azp", scopes="scope", family="sid", keep=("name",)),
    require={"token_type": [None, "access"]},
    refresh={"token_type": "refresh"},
)
ROTATING = replace(ISSUER, rotates_refresh=True)
KEY = SwapKey("k1", bytes(range(32)))
TERMS = Terms(
    session_prefix="sess",
    api_prefix="pat",
    swap_keys=(KEY,),
    min_remaining=timedelta(minutes=10),
    limits=Limits(idle=DAY, absolute=90 * DAY),
)
_QUESTIONS = frozenset(
    {"rollout", "now", "find", "check", "swap", "create", "extend", "renew", "end", "deny"}
    | {"end_subject", "digests_of", "family_of", "list"}
)

Resolver = Callable[[str, str], Awaitable[SubjectState | None]]


class Store(MemoryStore):
    """The shipped store; it keeps what it was asked, and can be away."""

    def __init__(self, clock: Callable[[], datetime]) -> None:
        super().__init__(clock)
        self.asked: list[str] = []
        self.away: frozenset[str] = frozenset()

    def __getattribute__(self, name: str) -> Any:
        found = super().__getattribute__(name)
        if name in _QUESTIONS:
            self.asked.append(name)
            if name in self.away:
                raise Unavailable("Postgres", name)
        return found

    def go_away(self, *questions: str) -> None:
        """Answer none of these any more; by default none at all."""
        self.away = frozenset(questions) or _QUESTIONS


class Deployment:
    """One process: a gate, the app's `Sessions` and a bridge that share a node."""

    def __init__(
        self,
        phase: Phase = Phase.DRAIN,
        *issuers: Issuer,
        resolve: Resolver | None = None,
        verifier_: Verifier | None = None,
        **terms: Any,
    ) -> None:
        self.now = NOW
        self.store = Store(lambda: self.now)
        self.cache = MemoryCache(lambda: self.now)
        self.usage = Usage()
        self.recent = Recent(100, self.ticks)
        self.recent.trusted_until = self.recent.informed_until = FOREVER
        self.node = Node(recent=self.recent, usage=self.usage, clock=DatabaseClock(self.ticks))
        self._secrets = itertools.count(1)
        parts: dict[str, Any] = {
            "terms": replace(TERMS, **terms),
            "verifier": verifier_ or verifier(*(issuers or (ISSUER,))),
            "store": self.store,
            "cache": self.cache,
            "node": self.node,
            "new_id": uuid.uuid4,
            "secret": lambda: next(self._secrets).to_bytes(32, "big"),
            "resolve": resolve,
        }
        self.parts = parts
        self.gate = Gate(**parts)
        self.sessions = Sessions(**parts)
        self.bridge = BlockingBridge(**parts)
        self.bridge.minter = Minter(SHAPE)
        self.rollout = Rollout(phase=phase, epoch=2, percent=100, since=NOW - DAY)
        self.move(phase)

    def ticks(self) -> int:
        """Local nanoseconds: they go with the clock."""
        return 10**15 + (self.now - NOW) // timedelta(microseconds=1) * 1000

    def later(self, by: timedelta) -> None:
        """Let time pass."""
        self.now += by

    def move(self, phase: Phase, **changes: Any) -> None:
        """Put the rollout there, as a feed that was heard at once."""
        self.rollout = replace(self.rollout, phase=phase, epoch=self.rollout.epoch + 1, **changes)
        self.store.set_rollout(self.rollout)
        self.node.follow(self.rollout, self.now)

    def forget(self) -> None:
        """Lose memory, as another process would never have had it."""
        self.recent.evict_all()
        self.later(timedelta(minutes=3))
        self.recent.trusted_until = self.recent.informed_until = FOREVER

    # Presenting.

    def admit(self, value: bytes | None = None, place: Place = "header", **more: Any) -> Outcome:
        """What a request with this credential is answered."""
        return self.gate.admit(presented(value, place, **more))

    def verdict(self, value: bytes | None = None, place: Place = "header", **more: Any) -> Verdict:
        """Its verdict."""
        return self.admit(value, place, **more).verdict

    def login(self, subject: str = "user-1", **more: Any) -> bytes:
        """The token of a new session."""
        issued = self.sessions.login(subject, legacy=no_legacy, **more)
        return token_of(issued)

    def login_anyhow(self) -> bytes:
        """The token of a session, where the phase leaves logins to the app as well."""
        issued = self.sessions.create_api_token("user-1", label="x")
        return str(issued.token).encode()

    def marked(self, subject: str = "user-1") -> bytes:
        """A bridge JWT of ours."""
        session = self.session(self.login_anyhow())
        session = replace(session, subject=subject)
        made = self.bridge.mint(session, "access", frozenset(), {})
        return run(made)

    def session(self, token: bytes) -> Session:
        """The row that a token names."""
        found = run(MemoryStore.find(self.store, tokens.digest(token)))
        assert found is not None
        return found.session

    def rows(self, subject: str = "user-1", realm: str = "users") -> list[Session]:
        """Every session of a subject, ended ones too."""
        return [*run(MemoryStore.list(self.store, subject, realm=realm, ended=True))]

    def claims(self, jwt: bytes, purpose: Purpose = "access") -> Claims:
        """What a legacy token says."""
        found = self.gate.verifier.verify(jwt, (ISSUER,), now=self.now, purpose=purpose)
        assert isinstance(found, Claims), found
        return found

    def counted(self) -> dict[tuple[str, str, str], int]:
        """What was counted since this was asked last: issuer, client, outcome."""
        taken = self.usage.take_tallies()
        return {(what.issuer, what.client, what.outcome): count for what, count in taken}


@dataclass(frozen=True)
class Call:
    """What a store or cache was asked, and with what."""

    name: str
    given: tuple[Any, ...]
    named: dict[str, Any]


def watch(calls: list[Call], target: object, *names: str) -> None:
    """Note every call of these methods of `target`, and let it through."""

    def watched(name: str) -> Callable[..., Awaitable[Any]]:
        ask = getattr(target, name)

        async def noted(*given: Any, **named: Any) -> Any:
            calls.append(Call(name, given, named))
            return await ask(*given, **named)

        return noted

    for name in names:
        setattr(target, name, watched(name))


def no_legacy() -> str:
    """The app's own function where nothing legacy may be issued."""
    raise AssertionError("the app was asked for a JWT")


MADE = "made by the app"


def made() -> str:
    """The app's own function where it issues what it always did."""
    return MADE


def exchanged(world: Deployment, token: bytes | str) -> bytes:
    """The token of the session that the refresh route gives."""
    return token_of(world.sessions.exchange(token, legacy=no_legacy))


def admitted(world: Deployment, token: bytes, **more: Any) -> Admitted:
    """The verdict on what is admitted."""
    verdict = world.verdict(token, **more)
    assert isinstance(verdict, Admitted), verdict
    return verdict


def passed(world: Deployment, token: bytes, **more: Any) -> Passed:
    """The verdict on what is left to the app."""
    verdict = world.verdict(token, **more)
    assert isinstance(verdict, Passed), verdict
    return verdict


def derived(world: Deployment, token: bytes, key: bytes = KEY.secret) -> bytes:
    """The token of the session that a legacy token gets."""
    return tokens.derive("sess", key=key, fingerprint=world.claims(token).fingerprint)


def token_of(issued: Issued) -> bytes:
    """The session token that was issued."""
    assert issued.kind == "session"
    return str(issued.token).encode()


def presented(value: bytes | None = None, place: Place = "header", **more: Any) -> Presented:
    """A request; bytes stand for credentials in the place that their name says."""
    if value is not None:
        at = "header" if place == "header" else "legacy"
        more[at] = Credential(value, place, ISSUERS)
    for name in ("legacy", "session_cookie"):
        if isinstance(more.get(name), bytes):
            issuers = ISSUERS if name == "legacy" else frozenset[str]()
            more[name] = Credential(more[name], "cookie", issuers)
    for name in ("session_copies", "legacy_copies", "others"):
        more[name] = _several(more.get(name, ()), name)
    return Presented(**more)


def _several(values: Iterable[bytes | Credential], name: str) -> tuple[Credential, ...]:
    issuers = frozenset[str]() if name == "session_copies" else ISSUERS
    return tuple(
        Credential(each, "cookie", issuers) if isinstance(each, bytes) else each for each in values
    )


_jtis = itertools.count(1)


def jwt(subject: str = "user-1", *, lasts_s: float = 3600, **more: Any) -> bytes:
    """An access token of the legacy app, each with a jti of its own."""
    more = {"jti": f"j{next(_jtis)}", "exp": NOW_S + lasts_s, **more}
    return HS.token(claims(sub=subject, **more))


def refresh_jwt(subject: str = "user-1", *, lasts_s: float = 10 * 86_400, **more: Any) -> bytes:
    """A refresh token of the legacy app."""
    return jwt(subject, lasts_s=lasts_s, token_type="refresh", **more)


def forged(token: bytes) -> bytes:
    """The same with a signature that nobody made."""
    return token.rpartition(b".")[0] + b"." + b"A" * 43


SHAPE = Shape(
    issuer="a1",
    realm="users",
    styles={
        "access": Style(signer=Signer("HS256", "k1", SECRET), purpose={"token_type": "access"}),
        "refresh": Style(signer=Signer("HS256", "k1", SECRET), purpose={"token_type": "refresh"}),
    },
    lifetime=timedelta(minutes=5),
    iss=ISSUER.iss,
    audience="api",
    claims=ISSUER.claims,
)


def subject_of(verdict: object) -> str:
    """Whom a verdict admits."""
    assert isinstance(verdict, Admitted), verdict
    return verdict.principal.subject
