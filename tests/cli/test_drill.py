"""The drill: the way back really gone, everything afterwards exactly as before, and on record."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from migrator.control import flip
from migrator.core.soaks import Back
from tests.cli.deployment import Deployment
from tests.cli.test_moves import NODES, dump
from tests.conftest import DatabaseServer

DRILL = ("rollback", "--drill")


@pytest.fixture
def place(migrated: str, tmp_path: Path) -> Deployment:
    return Deployment(migrated, tmp_path)


def stands(place: Deployment) -> list[tuple[Any, ...]]:
    return place.execute("SELECT phase, percent, exceptions FROM migrator.rollout")


def ask_for_drills(place: Deployment, within: str) -> None:
    text = place.config.read_text()
    place.config.write_text(text.replace("[gates]\n", f'[gates]\ndrill_within = "{within}"\n'))


def gate(place: Deployment, phase: str = "cutover") -> dict[str, Any]:
    found = place.json_any("gates", phase)["gates"]
    judged: dict[str, Any] = {one["id"]: one for one in found}["rollback-drill"]
    return judged


@pytest.mark.parametrize(("phase", "percent"), [("swap", 30), ("drain", 100), ("cutover", 100)])
def test_a_drill_leaves_everything_as_it_stood_and_measures_both_ways(
    place: Deployment, phase: str, percent: int
) -> None:
    place.put(phase, percent=percent)
    if phase == "cutover":
        place.execute(
            "UPDATE migrator.rollout SET exceptions ="
            ' \'[{"by": "client", "value": "bot", "phase": "drain"}]\''
        )
    before, drained = stands(place), place.value("SELECT drain_since FROM migrator.rollout")
    with place.nodes(*NODES):
        found = place.json(*DRILL, "--reason", "monthly")
    assert stands(place) == before
    assert found["drill"]["finished"]
    assert found["drill"]["back_s"] >= 0
    assert found["drill"]["forward_s"] >= 0
    assert found["state"] == "in_effect"
    rows = [row for row in place.json("log")["rows"] if row["command"] == "rollback --drill"]
    assert len(rows) == 3
    assert rows[0]["detail"]["drill"]["finished"]
    again = place.value("SELECT drain_since FROM migrator.rollout")
    assert (again == drained) == (phase != "drain")  # the horizon starts anew with the drain


def test_a_drill_says_its_price_first_and_both_ways(place: Deployment) -> None:
    place.put("drain")
    with place.nodes(*NODES):
        said = place.run(*DRILL).stderr
    assert said.startswith("drill: drain → swap → drain")
    assert said.index("the drain horizon starts anew") < said.index("committed epoch")
    assert said.count("in effect") == 2
    assert all(len(line) <= 100 for line in said.splitlines())


def test_a_drill_that_was_killed_half_way_is_finished_by_running_it_again(
    place: Deployment,
) -> None:
    place.put("cutover")
    before = stands(place)
    place.beat(*NODES)
    command = Path(sys.executable).parent / "migrator"
    process = subprocess.Popen(
        [str(command), "--config", str(place.config), *DRILL, "--wait", "60"],
        env={**os.environ, **place.environ},
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    said = ""
    while "committed epoch" not in said:
        line = process.stderr.readline()
        assert line, said
        said += line
    process.kill()
    process.communicate(timeout=20)
    assert place.phase()[0] == "drain"
    warned = {one["id"]: one for one in place.json("status")["warnings"]}
    assert warned["drill.unfinished"]["command"] == "migrator rollback --drill"
    with place.nodes(*NODES):
        found = place.json(*DRILL)
        assert found["drill"]["resumed"]
        assert found["drill"]["finished"]
        assert stands(place) == before
        ids = [one["id"] for one in place.json("status")["warnings"]]
        assert "drill.unfinished" not in ids


def test_an_ordinary_move_ends_a_half_drill(place: Deployment) -> None:
    place.put("cutover")
    place.beat(*NODES)
    back = Back.to(flip.read(place.settings)[0])
    place.execute(
        "UPDATE migrator.rollout SET phase = 'drain', epoch = epoch + 1",
    )
    place.execute(
        "INSERT INTO migrator.rollout_log (who, command, from_phase, to_phase, epoch, detail)"
        " SELECT 'kim', 'rollback --drill', 'cutover', 'drain', epoch,"
        " jsonb_build_object('drill', jsonb_build_object('restores', %s::jsonb))"
        " FROM migrator.rollout",
        json.dumps(back.as_json()),
    )
    with place.nodes(*NODES):
        assert place.json("rollback")["to"] == "swap 100 %"
        assert place.json(*DRILL)["to"] == "swap 100 %"


def test_nodes_that_do_not_follow_make_no_finished_drill(place: Deployment) -> None:
    place.put("cutover")
    place.beat(*NODES)
    before = stands(place)
    ask_for_drills(place, "14d")
    found = place.json(*DRILL, "--wait", "0.3", code=7)
    assert not found["drill"]["finished"]
    assert stands(place) == before
    assert gate(place, "retire")["detail"] == "never drilled"


def test_the_gate_asks_for_a_drill_that_is_young_enough(place: Deployment) -> None:
    place.put("drain")
    with place.nodes(*NODES):
        assert "rollback-drill" not in [
            one["id"] for one in place.json_any("gates", "cutover")["gates"]
        ]
        ask_for_drills(place, "14d")
        judged = gate(place)
        assert (judged["result"], judged["value"]) == ("fail", None)
        assert judged["command"] == "migrator rollback --drill"
        assert judged["overridable"]
        place.run(*DRILL)
        assert gate(place)["result"] == "pass"
        place.execute("UPDATE migrator.rollout_log SET at = at - interval '16 days'")
        judged = gate(place)
        assert judged["result"] == "stale"
        assert judged["detail"].startswith("drilled 16 d")


def test_there_is_no_drill_where_there_is_no_way_back_or_it_would_end_a_watch(
    place: Deployment,
) -> None:
    with place.nodes(*NODES):
        assert place.json(*DRILL, code=3)["error"]["id"] == "move.first"
        place.put("drain")
        place.run("hold", "add", "--reason", "freeze", "--for", "1h")
        assert place.json(*DRILL, code=3)["error"]["id"] == "hold.in_force"
        place.run("hold", "release", "1")
        place.move("cutover", "--all", "--soak", "15m", "--wait-gates", "10")
        assert place.json(*DRILL, code=3)["error"]["id"] == "drill.soaking"
    place.run(*DRILL, "--wait", "0", code=2)


def test_a_rehearsed_drill_moves_nothing(place: Deployment, postgres: DatabaseServer) -> None:
    place.put("cutover")
    place.beat(*NODES)
    before = dump(postgres, place.url)
    found = place.json(*DRILL, "--dry-run")
    assert (found["would_change"], found["changed"]) == (True, False)
    assert dump(postgres, place.url) == before


def test_a_drill_from_drain_keeps_the_end_that_was_announced(place: Deployment) -> None:
    place.put("swap")
    with place.nodes(*NODES):
        place.move("advance", "drain", "--sunset", "2096-01-01T09:00+0000")
        announced = place.value("SELECT sunset_at FROM migrator.rollout")
        place.run(*DRILL)
        assert place.value("SELECT sunset_at FROM migrator.rollout") == announced
        place.json("status")  # which would bring a horizon into step
        assert place.value("SELECT sunset_at FROM migrator.rollout") == announced
