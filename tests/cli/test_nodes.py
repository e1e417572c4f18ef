"""`migrator nodes` tells nodes apart, and how long the last move took to reach them."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.deployment import Deployment


@pytest.fixture
def place(migrated: str, tmp_path: Path) -> Deployment:
    return Deployment(migrated, tmp_path)


def states(place: Deployment) -> dict[str, str]:
    return {node["id"]: node["state"] for node in place.json("nodes")["nodes"]}


def test_each_kind_of_node_is_told_apart_and_explained(place: Deployment) -> None:
    place.beat("acked", "waiting", "stale", "rogue", "gone")
    place.beat("old", build="0.0.1")
    place.execute("UPDATE migrator.nodes SET epoch = 0 WHERE id = 'waiting'")
    place.execute("UPDATE migrator.nodes SET seen_at = now() - interval '8 s' WHERE id = 'stale'")
    over = "UPDATE migrator.nodes SET lease_until = now() - interval '5 s', seen_at = now() - "
    place.execute(f"{over}interval '1 s' WHERE id = 'rogue'")
    place.execute(f"{over}interval '60 s' WHERE id = 'gone'")
    assert states(place) == {
        "acked": "acked",
        "old": "acked",
        "waiting": "waiting",
        "stale": "stale",
        "rogue": "rogue",
        "gone": "gone",
    }
    lines = place.run("nodes").stdout.splitlines()
    assert lines[0].startswith("epoch 1: 3 of 4 live acknowledged, 2 expected")
    assert [line.split()[1] for line in lines[2:8]] == [
        *("rogue", "waiting", "stale", "acked", "acked", "gone")
    ]
    explained = [line.partition(":")[0] for line in lines[8:]]
    assert explained == ["rogue", "waiting", "stale", "gone", "old"]


def test_the_slowest_acknowledgement_of_the_last_move_is_measured(place: Deployment) -> None:
    place.beat("n1", "n2")
    assert place.json("nodes")["propagation_s"] is None
    place.put("swap", percent=1, ago="10 s")
    assert place.json("nodes")["propagation_s"] is None
    place.beat("n1", "n2")
    place.execute(
        "UPDATE migrator.nodes SET acked_at = (SELECT since + interval '2.9 s'"
        " FROM migrator.rollout) WHERE id = 'n1'"
    )
    place.execute(
        "UPDATE migrator.nodes SET acked_at = (SELECT since + interval '0.4 s'"
        " FROM migrator.rollout) WHERE id = 'n2'"
    )
    assert place.json("nodes")["propagation_s"] == pytest.approx(2.9)
    assert "the slowest took 2.9 s" in place.run("nodes").stdout


def test_a_crowd_of_nodes_still_fits_a_screen(place: Deployment) -> None:
    place.beat(*(f"host-{number:02}.internal.example:4711:abcdef" for number in range(40)))
    lines = place.run("nodes").stdout.splitlines()
    assert len(lines) <= 30
    assert max(map(len, lines)) <= 100
    assert "… 20 more: migrator nodes --json" in lines
