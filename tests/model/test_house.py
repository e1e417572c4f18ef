"""G6: a real deployment and a model of a hundred lines, through the same life: never apart.

What is played is life.py's, the real side house.py's, what must be answered model.py's. The last
two are lives that showed a fault once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import Phase as Stage
from hypothesis.stateful import run_state_machine_as_test

from tests.counts import counted
from tests.model.house import House
from tests.model.life import Life


@pytest.fixture
def house(migrated: str, redis_url: str) -> Iterator[House]:
    with asyncio.Runner() as runner:
        built = House(migrated, redis_url, runner.get_loop())
        yield built
        built.close()


def live(house: House, lives: int, steps: int) -> dict[str, int]:
    """Play so many lives; what was counted, none of it apart from the model."""
    Life.house, Life.counts = house, {"lives": 0, "answers": 0}
    quick = settings(
        max_examples=lives,
        stateful_step_count=steps,
        deadline=None,
        derandomize=True,
        database=None,
        phases=[Stage.generate, Stage.shrink],
        suppress_health_check=list(HealthCheck),
    )
    run_state_machine_as_test(Life, settings=quick)
    counted("G6", f"lives of up to {steps} steps", Life.counts["lives"])
    counted("G6", "answers as the model's", Life.counts["answers"])
    return Life.counts


def test_p2_a_jwt_remembered_before_another_node_swapped_it_goes_with_that_session(
    house: House,
) -> None:
    """The feed names a digest alone, and what was remembered before it knew of none."""
    house.begin()
    house.move("drain", 100)
    one, other = house.nodes
    one.poll()
    other.poll()
    jwt = house.sign(iat=0, exp=4500, kid="k1", alg="ES256", sub="ann", iss="one")
    assert other.show(jwt, query=True).said == "in"  # a place that is given no session
    token = one.show(jwt).token
    assert token is not None
    one.end(token)
    other.poll()
    assert [other.show(jwt, query=query).said for query in (True, False)] == ["out", "out"]
    house.end()


def test_p2_a_jwt_whose_session_was_regenerated_and_then_idled_does_not_come_back_in_observe(
    house: House,
) -> None:
    """Superseded was asked last, and an idle end does not bind where the app decides."""
    house.begin()
    house.move("drain", 100)
    node = house.nodes[0]
    node.poll()
    jwt = house.sign(iat=0, exp=9300, kid="k1", alg="ES256", sub="ann", iss="one")
    token = node.show(jwt).token
    assert token is not None
    house.regenerate(token)
    node.poll()
    house.step(2400)
    house.move("observe", 0)
    node.poll()
    assert node.show(jwt).said == "out"
    house.end()


def test_p2_a_deployment_answers_as_its_model_through_whatever_happens(house: House) -> None:
    counts = live(house, 40, 40)
    assert counts["answers"] > 1000, counts


@pytest.mark.full
@pytest.mark.timeout(3600)
def test_p2_a_deployment_answers_as_its_model_at_length(house: House) -> None:
    counts = live(house, 300, 50)
    assert counts["answers"] > 10_000, counts
