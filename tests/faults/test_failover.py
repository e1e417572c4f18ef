"""P2 and G10: a failover to a synchronous standby loses no revocation that was acknowledged.

The standby stops hearing a moment before the primary dies: what is committed then is known to the
primary alone. Nobody may be told that it is done, by whatever way the wait for the standby ended.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import jwt
import pytest

from migrator.cli.demo.servers import embedded_redis
from migrator.control import schema
from tests.counts import counted
from tests.faults.colours import Asked, asked
from tests.faults.nodes import Node, nodes
from tests.faults.proxy import proxied
from tests.faults.standby import Pair, ask, pairs, until
from tests.rig import Rig, sign

pytestmark = pytest.mark.xdist_group("faults-failover")

COLOURS = ("blocking", "async")
BUDGET_MS = 300
Held = tuple[bytes, bytes]


def timed_out(_pair: Pair, gate: Asked, token: bytes) -> bool:
    """The standby is silent for longer than the budget."""
    return gate.end(token)


def cancelled(pair: Pair, gate: Asked, token: bytes) -> bool:
    """Somebody cancels the wait: Postgres then says COMMIT, and warns."""
    return _disturbed(pair, gate, token, "pg_cancel_backend")


def terminated(pair: Pair, gate: Asked, token: bytes) -> bool:
    """Somebody ends the connection: it is asked again, and finds the session ended already."""
    return _disturbed(pair, gate, token, "pg_terminate_backend")


def terminated_and_repeated(pair: Pair, gate: Asked, token: bytes) -> bool:
    """As above, and the operator repeats what was not acknowledged."""
    return _disturbed(pair, gate, token, "pg_terminate_backend") or gate.end(token)


WAYS = (timed_out, cancelled, terminated, terminated_and_repeated)


def test_p2_g10_no_failover_loses_a_revocation_that_was_acknowledged() -> None:
    fail_over(1)


@pytest.mark.full
@pytest.mark.timeout(1800)
def test_p2_g10_a_hundred_failovers_lose_no_revocation_that_was_acknowledged() -> None:
    fail_over(100)


def fail_over(rounds: int) -> None:
    with embedded_redis() as cache, pairs(rounds) as each:
        for number, pair in enumerate(each):
            play(number, pair, cache.url)
            cache.flush()


def play(number: int, pair: Pair, redis_url: str) -> None:
    url = pair.primary.create_database(f"failover_{number}")
    schema.upgrade(url)
    pair.synchronise()
    rig = Rig(url, redis_url, database={"budget_ms": BUDGET_MS})
    rig.move("drain")
    acknowledged: dict[Held, bool] = {}
    with proxied(url, 5432) as proxy:
        through = Rig(proxy.url_of(url), redis_url)
        with nodes(through.settings()) as (node,):
            held = [swapped(node, f"user-{each}") for each in range(10)]
            with ExitStack() as stack:
                gates = [stack.enter_context(asked(one, rig.settings())) for one in COLOURS]
                for gate, pair_of in zip(gates, held, strict=False):
                    acknowledged[pair_of] = gate.end(pair_of[1])
                assert all(acknowledged.values()), "the standby hears: nothing to wait for"
                pair.stop_sending()
                tries = [(gate, way) for gate in gates for way in WAYS]
                for (gate, way), pair_of in zip(tries, held[2:], strict=True):
                    acknowledged[pair_of] = way(pair, gate, pair_of[1])
                    assert not acknowledged[pair_of], way.__doc__
                pair.fail_over()
            proxy.leads_to("127.0.0.1", pair.standby.port)
            proxy.reset()
            after = Rig(f"{proxy.url_of(url)}", redis_url)
            answers = {pair_of: settled(node, pair_of) for pair_of in held}
            ended = {name for (name,) in after.execute(_ENDED)}
    lost = [one for one, done in acknowledged.items() if done and answers[one] != {"refused"}]
    false = [one for one in held if answers[one] == {"refused"} and subject_of(one) not in ended]
    counted("G10", "failovers")
    counted("G10", "endings during them", len(held))
    counted("G10", "acknowledged", sum(acknowledged.values()))
    counted("G10", "acknowledged and alive", len(lost))
    counted("G10", "false 401", len(false))
    assert not lost
    assert not false


_ENDED = "SELECT subject FROM migrator.sessions WHERE revoked_at IS NOT NULL"


def _disturbed(pair: Pair, gate: Asked, token: bytes, act: str) -> bool:
    """End a session, and do that to its backend while it waits for the standby."""
    before = set(pair.waiting())
    with ThreadPoolExecutor(1) as pool:
        ending = pool.submit(gate.end, token)
        until(lambda: set(pair.waiting()) - before or ending.done())
        for pid in set(pair.waiting()) - before:
            ask(pair.primary, f"SELECT {act}({pid})")
        return ending.result(30)


def swapped(node: Node, subject: str) -> Held:
    legacy = sign(subject).encode()
    token = node.show(legacy).token
    assert token is not None
    return legacy, token


def subject_of(held: Held) -> str:
    subject: str = jwt.decode(held[0], options={"verify_signature": False})["sub"]
    return subject


def settled(node: Node, held: Held) -> set[str]:
    """How both credentials are answered, once the node can ask again."""
    kinds: set[str] = set()
    for one in held:
        until(lambda: node.show(one).kind != "unavailable")  # noqa: B023 - called at once
        kinds.add(node.show(one).kind)
    return kinds
