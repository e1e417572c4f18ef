"""P4 and P2 under what a Postgres can do wrong: cached sessions are admitted, else 503.

Never 401 because something could not be asked, and never "done" for a revocation that is not.
"""

from __future__ import annotations

import hashlib
import resource
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass

import psycopg
import pytest
import redis

from migrator import wiring
from migrator.cli.demo.servers import Postgres, Redis, embedded_postgres, embedded_redis
from migrator.control import schema
from migrator.stores.drivers import conninfo
from tests.counts import counted
from tests.faults.colours import COLOURS, Asked, asked
from tests.faults.proxy import Proxy, proxied
from tests.faults.standby import Standby, ask, until
from tests.rig import Rig, sign

pytestmark = pytest.mark.xdist_group("faults-postgres")

BUDGET_S = 1.0
# A busy machine's own hesitation, on top of what is promised.
SLACK_S = 0.5
TRUST_S = 0.9


@dataclass(frozen=True)
class Up:
    """A gate that reaches its Postgres through a proxy; who is cached, and who is not."""

    postgres: Postgres
    proxy: Proxy
    rig: Rig
    gate: Asked
    cached: bytes
    uncached: bytes

    def holds(self, *, may_read: bool = False) -> None:
        """What is cached is admitted; all else is 503, or what can be read is admitted too."""
        self.gate.flush_memory()
        assert self.gate.show(self.cached).subject == "cached"
        legacy = self.gate.show(sign("unseen").encode())
        assert legacy.kind == "unavailable", legacy
        answer = self.gate.show(self.uncached)
        assert answer.kind in ({"unavailable", "admitted"} if may_read else {"unavailable"}), (
            answer
        )
        began = time.monotonic()
        assert self.gate.end(self.cached) is False, "a lost revocation was said to be done"
        assert time.monotonic() - began <= BUDGET_S + SLACK_S
        counted("G8", "answers under Postgres faults", 3)
        counted("G8", "revocations not acknowledged under Postgres faults")

    def recovers(self) -> None:
        """By itself, and nobody was logged out: what was not acknowledged may have happened."""
        until(lambda: self.gate.show(sign("anybody").encode()).kind == "admitted")
        assert self.gate.show(self.uncached).subject == "uncached"


@pytest.fixture(scope="module")
def cache() -> Iterator[Redis]:
    with embedded_redis() as one:
        yield one


@pytest.fixture(scope="module")
def server() -> Iterator[Postgres]:
    with embedded_postgres() as one:
        yield one


@contextmanager
def standing(server: Postgres, cache: Redis, colour: str, **tables: object) -> Iterator[Up]:
    cache.flush()
    name = f"faults_{time.monotonic_ns()}"
    url = server.create_database(name)
    schema.upgrade(url)
    with ExitStack() as stack:
        proxy = stack.enter_context(proxied(url, 5432))
        rig = Rig(url, cache.url)
        rig.move("drain")
        settings = {"url": proxy.url_of(url), "budget_ms": int(BUDGET_S * 1000), **tables}
        through = rig.settings(
            database=settings, memory={"trust_ms": 900, "poll_ms": 100}, redis={"budget_ms": 500}
        )
        operator = wiring.operator(rig.settings())
        cached, uncached = (
            str(operator.create_api_token(each, label="x").token).encode()
            for each in ("cached", "uncached")
        )
        gate = stack.enter_context(asked(colour, through))
        assert gate.show(cached).subject == "cached"
        until(lambda: _is_cached(cache, gate, cached))
        yield Up(server, proxy, rig, gate, cached, uncached)
    server.drop_database(name)


def _is_cached(cache: Redis, gate: Asked, token: bytes) -> bool:
    gate.flush_memory()
    gate.show(token)
    with redis.Redis.from_url(cache.url) as hand:
        return any(hand.scan_iter(match=f"*{hashlib.sha256(token).hexdigest()}"))


@contextmanager
def read_only(up: Up) -> Iterator[None]:
    """Set so by hand, or by a provider whose disk is nearly full; open connections keep it."""
    ask(up.postgres, "ALTER SYSTEM SET default_transaction_read_only = on")
    ask(up.postgres, "SELECT pg_reload_conf()")
    until(lambda: up.rig.execute("SHOW default_transaction_read_only") == [("on",)])
    yield
    with psycopg.connect(**conninfo(up.postgres.url), autocommit=True) as hand:
        hand.execute("SET default_transaction_read_only = off")
        hand.execute("ALTER SYSTEM RESET default_transaction_read_only")
        hand.execute("SELECT pg_reload_conf()")
    until(lambda: up.rig.execute("SHOW default_transaction_read_only") == [("off",)])


@pytest.mark.parametrize("colour", COLOURS)
def test_p4_a_primary_that_is_read_only_logs_nobody_out(
    server: Postgres, cache: Redis, colour: str
) -> None:
    with standing(server, cache, colour) as up:
        with read_only(up):
            up.holds(may_read=True)
        up.recovers()


@pytest.mark.parametrize("colour", COLOURS)
@pytest.mark.parametrize("act", ["pg_terminate_backend", "pg_cancel_backend"])
def test_p4_backends_ended_or_cancelled_at_any_moment_log_nobody_out(
    server: Postgres, cache: Redis, act: str, colour: str
) -> None:
    """A second at a time, from another connection, whatever they are doing."""
    with standing(server, cache, colour) as up, ThreadPoolExecutor(1) as pool:
        over = time.monotonic() + 1.0

        def hurt() -> int:
            done = 0
            with psycopg.connect(**conninfo(up.rig.url), autocommit=True) as hand:
                while time.monotonic() < over:
                    rows = hand.execute(
                        f"SELECT {act}(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid()"
                        " AND datname = current_database()"
                    ).fetchall()
                    done += len(rows)
                    time.sleep(0.003)
            return done

        hurting = pool.submit(hurt)
        kinds: dict[str, int] = {}
        number = 0
        while time.monotonic() < over:
            number += 1
            for token in (up.uncached, up.cached, sign(f"user-{number}").encode()):
                kind = up.gate.show(token).kind
                kinds[kind] = kinds.get(kind, 0) + 1
        counted("G8", "backends ended or cancelled", hurting.result())
        counted("G8", "answers under Postgres faults", sum(kinds.values()))
        counted("G8", "false 401", kinds.get("refused", 0))
        assert set(kinds) <= {"admitted", "unavailable"}, kinds
        up.recovers()


@pytest.mark.parametrize("colour", COLOURS)
def test_p4_a_lock_on_the_sessions_costs_the_budget_and_no_more(
    server: Postgres, cache: Redis, colour: str
) -> None:
    """As an ALTER TABLE without a lock_timeout takes it."""
    with standing(server, cache, colour) as up:
        with psycopg.connect(**conninfo(up.rig.url)) as hand:
            hand.execute("LOCK TABLE migrator.sessions IN ACCESS EXCLUSIVE MODE")
            began = time.monotonic()
            assert up.gate.show(up.uncached).kind == "unavailable"
            assert time.monotonic() - began <= BUDGET_S + SLACK_S
            up.holds()
        up.recovers()
        # What we gave up on must not have happened behind our back and be denied: ask the row.
        ended = up.rig.count("sessions", "subject = 'cached' AND revoked_at IS NOT NULL")
        assert up.gate.show(up.cached).kind == ("refused" if ended else "admitted")


@pytest.mark.parametrize("colour", COLOURS)
def test_p4_with_too_many_connections_it_is_unavailable_at_once(cache: Redis, colour: str) -> None:
    limits = {"superuser_reserved_connections": "3", "autovacuum": "off"}
    with (
        embedded_postgres(max_connections=14, settings=limits) as own,
        standing(own, cache, colour) as up,
        ExitStack() as stack,
    ):
        up.proxy.reset()  # ours have to be made anew
        clamour(up, stack)
        up.holds()
        stack.close()
        up.recovers()


def clamour(up: Up, stack: ExitStack) -> None:
    """Take every connection there is, from our pulse as well: it gives its own up at a reset."""
    taken = 0
    while taken < 3 or up.proxy.lines:
        try:
            stack.enter_context(closing(psycopg.connect(**conninfo(up.postgres.url))))
        except psycopg.OperationalError:
            taken += 1
            up.proxy.reset()
            time.sleep(0.02)


GREETINGS = {
    "says nothing": b"",
    "speaks HTTP": b"HTTP/1.1 400 Bad Request\r\n\r\n<html>no</html>",
    "agrees to TLS and has none": b"Sno such thing as a handshake",
    "an endless message": b"R\x7f\xff\xff\xff" + b"x" * 1000,
    "noise": bytes(range(256)) * 8,
}


@pytest.mark.parametrize("colour", COLOURS)
@pytest.mark.parametrize("words", list(GREETINGS))
def test_p4_whatever_answers_at_the_address_of_postgres_nobody_is_refused(
    server: Postgres, cache: Redis, words: str, colour: str
) -> None:
    with standing(server, cache, colour) as up:
        up.proxy.greet(GREETINGS[words])
        up.proxy.reset()
        up.holds()
        up.proxy.heal()
        up.proxy.reset()
        up.recovers()


SLOW: dict[str, Callable[[Proxy], None]] = {
    "a trickle": lambda proxy: proxy.slice(0.02),
    "20 bytes a second": lambda proxy: proxy.narrow(20),
    "silence": Proxy.black_hole,
}


@pytest.mark.parametrize("colour", COLOURS)
@pytest.mark.parametrize("how", list(SLOW))
def test_p4_a_postgres_that_drips_costs_the_budget_and_no_more(
    server: Postgres, cache: Redis, how: str, colour: str
) -> None:
    with standing(server, cache, colour) as up:
        SLOW[how](up.proxy)
        up.holds()
        up.proxy.heal()
        up.proxy.reset()
        up.recovers()


@pytest.mark.parametrize("colour", COLOURS)
def test_p4_one_byte_at_a_time_is_still_an_answer(
    server: Postgres, cache: Redis, colour: str
) -> None:
    with standing(server, cache, colour) as up:
        up.proxy.slice(0.0001)
        assert up.gate.show(up.uncached).kind in {"admitted", "unavailable"}
        up.proxy.heal()
        up.recovers()


@pytest.mark.parametrize("colour", COLOURS)
def test_p4_a_full_disk_logs_nobody_out(cache: Redis, colour: str) -> None:
    """A limit on the size of the server's files stands in for the disk: a table cannot grow."""
    with (
        small_disk() as own,
        standing(own, cache, colour) as up,
    ):
        up.recovers()
        with full_disk(up):
            kinds = [up.gate.show(sign(f"full-{n}").encode()).kind for n in range(40)]
            assert set(kinds) <= {"admitted", "unavailable"}
            assert "unavailable" in kinds, "the fault was there"
            counted("G8", "answers under Postgres faults", len(kinds))
            assert up.gate.show(up.cached).subject == "cached"
            assert up.gate.show(up.uncached).subject == "uncached"
            done = up.gate.end(up.cached)
            ended = up.rig.count("sessions", "subject = 'cached' AND revoked_at IS NOT NULL")
            assert done == bool(ended)
        up.recovers()


# What a segment of WAL has from the beginning: that goes on.
_LIMIT_BYTES = 16 << 20


@contextmanager
def small_disk() -> Iterator[Postgres]:
    """A server none of whose files may grow beyond the limit, which it inherits from us."""
    usual = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (_LIMIT_BYTES, usual[1]))
    try:
        server = Postgres(settings={"autovacuum": "off"})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, usual)
    with closing(server):
        yield server


@contextmanager
def full_disk(up: Up) -> Iterator[None]:
    """Grow the sessions until they cannot be grown any more; afterwards make room again."""
    with psycopg.connect(**conninfo(up.rig.url), autocommit=True) as hand:
        for rows, pad in ((500, 50), (10, 50), (1, 50), (20, 0), (1, 0)):
            with pytest.raises(psycopg.Error) as full:
                grow(hand, rows, pad)
            assert "File too large" in str(full.value), full.value
    yield
    up.rig.execute("VACUUM migrator.sessions")


def grow(hand: psycopg.Connection[tuple[object, ...]], rows: int, pad: int) -> None:
    while True:
        hand.execute(_GROW, {"rows": rows, "pad": pad})


_GROW = """
INSERT INTO migrator.sessions (id, kind, realm, subject, expires_at, claims, origin)
SELECT gen_random_uuid(), 'session', 'users', 'filler', now() + interval '1 h',
  jsonb_build_object('pad', repeat(md5(n::text), %(pad)s)), 'login'
FROM generate_series(1, %(rows)s) n"""


@pytest.mark.parametrize("colour", COLOURS)
def test_p2_a_connection_that_leads_to_a_standby_is_not_believed(
    server: Postgres, cache: Redis, colour: str
) -> None:
    """It lags: it would admit what the primary has revoked, and refuse who has just signed in."""
    with standing(server, cache, colour) as up, closing(Standby(server)) as standby:
        ask(standby, "SELECT pg_wal_replay_pause()")
        gone = str(
            wiring.operator(up.rig.settings()).create_api_token("new", label="x").token
        ).encode()
        up.proxy.leads_to("127.0.0.1", standby.port)
        up.proxy.reset()
        up.holds()
        assert up.gate.show(gone).kind == "unavailable", "signed in a moment ago: not refused"
        assert wiring.operator(up.rig.settings()).end(up.uncached) == 1
        assert up.gate.show(up.uncached).kind != "admitted"
        up.proxy.leads_to("127.0.0.1", server.port)
        up.proxy.reset()
        until(lambda: up.gate.show(gone).subject == "new")
        assert up.gate.show(up.uncached).kind == "refused"
