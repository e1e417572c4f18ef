"""Acceptance: 24 nodes through a whole rollout and all the way back.

With lag, restarts, a crash, a node that goes deaf and serves on, and one that is rogue; under
traffic all the time. No request is wrongly refused or admitted, and status never calls in effect
what a living node does not act under.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from migrator.control import flip
from migrator.core.phases import Exemption, Phase, Rollout
from tests.cli.deployment import LIFETIMES, Deployment
from tests.control.simulated import Crowd, Heart, SimNode, World, fleet, people

SIZE = 24
SEED = 20261123


class Stage:
    """A rollout under traffic, moved by commands."""

    def __init__(
        self, place: Deployment, nodes: list[SimNode], heart: Heart, *, crowds: int, persons: int
    ) -> None:
        self.place = place
        self.nodes = nodes
        self.heart = heart
        self.world = World()
        self.note()
        everybody = people(persons)
        # A crowd each to its own people, so that what a person holds changes in one place.
        self.crowds = [
            Crowd(self.world, nodes, everybody[number::crowds], seed=SEED + number)
            for number in range(crowds)
        ]

    def note(self) -> None:
        stands = flip.read(self.place.settings)[0]
        self.world.rollouts[stands.epoch] = stands

    def for_a_while(self, requests: int) -> None:
        """Traffic goes on for so many more requests; nothing was wrong with any so far."""
        answered = self.world.counts["requests"]
        until, moved_at = answered + requests, time.monotonic()
        while answered < until and not self.world.wrong:
            time.sleep(0.01)
            before, answered = answered, self.world.counts["requests"]
            moved_at = moved_at if answered == before else time.monotonic()
            assert time.monotonic() < moved_at + 30, "the crowd stands still"
        assert self.world.wrong == []

    def move(self, *args: str, code: int = 0) -> dict[str, Any]:
        """Move, hold what the result says to what the nodes do, and let traffic go on."""
        # The epoch is known to the world before any node can act under it.
        stands = flip.read(self.place.settings)[0]
        confirm = () if args[0] == "rollback" else ("--confirm", "staging")
        self._expect(stands.epoch + 1, args)
        found = self.place.json(*args, *confirm, code=code)
        if found["changed"]:
            self.note()
            if found["state"] == "in_effect":
                self.holds_in_effect(found["epoch"])
        return found

    def _expect(self, epoch: int, args: tuple[str, ...]) -> None:
        """What the oracle is told of a move while it is under way: the table of what would be."""
        planned = self.place.json_any(*args, "--dry-run")
        # Its gates may let it through a moment later: whatever is no page and leads on is told.
        if planned.get("would_change") or planned.get("gates"):
            before = self.world.rollouts[epoch - 1]
            self.world.rollouts[epoch] = wanted(before, planned)

    def holds_in_effect(self, epoch: int) -> None:
        behind = [node.name for node in self.living() if node.acts.epoch < epoch]
        assert behind == [], f"said to be in effect at {epoch}"
        self.world.floor = max(self.world.floor, epoch)

    def living(self) -> list[SimNode]:
        alive = {
            name
            for (name,) in self.place.execute(
                "SELECT id FROM migrator.nodes WHERE lease_until > clock_timestamp()"
            )
        }
        return [node for node in self.nodes if node.name in alive]

    def status(self) -> dict[str, Any]:
        found = self.place.json("status")
        if found["phase"]["state"] == "in_effect":
            self.holds_in_effect(found["phase"]["epoch"])
        return found

    def state_of(self, node: SimNode) -> str:
        rows = {one["id"]: one["state"] for one in self.place.json("nodes")["nodes"]}
        state: str = rows[node.name]
        return state

    def until(self, holds: Callable[[], bool]) -> None:
        deadline = time.monotonic() + 20
        while not holds():
            assert time.monotonic() < deadline
            assert self.world.wrong == []
            time.sleep(0.05)

    def lease_passes(self, node: SimNode) -> None:
        self.place.execute(
            "UPDATE migrator.nodes SET lease_until = clock_timestamp() - interval '5 s',"
            " seen_at = clock_timestamp() - interval '15 s' WHERE id = %s",
            node.name,
        )
        node.go_deaf()

    def falls_silent(self, node: SimNode) -> None:
        self.place.execute(
            "UPDATE migrator.nodes SET seen_at = clock_timestamp() - interval '10 minutes',"
            " lease_until = clock_timestamp() - interval '11 minutes' WHERE id = %s",
            node.name,
        )

    def restart(self, node: SimNode, *, crash: bool = False) -> None:
        """Another process takes its place; of a crash the old row stays until the lease ends."""
        index = self.nodes.index(node)
        self.heart.freeze(node)
        fresh = SimNode(node.house.settings, f"{node.name}b")
        self.nodes[index] = fresh
        time.sleep(0.1)  # requests under way at the old one come to their end
        if crash:
            self.lease_passes(node)
        else:
            node.pulse._flush()
            node.pulse._feed.leave(node.name)
        node.close()

    def stop(self) -> None:
        for crowd in self.crowds:
            crowd.stop()
        assert self.world.wrong == []


def wanted(before: Rollout, planned: dict[str, Any]) -> Rollout:
    """The rollout as it stands after a move that was rehearsed."""
    return replace(
        before,
        phase=Phase(planned["to"].split()[0]),
        percent=planned["percent"],
        epoch=before.epoch + 1,
        exceptions=tuple(
            Exemption(one["by"], one["value"], Phase(one["phase"]))
            for one in planned["exceptions"]
        ),
    )


def whole_rollout(stage: Stage, *, requests: int) -> None:
    """Forward to cutover and back to observe, with everything that goes wrong on the way."""
    dice = random.Random(SEED)
    place, nodes = stage.place, stage.nodes
    for node in nodes:
        node.lag_s = dice.choice((0.0, 0.1, 0.3, 0.6))
    stage.for_a_while(requests)

    assert stage.move("advance", "swap", "--percent", "10")["state"] == "in_effect"
    stage.for_a_while(requests)
    stage.status()

    # One falls behind: the move is committed, told as not acknowledged, and holds up the next.
    deaf = nodes[3]
    stage.heart.freeze(deaf)
    found = stage.move("advance", "swap", "--percent", "100", "--wait", "1.5", code=7)
    assert (found["state"], found["waiting_on"]) == ("propagating", [deaf.name])
    assert stage.status()["phase"]["state"] == "propagating"
    assert "nodes-acked" in stage.move("advance", "drain", code=3)["error"]["what"]
    stage.for_a_while(requests)

    # Its lease passes and it serves on: rogue. It asks before it acts, and blocks all the same.
    stage.lease_passes(deaf)
    stage.until(lambda: stage.state_of(deaf) == "rogue")
    assert stage.status()["nodes"]["rogue"] == 1
    assert "still seen" in stage.move("advance", "drain", "--nodes", "23", code=3)["error"]["what"]

    # Taken out of the balancer it is silent, then gone; back in, what it answers is right.
    nodes.remove(deaf)
    time.sleep(0.1)
    stage.falls_silent(deaf)
    assert stage.state_of(deaf) == "gone"
    assert stage.move("advance", "drain", "--nodes", "23")["state"] == "in_effect"
    nodes.append(deaf)
    for _ in range(20):  # until chance sends it one that it may not answer by what it remembers
        stage.for_a_while(requests)
        if deaf.acts.epoch == stage.world.floor:
            break
    assert deaf.acts.epoch == stage.world.floor, "it asked"
    deaf.frozen = False
    stage.until(lambda: stage.state_of(deaf) == "acked")

    stage.restart(nodes[5])
    stage.restart(nodes[7], crash=True)
    stage.until(lambda: stage.status()["nodes"]["acked"] == SIZE)
    stage.for_a_while(requests)

    for gate in ("drain-horizon", "legacy-seen"):
        decided = ("--reason", "stragglers", "--for", "1h", "--confirm", "staging")
        place.json("override", "add", gate, *decided)
    assert stage.move("cutover", "--segment", "client=bot", "--unseen")["state"] == "in_effect"
    stage.for_a_while(requests)

    slow = nodes[9]
    stage.heart.freeze(slow)
    found = stage.move("cutover", "--all", "--wait", "1.5", code=7)
    assert found["waiting_on"] == [slow.name]
    assert stage.status()["phase"]["state"] != "in_effect"
    stage.for_a_while(requests)
    slow.frozen = False
    assert stage.move("cutover", "--all")["changed"] is False
    stage.until(lambda: stage.status()["phase"]["state"] == "in_effect")
    stage.for_a_while(requests)

    for phase in ("drain", "swap", "observe"):
        found = stage.move("rollback", "--to", phase)
        assert found["state"] == "in_effect"
        stage.status()
        stage.for_a_while(requests)
    stage.stop()


@pytest.fixture
def place(migrated: str, tmp_path: Path) -> Deployment:
    return Deployment(migrated, tmp_path, expected=SIZE, lifetimes=LIFETIMES)


def test_p7_24_nodes_go_all_the_way_and_back_and_no_request_is_answered_wrongly(
    place: Deployment,
) -> None:
    with fleet([place.settings] * SIZE) as (nodes, heart):
        stage = Stage(place, nodes, heart, crowds=2, persons=60)
        try:
            whole_rollout(stage, requests=150)
        finally:
            for crowd in stage.crowds:
                crowd.stop()
        counts = stage.world.counts
        seen = ("session", "legacy", "handed out", "refused", "ended", "forged", "issued session")
        assert all(counts[what] for what in (*seen, "issued legacy")), counts


@pytest.mark.full
@pytest.mark.timeout(3600)
def test_p7_24_nodes_go_to_and_fro_under_long_traffic(place: Deployment) -> None:
    with fleet([place.settings] * SIZE) as (nodes, heart):
        stage = Stage(place, nodes, heart, crowds=3, persons=600)
        try:
            whole_rollout(stage, requests=20_000)
        finally:
            for crowd in stage.crowds:
                crowd.stop()
