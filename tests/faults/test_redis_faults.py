"""P4 and P2 under what a Redis can do wrong: it is answered right, or asked of Postgres instead.

Each fault is done to a real server, or by a proxy before it, and met by a gate of either colour. A
revoked session is refused, a living one admitted as its own subject, whatever Redis says.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass

import pytest
import redis

from migrator import wiring
from migrator.cli.demo.servers import Redis, embedded_redis
from migrator.stores.breaker import LONGEST_PAUSE_S
from tests.counts import counted
from tests.faults.colours import COLOURS, Asked, asked
from tests.faults.proxy import Proxy, proxied
from tests.faults.standby import until
from tests.rig import Rig, sign

pytestmark = pytest.mark.xdist_group("faults-redis")

FEED_BOUND_S = 1.0


@dataclass(frozen=True)
class Up:
    """A gate that reaches its Redis through a proxy, and three sessions."""

    redis: Redis
    proxy: Proxy
    rig: Rig
    gate: Asked
    living: dict[str, bytes]

    def judge(self, *, revoked: bytes | None = None) -> None:
        """Every living session is admitted as its own; the revoked one is not, in the end."""
        for subject, token in self.living.items():
            self.gate.flush_memory()
            answer = self.gate.show(token)
            assert (answer.kind, answer.subject) == ("admitted", subject)
        counted("G8", "answers under Redis faults", len(self.living))
        if revoked is not None:
            assert self.gate.show(revoked).kind == "refused"
            counted("G8", "revocations under Redis faults")


@pytest.fixture(scope="module")
def server() -> Iterator[Redis]:
    with embedded_redis() as one:
        yield one


@contextmanager
def standing(
    migrated: str, server: Redis, colour: str, *, budget_ms: int = 200, flushing: bool = True
) -> Iterator[Up]:
    if flushing:
        server.flush()
    with proxied(server.url, 6379) as proxy:
        tables = {"url": proxy.url_of(server.url), "budget_ms": budget_ms}
        rig = Rig(migrated, server.url, memory={"poll_ms": 100, "trust_ms": 900})
        rig.move("drain")
        with asked(colour, rig.settings(redis=tables)) as gate:
            living = {}
            for subject in ("ann", "bob", "cid"):
                token = gate.show(sign(subject).encode()).token
                assert token is not None
                living[subject] = token
                assert gate.show(token).subject == subject
            yield Up(server, proxy, rig, gate, living)


def ended_elsewhere(up: Up, subject: str = "eve") -> bytes:
    """A session that this gate has admitted, ended by another process a moment ago."""
    token = up.gate.show(sign(subject).encode()).token
    assert token is not None
    assert up.gate.show(token).kind == "admitted"
    assert wiring.operator(up.rig.settings()).end(token) == 1
    return token


def refused_within_the_bound(up: Up, token: bytes) -> float:
    """Seconds until it is refused; asked all the while."""
    began = time.monotonic()
    while up.gate.show(token).kind == "admitted":
        assert time.monotonic() - began <= FEED_BOUND_S, "admitted beyond the bound"
    took = time.monotonic() - began
    assert up.gate.show(token).kind == "refused"
    return took


def clients(server: Redis, kind: str) -> Callable[[], None]:
    def kill() -> None:
        with redis.Redis.from_url(server.url) as hand:
            hand.client_kill_filter(_type=kind, skipme=True)

    return kill


def wiped(server: Redis) -> None:
    server.flush()


def reloaded(server: Redis) -> None:
    """DEBUG RELOAD saves and loads; NOSAVE loads what was saved last: nothing."""
    with redis.Redis.from_url(server.url) as hand:
        try:
            hand.execute_command("DEBUG", "RELOAD", "NOSAVE", "NOFLUSH")
        except redis.ResponseError:  # it may be disabled, or too old for the words
            hand.flushall()


def died(server: Redis) -> None:
    """SIGKILL, without an append-only file: it comes back empty."""
    server.kill()
    server.start()


FORGETS = {"FLUSHALL": wiped, "DEBUG RELOAD": reloaded, "kill -9": died}


@pytest.mark.parametrize("colour", COLOURS)
@pytest.mark.parametrize("how", list(FORGETS))
def test_p2_a_redis_that_forgets_right_after_a_revocation_brings_nothing_back(
    migrated: str, server: Redis, how: str, colour: str
) -> None:
    with standing(migrated, server, colour) as up:
        token = ended_elsewhere(up)
        FORGETS[how](server)
        refused_within_the_bound(up, token)
        up.judge(revoked=token)


@pytest.mark.parametrize("colour", COLOURS)
@pytest.mark.parametrize("kind", ["normal", "pubsub"])
def test_p2_every_client_killed_loses_hints_and_nothing_else(
    migrated: str, server: Redis, kind: str, colour: str
) -> None:
    with standing(migrated, server, colour) as up:
        for number in range(3):
            clients(server, kind)()
            up.judge()
            token = ended_elsewhere(up, f"eve-{number}")
            clients(server, kind)()
            refused_within_the_bound(up, token)
            up.judge(revoked=token)


def settings_of(server: Redis, **directives: str | int) -> None:
    with redis.Redis.from_url(server.url) as hand:
        for name, value in directives.items():
            hand.config_set(name.replace("_", "-"), value)


@contextmanager
def readonly(server: Redis) -> Iterator[None]:
    """It became somebody's replica: reads are served, writes refused with READONLY."""
    with redis.Redis.from_url(server.url) as hand:
        hand.config_set("replica-serve-stale-data", "yes")
        hand.replicaof("127.0.0.1", "1")
        yield
        hand.replicaof("NO", "ONE")


@contextmanager
def full(server: Redis) -> Iterator[None]:
    """OOM: nothing may be evicted, so every write is refused."""
    settings_of(server, maxmemory_policy="noeviction", maxmemory="1")
    yield
    settings_of(server, maxmemory=0)


@contextmanager
def crowded(server: Redis) -> Iterator[None]:
    """Every place for a client is taken, and ours were ended."""
    hand = redis.Redis.from_url(server.url)
    usual = str(hand.config_get("maxclients")["maxclients"])
    hand.config_set("maxclients", 1)
    hand.client_kill_filter(_type="normal", skipme=True)
    yield
    hand.config_set("maxclients", usual)
    hand.close()


@contextmanager
def locked(server: Redis) -> Iterator[None]:
    """The password changed in mid-flight."""
    with redis.Redis.from_url(server.url) as hand:
        hand.config_set("requirepass", "another")
        hand.client_kill_filter(_type="normal", skipme=True)
        yield
        hand.config_set("requirepass", "")


@contextmanager
def replaced(server: Redis) -> Iterator[None]:
    """Clients of the user we are signed in as are refused all they ask: NOPERM."""
    with redis.Redis.from_url(server.url) as hand:
        hand.execute_command("ACL", "SETUSER", "default", "-@all", "+config", "+acl", "+client")
        yield
        hand.execute_command("ACL", "SETUSER", "default", "+@all")


UNWILLING = {
    "READONLY": readonly,
    "OOM": full,
    "maxclients": crowded,
    "wrong password": locked,
    "NOPERM": replaced,
}


@pytest.mark.parametrize("colour", COLOURS)
@pytest.mark.parametrize("how", list(UNWILLING))
def test_p4_a_redis_that_is_unwilling_costs_nothing_but_itself(
    migrated: str, server: Redis, how: str, colour: str
) -> None:
    with standing(migrated, server, colour) as up:
        with UNWILLING[how](server):
            up.judge()
            new = up.gate.show(sign("new").encode())
            assert new.kind == "admitted"
            assert new.token is not None
            up.gate.flush_memory()
            # Redis has the others already where memory was not trusted yet when they began.
            assert up.gate.show(new.token).kind == "admitted"
            token = ended_elsewhere(up)
            refused_within_the_bound(up, token)
            up.judge(revoked=token)
        assert up.gate.fault_counts(), "it was met"
        up.judge(revoked=token)


@pytest.mark.parametrize("colour", COLOURS)
def test_p4_a_redis_that_is_loading_costs_nothing_but_itself(migrated: str, colour: str) -> None:
    with embedded_redis(settings={"loading-process-events-interval-bytes": "1024"}) as own:
        with redis.Redis.from_url(own.url) as hand:
            hand.mset({f"filler-{number}": "x" * 100 for number in range(8000)})
            hand.save()
        with standing(migrated, own, colour, flushing=False) as up:
            own.kill()
            own._settings["key-load-delay"] = "5000"  # microseconds a key: 40 s in all
            own.start()
            with redis.Redis.from_url(own.url) as hand:
                assert hand.info("persistence")["loading"] == 1
            up.judge()
            token = ended_elsewhere(up)
            refused_within_the_bound(up, token)
            up.judge(revoked=token)
            with redis.Redis.from_url(own.url) as hand:
                assert hand.info("persistence")["loading"] == 1
        own.kill()


GREETINGS = {
    "says nothing": b"",
    "speaks HTTP": b"HTTP/1.1 400 Bad Request\r\nServer: nginx\r\n\r\n<html>no</html>",
    "speaks TLS": bytes.fromhex("15030300020228"),
    "an endless line": b"+" + b"x" * 100_000,
    "a huge bulk": b"$2147483647\r\nabc",
    "a nested array": b"*1\r\n" * 500,
    "noise": bytes(range(256)) * 8,
}


@pytest.mark.parametrize("colour", COLOURS)
@pytest.mark.parametrize("words", list(GREETINGS))
def test_p4_whatever_answers_at_the_address_of_redis_nobody_is_refused(
    migrated: str, server: Redis, words: str, colour: str
) -> None:
    with standing(migrated, server, colour, budget_ms=50) as up:
        up.proxy.greet(GREETINGS[words])
        up.proxy.reset()
        for _ in range(2):
            up.judge()
        assert sum(up.gate.fault_counts().values()) >= 1
        up.proxy.heal()


SLOW: dict[str, Callable[[Proxy], None]] = {
    "one byte at a time": lambda proxy: proxy.slice(0.001),
    "a trickle": lambda proxy: proxy.slice(0.03),
    "200 bytes a second": lambda proxy: proxy.narrow(200),
    "silence": Proxy.black_hole,
    "half-open": Proxy.half_open,
}


@pytest.mark.parametrize("colour", COLOURS)
@pytest.mark.parametrize("how", list(SLOW))
def test_p4_a_network_that_drips_costs_a_budget_and_nothing_else(
    migrated: str, server: Redis, how: str, colour: str
) -> None:
    """A socket's own timeout begins anew with every byte; the budget is one for all of them."""
    budget_s = 0.1
    with standing(migrated, server, colour, budget_ms=int(budget_s * 1000)) as up:
        SLOW[how](up.proxy)
        began = time.monotonic()
        for _ in range(3):
            up.judge()
        took = time.monotonic() - began
        # Nine requests; the breaker opens at the third that failed, a read and a fill for each.
        assert took <= 9 * 2 * budget_s + 1.0
        up.proxy.heal()


@pytest.mark.parametrize("colour", COLOURS)
def test_p2_crossed_replies_never_make_anybody_somebody_else(
    migrated: str, server: Redis, colour: str
) -> None:
    """CVE-2023-28858: the reply that another was waiting for. An entry carries its own digest."""
    with standing(migrated, server, colour, budget_ms=1000) as up:
        subjects = {f"user-{number}": b"" for number in range(8)}
        for subject in subjects:
            token = up.gate.show(sign(subject).encode()).token
            assert token is not None
            subjects[subject] = token
            up.gate.flush_memory()
            assert up.gate.show(token).kind == "admitted"  # and with it an entry in Redis
        revoked = ended_elsewhere(up)
        up.proxy.swap_replies()
        checked = wrong = 0
        deadline = time.monotonic() + 10.0
        with ThreadPoolExecutor(len(subjects) + 1) as pool:
            # A reply that was not its own closes the connections, so it may take some rounds.
            while up.proxy.swapped < 6 and time.monotonic() < deadline:
                up.gate.flush_memory()
                pairs = [*subjects.items(), ("nobody", revoked)]
                for (subject, _), answer in zip(
                    pairs, pool.map(lambda one: up.gate.show(one[1]), pairs), strict=True
                ):
                    checked += 1
                    if subject == "nobody":
                        wrong += answer.kind != "refused"
                    else:
                        wrong += (answer.kind, answer.subject) != ("admitted", subject)
        up.proxy.heal()
        counted("G8", "replies exchanged", up.proxy.swapped)
        counted("G8", "answers while they were", checked)
        counted("G8", "cross-user answers", wrong)
        assert up.proxy.swapped >= 4, "the fault was there"
        assert up.gate.fault_counts().get("crossed", 0) >= 1
        assert wrong == 0


@pytest.mark.parametrize("colour", COLOURS)
def test_p4_redis_is_used_again_once_it_is_back(migrated: str, server: Redis, colour: str) -> None:
    with standing(migrated, server, colour, budget_ms=50) as up:
        up.proxy.greet(b"")
        up.proxy.reset()
        for _ in range(3):
            up.judge()
        assert up.gate.fault_counts().get("skipped", 0) >= 1, "the breaker opened"
        up.proxy.heal()
        server.flush()
        deadline = time.monotonic() + 5 * LONGEST_PAUSE_S

        def back() -> bool:
            up.gate.flush_memory()
            up.gate.show(up.living["ann"])
            with redis.Redis.from_url(server.url) as hand:
                return bool(hand.dbsize()) or time.monotonic() > deadline

        until(back)
        with redis.Redis.from_url(server.url) as hand:
            assert hand.dbsize() >= 1
