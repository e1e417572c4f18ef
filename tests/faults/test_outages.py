"""P4: an outage is not a logout. Real servers are killed and frozen under a node's feet.

A request is answered right, or with 503: never with 401 because something could not be asked.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Iterator

import pytest

from migrator import wiring
from migrator.core.errors import Unavailable
from migrator.core.presented import Credential, Presented
from migrator.core.verdicts import Admitted
from migrator.stores.breaker import LONGEST_PAUSE_S
from tests.faults.deployment import Deployment, deployment
from tests.faults.nodes import present
from tests.rig import sign

pytestmark = pytest.mark.xdist_group("faults-outages")

BUDGET_S = 1.0
REDIS_BUDGET_S = 0.05
RECOVERY_S = 15.0
# A busy machine's own hesitation, on top of what is promised.
SLACK_S = 0.3


@pytest.fixture(scope="module")
def shared() -> Iterator[Deployment]:
    with deployment() as up:
        yield up


@pytest.fixture
def up(shared: Deployment) -> Iterator[Deployment]:
    """Everything up, before and after; that it recovers by itself is part of every test."""
    yield shared
    shared.heal()
    recovers(shared)


def recovers(up: Deployment) -> None:
    """Legacy tokens never seen are swapped, and what is remembered is trusted again."""
    deadline = time.monotonic() + RECOVERY_S
    while up.node.show(sign("anybody").encode()).kind != "admitted":
        assert time.monotonic() < deadline, "it does not recover by itself"
        time.sleep(0.05)


def in_redis(up: Deployment) -> bytes:
    """A token that Redis knows, once the node asks Redis again: a test may have killed it."""
    _, token = up.swapped("cached")
    up.cache(token)
    time.sleep(LONGEST_PAUSE_S)
    return token


def test_p4_with_redis_killed_every_request_is_still_answered_right(up: Deployment) -> None:
    legacy, token = up.swapped("ann")
    _, ended = up.swapped("bob")
    up.operator().end(ended)
    up.redis.kill()
    deadline = time.monotonic() + 1.5
    while time.monotonic() < deadline:
        fresh = sign("cid").encode()
        assert up.node.show(token).subject == "ann"
        assert up.node.show(legacy).subject == "ann"
        assert up.node.show(fresh).subject == "cid"
        assert up.node.show(ended).kind in {"refused", "admitted"}
        time.sleep(0.02)
    assert up.node.show(ended).kind == "refused"
    assert up.node.show(token[:-1] + b"x").kind == "refused"


def test_p4_with_postgres_killed_cached_sessions_are_answered_and_nobody_is_refused(
    up: Deployment,
) -> None:
    _, uncached = up.swapped("uncached")
    cached = in_redis(up)
    up.postgres.kill()
    time.sleep(BUDGET_S)  # memory's trust is over: from here on the cache has to answer
    for _ in range(20):
        assert up.node.show(cached).subject == "cached"
        assert up.node.show(uncached).kind == "unavailable"
        assert up.node.show(sign("unseen").encode()).kind == "unavailable"
        time.sleep(0.02)
    up.postgres.start()
    deadline = time.monotonic() + RECOVERY_S
    while (answer := up.node.show(uncached)).kind != "admitted":
        assert answer.kind == "unavailable", "recovering, it logs nobody out"
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_p4_with_postgres_frozen_cached_sessions_are_answered(up: Deployment) -> None:
    """One request may wait the budget out, before the pulse knows that nobody can be asked."""
    cached = in_redis(up)
    up.postgres.pause()
    time.sleep(BUDGET_S)
    took = []
    for _ in range(20):
        began = time.monotonic()
        assert up.node.show(cached).subject == "cached"
        took.append(time.monotonic() - began)
    assert max(took) <= BUDGET_S + SLACK_S
    assert sorted(took)[len(took) // 2] <= REDIS_BUDGET_S


def test_p4_with_both_killed_and_back_it_recovers_by_itself(up: Deployment) -> None:
    legacy, token = up.swapped("dee")
    up.postgres.kill()
    up.redis.kill()
    time.sleep(BUDGET_S)
    assert {up.node.show(one).kind for one in (legacy, token)} == {"unavailable"}
    up.redis.start()
    up.postgres.start()
    recovers(up)
    assert {up.node.show(one).subject for one in (legacy, token)} == {"dee"}


@pytest.mark.parametrize("how", ["frozen", "black hole", "half-open"])
def test_p4_a_silent_postgres_is_unavailable_within_the_budget(up: Deployment, how: str) -> None:
    """Frozen, psycopg itself would wait for ever; only a socket shut from outside ends that."""
    up.swapped("warm")
    silence: dict[str, Callable[[], None]] = {
        "frozen": up.postgres.pause,
        "black hole": up.to_postgres.black_hole,
        "half-open": up.to_postgres.half_open,
    }
    silence[how]()
    took = []
    for number in range(3):
        began = time.monotonic()
        answer = up.node.show(sign(f"silent-{number}").encode())
        took.append(time.monotonic() - began)
        # Only what was open is half-open: a new connection serves.
        assert answer.kind in (
            {"unavailable", "admitted"} if how == "half-open" else {"unavailable"}
        )
    assert max(took) <= BUDGET_S + SLACK_S


@pytest.mark.parametrize("colour", ["blocking", "async"])
def test_p4_a_frozen_postgres_costs_the_budget_in_either_colour(
    up: Deployment, colour: str
) -> None:
    settings = up.rig.settings()
    gate, waiting_gate = wiring.gate(settings), wiring.async_gate(settings)

    def presented(subject: str) -> Presented:
        credential = Credential(sign(subject).encode(), "header", frozenset({"a1"}))
        return Presented(header=credential)

    async def many() -> tuple[float, float]:
        first = await waiting_gate.admit(presented("warm"))
        assert isinstance(first.verdict, Admitted)
        up.postgres.pause()
        longest_stall, over = 0.0, asyncio.Event()

        async def watch_loop() -> None:
            nonlocal longest_stall
            while not over.is_set():
                began = time.monotonic()
                await asyncio.sleep(0.01)
                longest_stall = max(longest_stall, time.monotonic() - began - 0.01)

        watcher = asyncio.create_task(watch_loop())
        began = time.monotonic()
        answers = await asyncio.gather(
            *(waiting_gate.admit(presented(f"async-{n}")) for n in range(20)),
            return_exceptions=True,
        )
        took = time.monotonic() - began
        over.set()
        await watcher
        assert all(isinstance(answer, Unavailable) for answer in answers), answers
        return took, longest_stall

    try:
        if colour == "async":
            took, stalled = asyncio.run(many())
            assert stalled <= 0.2, "the event loop was blocked"
        else:
            assert present(gate, sign("warm").encode()).kind == "admitted"
            up.postgres.pause()
            began = time.monotonic()
            assert present(gate, sign("blocking").encode()).kind == "unavailable"
            took = time.monotonic() - began
        assert took <= BUDGET_S + SLACK_S
    finally:
        up.postgres.resume()
        wiring.stop()


def test_p4_a_frozen_redis_costs_its_budget_a_few_times_and_then_nothing(up: Deployment) -> None:
    tokens = [up.swapped(f"frozen-{number}")[1] for number in range(30)]
    gate = wiring.gate(up.rig.settings())
    try:
        assert present(gate, sign("warm").encode()).kind == "admitted"
        up.redis.pause()
        took = []
        for token in tokens:
            began = time.monotonic()
            assert present(gate, token).kind == "admitted"
            took.append(time.monotonic() - began)
        # One question and one fill, each within its budget, until the breaker opens.
        assert max(took) <= 2 * REDIS_BUDGET_S + SLACK_S
        assert sum(one > REDIS_BUDGET_S for one in took) <= 5
        assert sorted(took)[len(took) // 2] <= REDIS_BUDGET_S / 2
    finally:
        up.redis.resume()
        wiring.stop()


def test_p11_the_hit_path_does_no_io_both_servers_frozen_it_answers(up: Deployment) -> None:
    rig = up.rig
    gate = wiring.gate(rig.settings(memory={"poll_ms": 400, "trust_ms": 5000}))
    try:
        legacy = sign("hit").encode()
        token = present(gate, legacy).token
        assert token is not None
        deadline = time.monotonic() + 5
        while gate.node.recent.trusted_until == 0:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        assert present(gate, legacy).kind == "admitted"
        up.postgres.pause()
        up.redis.pause()
        began = time.monotonic()
        answers = [present(gate, one).kind for _ in range(500) for one in (token, legacy)]
        assert set(answers) == {"admitted"}
        assert time.monotonic() - began < 1.0, "a single question would have cost more"
    finally:
        up.heal()
        wiring.stop()


def test_p4_a_slow_network_costs_latency_and_nothing_else(up: Deployment) -> None:
    up.to_postgres.lag(0.03)
    up.to_redis.lag(0.03)
    legacy, token = up.swapped("slow")
    for _ in range(5):
        assert {up.node.show(one).subject for one in (legacy, token)} == {"slow"}


def test_p1_a_swap_whose_answer_was_lost_is_given_the_same_token_next_time(up: Deployment) -> None:
    """The connection to Postgres dies at random moments, before, in or after the commit."""
    for number in range(25):
        legacy = sign(f"lost-{number}").encode()
        up.node.tell("show", token=legacy)
        time.sleep(random.uniform(0, 0.006))
        up.to_postgres.reset()
        answers = [up.node.hear()]
        while answers[-1].kind != "admitted":
            assert answers[-1].kind == "unavailable"
            answers.append(up.node.show(legacy))
        token = answers[-1].token
        assert up.node.show(legacy).token == token
        assert up.rig.count("sessions", f"subject = 'lost-{number}'") == 1
        assert token is not None
        assert up.node.show(token).subject == f"lost-{number}"


def test_p4_connections_reset_at_any_moment_log_nobody_out(up: Deployment) -> None:
    legacy, token = up.swapped("reset")
    up.node.tell("watch", token=token, seconds=1.5)
    for _ in range(10):
        up.to_postgres.reset()
        up.to_redis.reset()
        time.sleep(0.1)
    watched = up.node.hear()
    assert watched.refused_at is None
    assert up.node.show(legacy).token == token
