"""G13: who has no session costs next to nothing, makes nothing, and keeps nobody else waiting."""

from __future__ import annotations

import os
import random
import secrets
import statistics
import string
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import redis

from migrator import wiring
from migrator.core.meters import Meters
from migrator.core.presented import Credential, Presented
from migrator.core.tokens import mint
from shims.wsgi import DualAcceptMiddleware
from tests.apps.deployment import sign
from tests.counts import counted
from tests.http.servers import Server, bearer
from tests.rig import Rig
from tests.rig import sign as sign_of_rig

URL_SAFE = string.ascii_letters + string.digits + "-_"
ANSWERS = {200, 400, 401, 431}
TABLES = ("sessions", "legacy_tokens", "denials", "cutoffs", "feed")
MEGABYTE = 2**20
PACE_S = 0.02  # four senders: up to 200 a second, so that it is not this machine that is measured
# G13 says 0.3 ms of CPU; a shared machine measures what it likes, so three times that is a fault.
MOST_CPU_S = 3 * 0.0003


def garbage(dice: random.Random) -> str:
    """8 KB, more or less, of what no reader should spend time on; nothing of it is well formed."""
    text = "".join(dice.choices(URL_SAFE, k=8_000))
    at = sorted(dice.sample(range(1, 7_999), 2))
    shapes: list[Callable[[], str]] = [
        lambda: text,
        lambda: f"sess_{text}",
        lambda: f"sess_{text[:43]}{text[50:56]}",
        lambda: f"pat_{text[:49]}",
        lambda: ".".join((text[: at[0]], text[at[0] : at[1]], text[at[1] :])),
        lambda: "eyJhbGciOiJIUzI1NiJ9." + text[:7_000] + "." + text[:43],
        lambda: "eyJhbGciOiJub25lIn0." + text[:7_000] + ".",
        lambda: "." * 8_000,
        lambda: text[:4_000] + "=" * 4_000,
        lambda: text[:3_000] + "\xff\xfe" + text[3_000:],
        lambda: "e30." * 2_000,
        lambda: text + text[:200],
    ]
    return dice.choice(shapes)()


def rows(rig: Rig) -> dict[str, int]:
    return {table: rig.count(table) for table in TABLES}


def asked_of_redis(url: str) -> int:
    """What only a request asks of it."""
    with redis.Redis.from_url(url) as client:
        said: Any = client.info("commandstats")
    names = ("get", "set", "mget", "eval", "evalsha", "del", "setex")
    return sum(said.get(f"cmdstat_{name}", {}).get("calls", 0) for name in names)


def resident(server: Server) -> int:
    """Bytes that the server's processes have in memory together."""
    return sum(_resident(pid) for pid in _group(server.process.pid))


def _group(leader: int) -> Iterator[int]:
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                if os.getpgid(int(entry.name)) == leader:
                    yield int(entry.name)
            except ProcessLookupError:
                continue


def _resident(pid: int) -> int:
    pages = Path(f"/proc/{pid}/statm").read_text("ascii").split()[1]
    return int(pages) * os.sysconf("SC_PAGE_SIZE")


def flood(server: Server, dice: random.Random, times: int) -> set[int]:
    shapes, never = [garbage(dice) for _ in range(min(times, 500))], threading.Event()

    def send(number: int) -> int:
        never.wait(PACE_S)
        return server.get("/seen", bearer(shapes[number % len(shapes)])).status

    with ThreadPoolExecutor(4) as pool:
        return set(pool.map(send, range(times)))


def took_s(server: Server, token: str, times: int) -> list[float]:
    taken = []
    for _ in range(times):
        began = time.perf_counter()
        answer = server.get("/seen", bearer(token))
        taken.append(time.perf_counter() - began)
        assert answer.status == 200, answer
        assert answer.json["subject"] == "ann"
    return taken


def session_of(server: Server, subject: str) -> str:
    token = server.get("/seen", bearer(sign(subject))).get("Session-Token")
    assert token is not None
    return token


def withstand(server: Server, times: int) -> None:
    rig = server.deployment.rig
    token, dice = session_of(server, "ann"), random.Random(5)
    flood(server, dice, 100)  # warm
    alone = took_s(server, token, 60)
    before, held = rows(rig), resident(server)
    asked = asked_of_redis(str(server.deployment.redis))
    statuses: set[int] = set()
    flooding = threading.Thread(target=lambda: statuses.update(flood(server, dice, times)))
    flooding.start()
    beside = took_s(server, token, 60)
    flooding.join()
    grown = resident(server) - held
    assert statuses <= ANSWERS, statuses
    assert rows(rig) == before, "garbage made rows"
    # The good client's entry may have been forgotten once a minute meanwhile, and no more.
    assert asked_of_redis(str(server.deployment.redis)) - asked <= 2 + times // 1000
    assert grown < 10 * MEGABYTE, f"{grown / MEGABYTE:.1f} MB more"
    ratio = statistics.median(beside) / statistics.median(alone)
    counted(
        "G13",
        f"% of its usual time for good traffic beside it ({server.name})",
        round(100 * ratio),
    )
    counted("G13", f"KB grown ({server.name})", grown // 1024)
    counted("G13", "garbage credentials of 8 KB over HTTP", times)


def test_p10_garbage_makes_no_row_no_question_and_no_memory(server: Server) -> None:
    withstand(server, 600)


@pytest.mark.full
@pytest.mark.timeout(3600)
def test_p10_a_hundred_thousand_pieces_of_garbage_do_no_more(server: Server) -> None:
    withstand(server, 34_000)


def test_p10_good_users_swap_beside_a_flood_of_well_formed_unknown_tokens(server: Server) -> None:
    """Digests that nobody vouched for share a part of the connections, and no more."""
    rig = server.deployment.rig
    over = threading.Event()
    statuses: set[int] = set()
    sent = [0]

    def strangers() -> None:
        while not over.is_set():
            token = mint("sess", secrets.token_bytes(32)).decode()
            statuses.add(server.get("/seen", bearer(token)).status)
            sent[0] += 1

    crowd = [threading.Thread(target=strangers) for _ in range(12)]
    sessions = rig.count("sessions")
    for stranger in crowd:
        stranger.start()
    try:
        users = [f"good-{secrets.token_hex(4)}" for _ in range(25)]
        with ThreadPoolExecutor(2) as pool:
            answers = list(pool.map(lambda who: server.get("/seen", bearer(sign(who))), users))
    finally:
        over.set()
        for stranger in crowd:
            stranger.join()
    assert {answer.status for answer in answers} == {200}
    assert all(answer.get("Session-Token") for answer in answers)
    assert [answer.json["subject"] for answer in answers] == users
    assert statuses <= {401, 503}
    assert rig.count("sessions") == sessions + len(users), "an unknown token made a session"
    counted("G13", "well-formed unknown tokens beside good swaps", sent[0])


@contextmanager
def standing(rig: Rig) -> Iterator[DualAcceptMiddleware]:
    def app(_environ: Any, start_response: Any) -> list[bytes]:
        start_response("200 OK", [])
        return [b""]

    yield DualAcceptMiddleware(app, rig.settings())
    wiring.stop()


def asked(meters: Meters) -> tuple[int, int]:
    """How often requests asked Postgres, and the cache."""
    cache = meters.cache
    return sum(meters.store.counts), cache.absent + cache.found + cache.tombstones


def cost_of(rig: Rig, times: int) -> None:
    dice = random.Random(9)
    shapes = [garbage(dice) for _ in range(500)]
    with standing(rig) as middleware:
        node, meters = wiring.vitals(rig.settings())

        def ask(text: str) -> None:
            environ = {
                "REQUEST_METHOD": "GET",
                "PATH_INFO": "/",
                "QUERY_STRING": "",
                "REMOTE_ADDR": "192.0.2.1",
                "HTTP_AUTHORIZATION": f"Bearer {text}",
            }
            list(middleware(environ, lambda *_: lambda _: None))

        for text in shapes:
            ask(text)
        before = asked(meters), asked_of_redis(str(rig.redis_url)), rows(rig)
        began = time.thread_time()
        for number in range(times):
            ask(shapes[number % len(shapes)])
        cpu_s = (time.thread_time() - began) / times
        assert node.rollout is not None
        after = asked(meters), asked_of_redis(str(rig.redis_url)), rows(rig)
    assert after == before, "garbage was looked up"
    counted("G13", "microseconds of CPU for a piece of garbage", round(cpu_s * 1e6))
    assert cpu_s < MOST_CPU_S
    counted("G13", "garbage credentials of 8 KB in process", times)


def test_p10_garbage_asks_no_store_and_costs_little(migrated: str, redis_url: str) -> None:
    rig = Rig(migrated, redis_url)
    rig.move("swap")
    cost_of(rig, 3_000)


@pytest.mark.full
@pytest.mark.timeout(1800)
def test_p10_a_hundred_thousand_cost_no_more(migrated: str, redis_url: str) -> None:
    rig = Rig(migrated, redis_url)
    rig.move("swap")
    cost_of(rig, 100_000)


def test_p10_a_cold_start_asks_a_handful_of_questions_however_many_come(migrated: str) -> None:
    """64 threads, a process that remembers nothing: one read for all who come together.

    Before its first poll memory is not believed, so who comes later asks once more.
    """
    rig = Rig(migrated, memory={"poll_ms": 50, "trust_ms": 900})
    rig.move("swap")
    legacy = sign_of_rig("ann").encode()
    issuers = frozenset({"a1"})
    first = wiring.gate(rig.settings())
    verdict: Any = first.admit(Presented(header=Credential(legacy, "header", issuers))).verdict
    wiring.stop()
    for credential in (verdict.hand_out, sign_of_rig("bob").encode(), legacy):
        gate = wiring.gate(rig.settings())
        _, meters = wiring.vitals(rig.settings())
        barrier = threading.Barrier(64)
        told: list[str] = []

        def come(gate: Any = gate, credential: bytes = credential, told: Any = told) -> None:
            barrier.wait(20)  # noqa: B023 - joined before the next round
            presented = Presented(header=Credential(credential, "header", issuers))
            told.append(gate.admit(presented).verdict.principal.subject)

        threads = [threading.Thread(target=come) for _ in range(64)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
        # Where everybody stands, what time it is, and the session itself a few times.
        questions, _ = asked(meters)
        wiring.stop()
        assert len(told) == 64
        assert len(set(told)) == 1
        assert questions <= 8
        counted("G13", "requests of one credential at a cold start", 64)


def test_what_was_not_swapped_because_of_the_limit_is_told_to_operators(migrated: str) -> None:
    rig = Rig(migrated, swap={"per_minute": 2})
    rig.move("drain")
    settings = rig.settings()
    gate = wiring.gate(settings)
    answers: list[Any] = [
        gate.admit(Presented(header=Credential(token, "header", frozenset({"a1"})))).verdict
        for token in [sign_of_rig("robot").encode() for _ in range(5)]
    ]
    assert [answer.hand_out is not None for answer in answers] == [True] * 2 + [False] * 3
    assert {answer.principal.subject for answer in answers} == {"robot"}
    families = wiring.vitals(settings)[0].usage.totals()
    wiring.stop()  # flushes
    assert families["a1", "unswapped"] == 3
    assert rig.count("sessions") == 2
    told = rig.execute("SELECT sum(count) FROM migrator.legacy_usage WHERE outcome = 'unswapped'")
    assert told == [(3,)]
