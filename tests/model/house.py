"""The real side of the model: a deployment on real servers whose time stands still until stepped.

Two nodes over the same Postgres and Redis, one blocking and one async, each with its own memory
and a pulse that beats when told. Every clock the product reads is stepped: `clock_timestamp()` of
the database (a function of that name, found before the built-in one), and the ticks of each node.
"""

from __future__ import annotations

import asyncio
import base64
import itertools
import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, TypeVar

import jwt
import redis
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from sqlalchemy import create_engine
from sqlalchemy.pool import StaticPool

from migrator import wiring
from migrator.control import changes, cutoffs, sweeping
from migrator.control.cutoff_rows import Place
from migrator.control.cutoffs import Signer
from migrator.control.endings import Audit
from migrator.core.app import AsyncSessions, Sessions
from migrator.core.errors import Refused as RefusedError
from migrator.core.errors import Unavailable
from migrator.core.gate import AsyncGate, Gate
from migrator.core.recent import SECOND_NS
from migrator.core.verdicts import Admitted, Refused
from migrator.pulse import Rhythm
from shims.credentials import Places, find
from tests.model.model import ABSOLUTE, IDLE, KEEP_ENDED, Said
from tests.rig import ISSUER, SECRET, Rig

if TYPE_CHECKING:
    from collections.abc import Coroutine
    from uuid import UUID

    from migrator.settings import Settings

_T = TypeVar("_T")
SCHEMA = "migrator"
ORDER_OF_P256 = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
PRIVATE = {kid: ec.generate_private_key(ec.SECP256R1()) for kid in ("k1", "k2")}
GRAIN = 90  # how late last-seen may be written
_AUDIT = Audit(who="model", why="model")

# Each statement reads the clock again, as it does with the built-in one.
_CLOCK = """
CREATE SCHEMA clock;
CREATE TABLE clock.stands (at timestamptz NOT NULL);
INSERT INTO clock.stands VALUES (pg_catalog.now());
CREATE FUNCTION clock.clock_timestamp() RETURNS timestamptz LANGUAGE sql VOLATILE
  AS 'SELECT at FROM clock.stands';
CREATE FUNCTION clock.now() RETURNS timestamptz LANGUAGE sql VOLATILE
  AS 'SELECT at FROM clock.stands';
DO $$ DECLARE d record; BEGIN
  FOR d IN SELECT adrelid::regclass AS home, attname AS name FROM pg_attrdef
    JOIN pg_attribute ON attrelid = adrelid AND attnum = adnum
    WHERE pg_get_expr(adbin, adrelid) IN ('now()', 'clock_timestamp()') LOOP
    EXECUTE format('ALTER TABLE %s ALTER %I SET DEFAULT clock.clock_timestamp()', d.home, d.name);
  END LOOP;
  EXECUTE format('ALTER DATABASE %I SET search_path = clock, pg_catalog, public',
    current_database());
END $$"""

_EMPTY = """
DELETE FROM migrator.legacy_tokens; DELETE FROM migrator.sessions; DELETE FROM migrator.feed;
DELETE FROM migrator.denials; DELETE FROM migrator.cutoffs; DELETE FROM migrator.nodes;
DELETE FROM migrator.legacy_subjects; DELETE FROM migrator.legacy_usage"""


def settings_of(rig: Rig) -> Settings:
    """Two issuers of one realm: an ES256 one with two keys, and an HS256 one."""
    pems = {
        kid: key.public_key()
        .public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        .decode()
        for kid, key in PRIVATE.items()
    }
    usual = {
        **ISSUER,
        "realm": "users",
        "transport": [{"header": "Authorization", "scheme": "Bearer"}, {"query": "token"}],
    }
    one = {
        **usual,
        "id": "a1",
        "name": "one",
        "issuer": "one",
        "algorithms": ["ES256"],
        "keys": [{"key": pem, "kid": kid, "alg": "ES256"} for kid, pem in pems.items()],
    }
    two = {
        **usual,
        "id": "a2",
        "name": "two",
        "issuer": "two",
        "keys": [{"key": SECRET, "kid": "h1", "alg": "HS256"}],
    }
    life = {"idle": f"{IDLE - GRAIN}s", "absolute": f"{ABSOLUTE}s"}
    return rig.settings(issuers=[one, two], sessions=life, database={"budget_ms": 30_000})


class Clock:
    """Seconds since a beginning, as every clock of the house shows them."""

    def __init__(self) -> None:
        # Ahead of the real one: what Redis is told to forget at a time stays until stepped past.
        self.base = int(time.time()) + 3600
        self.seconds = 0
        self._reads = itertools.count()

    def ticks(self) -> int:
        return (1_000_000 + self.seconds) * SECOND_NS + next(self._reads)

    def moment(self) -> datetime:
        return datetime.fromtimestamp(self.base + self.seconds, UTC)


@dataclass(frozen=True, slots=True)
class Answer:
    """What came of presenting something: the verdict, whose it is, and the token it gave."""

    said: Said
    subject: str | None = None
    token: bytes | None = None
    why: str | None = None
    has_session: bool = False


class Node:
    """One process of the deployment: gate, sessions, memory and pulse, of one colour."""

    def __init__(
        self, settings: Settings, clock: Clock, loop: asyncio.AbstractEventLoop | None
    ) -> None:
        self._house = house = wiring._House(settings)
        assert house.pulse is not None
        self._loop, self._pulse = loop, house.pulse
        house.node.wake = lambda: None
        house.node.recent._ticks = house.node.clock._ticks = clock.ticks
        self._pulse._rhythm = Rhythm(poll_s=1, trust_s=0.9, beat_s=0, flush_s=0, guard_s=0)
        blocks = loop is None
        self._gate: Any = house.flow(Gate if blocks else AsyncGate, blocks=blocks, resolve=None)
        self._sessions: Any = house.flow(
            Sessions if blocks else AsyncSessions, blocks=blocks, resolve=None
        )
        self._places = Places.of(settings)
        self.poll()

    def poll(self) -> None:
        """One beat of the pulse: the feed in, last-seen out."""
        self._pulse.beat()

    def lose_feed(self) -> None:
        def lost(_xmin: object) -> Any:
            raise Unavailable("postgres", "the feed is lost")

        self._pulse._feed.read = lost  # type: ignore[assignment,method-assign] # its connection is dead

    def find_feed(self) -> None:
        del self._pulse._feed.read

    def show(self, value: bytes, *, scheme: bytes = b"Bearer", query: bool = False) -> Answer:
        """Present a credential as a request does: found, asked of memory, then of the gate."""
        headers = [] if query else [(b"authorization", scheme + b" " + value)]
        presented, _ = find(
            self._places,
            headers,
            method="GET",
            path="/me",
            query=b"token=" + value if query else b"",
        )
        assert presented is not None
        outcome = self._gate.peek(presented)
        if outcome is None:
            outcome = self._done(self._gate.admit(presented))
        verdict = outcome.verdict
        if isinstance(verdict, Admitted):
            who = verdict.principal
            return Answer("in", who.subject, verdict.hand_out, has_session=who.session is not None)
        why = None if verdict.reason is None else verdict.reason.value
        return Answer("out" if isinstance(verdict, Refused) else "app", why=why)

    def exchange(self, value: bytes) -> Answer:
        """What the refresh route answers; "app": the app issues as it did."""
        try:
            issued = self._done(self._sessions.exchange(value, legacy=lambda: "a.b.c"))
        except RefusedError as refused:
            return Answer("out", why=refused.reason.value)
        return Answer("in", None, issued.token.encode()) if issued.kind == "session" else APP

    def login(self, subject: str) -> bytes | None:
        """A session's token; None: the app issues as it did."""
        issued = self._done(self._sessions.login(subject, legacy=lambda: "a.b.c"))
        return issued.token.encode() if issued.kind == "session" else None

    def end(self, value: bytes) -> None:
        self._done(self._sessions.end(value))

    def end_all(self, subject: str) -> None:
        self._done(self._sessions.end_all(subject))

    def end_others(self, value: bytes) -> bool:
        try:
            self._done(self._sessions.end_others(value))
        except RefusedError:
            return False
        return True

    def close(self) -> None:
        """Die: what was buffered is lost."""
        self._pulse._feed.close()
        cache = self._gate.cache._cache
        self._done(cache.close() if self._loop is None else cache.aclose())
        self._house.stop()

    def _done(self, made: Coroutine[Any, Any, _T] | _T) -> _T:
        if self._loop is None:
            return made  # type: ignore[return-value] # a blocking node answers at once
        return self._loop.run_until_complete(made)  # type: ignore[arg-type] # and this one later


APP = Answer("app")


class House:
    """The deployment: servers, two nodes, an operator, and the clock of them all."""

    def __init__(self, url: str, redis_url: str, loop: asyncio.AbstractEventLoop) -> None:
        self.rig = Rig(url, redis_url)
        self.rig.execute(_CLOCK)
        self._settings, self._loop = settings_of(self.rig), loop
        self._engine = create_engine(url, poolclass=StaticPool)
        self._own = self._engine.connect()
        self._cache = wiring._cache_of(self._settings, blocks=True)
        self._redis = redis.Redis.from_url(redis_url)
        self.clock = Clock()
        self.nodes: list[Node] = []

    def begin(self) -> None:
        """An empty deployment in `observe`, at second 0."""
        self.clock = Clock()
        self._say(_EMPTY)
        self.forget()
        self._set_clock()
        self.move("observe", 0)
        self.nodes = [Node(self._settings, self.clock, loop) for loop in (None, self._loop)]

    def end(self) -> None:
        for node in self.nodes:
            node.close()
        self.nodes = []

    def close(self) -> None:
        self._own.close()
        self._engine.dispose()
        self._redis.close()

    def step(self, seconds: int) -> None:
        self.clock.seconds += seconds
        self._set_clock()

    def move(self, phase: str, percent: int) -> None:
        self._say(
            "UPDATE migrator.rollout SET phase = %s, percent = %s, epoch = epoch + 1,"
            " since = now()",
            phase,
            percent,
        )

    def restart(self, number: int) -> None:
        self.nodes[number].close()
        self.nodes[number] = Node(self._settings, self.clock, self._loop if number else None)

    def forget(self) -> None:
        """Redis loses everything."""
        self._redis.flushdb()

    def sign(self, *, iat: int, exp: int, kid: str, alg: str, **claims: object) -> bytes:
        key: Any = PRIVATE.get(kid, SECRET)
        base = self.clock.base
        payload = {**claims, "iat": base + iat, "exp": base + exp}
        return jwt.encode(payload, key, algorithm=alg, headers={"kid": kid}).encode()

    # What the operator does, in a process of its own.

    def session_of(self, token: bytes) -> UUID:
        rows = self._own.exec_driver_sql(
            "SELECT id FROM migrator.sessions WHERE digest = sha256(%s)", (token,)
        )
        found: UUID = rows.scalar_one()
        self._own.rollback()
        return found

    def regenerate(self, token: bytes) -> bytes:
        made = changes.regenerate(
            self._own,
            self._cache,
            SCHEMA,
            self.session_of(token),
            prefixes={"session": "sess", "api": "pat"},
            dry_run=False,
        )
        assert made.token is not None
        return made.token.encode()

    def expire(self, token: bytes) -> None:
        changes.expire(
            self._own, self._cache, SCHEMA, self.session_of(token), at=None, dry_run=False
        )

    def cut_issuer(self, issuer: str, kid: str | None) -> None:
        cutoffs.cut_issuer(self._place(), issuer, kid=kid, audit=_AUDIT, dry_run=False)

    def cut_subject(self, subject: str) -> None:
        signer = Signer(skew=timedelta(seconds=5), lifetimes={})
        cutoffs.cut_subject(
            self._place(),
            subject,
            realm="users",
            before=None,
            signers={"a1": signer, "a2": signer},
            audit=_AUDIT,
            dry_run=False,
        )

    def sweep(self) -> None:
        sweeping.sweep(self._own, SCHEMA, keep_ended=timedelta(seconds=KEEP_ENDED))

    def _place(self) -> Place:
        return Place(self._own, SCHEMA, self._cache)

    def _set_clock(self) -> None:
        self._say("UPDATE clock.stands SET at = %s", self.clock.moment())

    def _say(self, statement: str, *values: object) -> None:
        self._own.exec_driver_sql(statement, values or None)
        self._own.commit()


def mirrored(token: bytes) -> bytes:
    """An ES256 token with (r, n-s) for its signature: it holds as well."""
    head, _, tail = token.rpartition(b".")
    raw = base64.urlsafe_b64decode(tail + b"==")
    s = ORDER_OF_P256 - int.from_bytes(raw[32:], "big")
    return head + b"." + base64.urlsafe_b64encode(raw[:32] + s.to_bytes(32, "big")).rstrip(b"=")
