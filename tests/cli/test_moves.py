"""The moves of the rollout, by the command line: what they do, refuse, print, exit with."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import psycopg
import pytest

from migrator.control import flip, rollout
from migrator.control.flip import Order
from migrator.core.errors import Exit, Stopped
from migrator.stores.drivers import conninfo
from tests.cli.deployment import Deployment
from tests.conftest import DatabaseServer

NODES = ("n1", "n2")


@pytest.fixture
def place(migrated: str, tmp_path: Path) -> Deployment:
    return Deployment(migrated, tmp_path)


def state(place: Deployment) -> list[tuple[Any, ...]]:
    return place.execute(
        "SELECT r.*, (SELECT count(*) FROM migrator.rollout_log),"
        " (SELECT count(*) FROM migrator.feed) FROM migrator.rollout r"
    )


def test_a_rollout_goes_all_the_way_back_and_forth_and_is_retired(place: Deployment) -> None:
    with place.nodes(*NODES):
        first = place.move("advance", "swap", "--percent", "10", "--reason", "CHG-1")
        assert (first["from"], first["to"], first["state"]) == (
            "observe",
            "swap 10 %",
            "in_effect",
        )
        assert first["changed"]
        assert first["epoch"] == 2
        assert place.move("advance", "swap", "--percent", "100")["to"] == "swap 100 %"
        assert place.move("advance", "drain")["to"] == "drain"
        assert place.value("SELECT drain_since IS NOT NULL FROM migrator.rollout")
        drained_at = place.value("SELECT drain_since FROM migrator.rollout")
        place.move("cutover", "--all", "--wait-gates", "10")
        back = place.json("rollback", "--reason", "a straggler")
        assert (back["from"], back["to"], back["rollback_cost_subjects"]) == (
            "cutover",
            "drain",
            0,
        )
        assert place.value("SELECT drain_since FROM migrator.rollout") == drained_at
        place.move("cutover", "--all", "--wait-gates", "10")
        end = place.move("retire", "--wait-gates", "10")
        assert end["changed"]
        assert {loss["table"] for loss in end["destroys"]} >= {"legacy_tokens"}
        assert place.value("SELECT to_regclass('migrator.legacy_tokens')") is None
        assert place.value("SELECT to_regclass('migrator.sessions')") is not None
        assert place.move("retire")["changed"] is False
        for command in (("advance", "swap", "--percent", "5"), ("cutover", "--all")):
            assert place.move(*command, code=12)["error"]["id"] == "move.retired"
        assert place.json("rollback", code=12)["error"]["id"] == "move.retired"
        log = place.json("log")
        moves = [row for row in log["rows"] if row["command"] != "in effect"]
        assert [row["to"] for row in reversed(moves)] == [
            "swap 10 %", "swap 100 %", "drain", "cutover", "drain", "cutover", "retired",
        ]  # fmt: skip
        assert moves[-1]["who"] == "dana"
        assert moves[-1]["why"] == "CHG-1"
        assert "CHG-1" in place.run("log").stdout
        assert len(place.run("log", "--limit", "1").stdout.splitlines()) == 1


def test_going_back_to_observe_ends_the_cohort_and_the_drain(place: Deployment) -> None:
    place.put("drain")
    with place.nodes(*NODES):
        assert place.json("rollback")["to"] == "swap 100 %"
        assert place.value("SELECT drain_since FROM migrator.rollout") is None
        assert place.json("rollback")["to"] == "observe"
        assert place.phase() == ("observe", 0)
        before = state(place)
        assert place.json("rollback", code=3)["error"]["id"] == "move.first"
        assert state(place) == before


def test_p8_the_same_move_again_changes_nothing(place: Deployment) -> None:
    with place.nodes(*NODES):
        place.move("advance", "swap", "--percent", "50")
        before = state(place)
        again = place.json("advance", "swap", "--percent", "50")
        assert again["changed"] is False
        assert state(place) == before
    assert "already so" in place.run("advance", "swap", "--percent", "50").stdout


@pytest.mark.parametrize(
    ("phase", "command", "error"),
    [
        ("observe", ("advance", "drain"), "move.not_a_neighbour"),
        ("observe", ("cutover", "--all"), "move.not_a_neighbour"),
        ("observe", ("retire",), "move.not_a_neighbour"),
        ("swap", ("cutover", "--all"), "move.not_a_neighbour"),
        ("swap", ("retire",), "move.not_a_neighbour"),
        ("swap", ("advance", "swap", "--percent", "49"), "move.lower_percent"),
        ("drain", ("advance", "swap", "--percent", "100"), "move.backwards"),
        ("drain", ("retire",), "move.not_a_neighbour"),
        ("cutover", ("advance", "swap", "--percent", "100"), "move.not_a_neighbour"),
        ("cutover", ("advance", "drain"), "move.backwards"),
        ("observe", ("cutover", "--segment", "client=ios"), "move.not_a_neighbour"),
    ],
)
def test_an_illegal_move_is_refused_and_changes_nothing(
    place: Deployment, phase: str, command: tuple[str, ...], error: str
) -> None:
    if phase != "observe":
        place.put(phase, percent=50)
    before = state(place)
    with place.nodes(*NODES):
        assert place.move(*command, code=3)["error"]["id"] == error
    assert state(place) == before


@pytest.mark.parametrize(
    "args",
    [
        ("cutover",),
        ("cutover", "--all", "--segment", "client=ios"),
        ("cutover", "--segment", "client=ios", "--except", "client=mac"),
        ("cutover", "--segment", "device=ios"),
        ("cutover", "--segment", "issuer=nobody"),
        ("cutover", "--segment", "cohort=100"),
        ("advance", "swap"),
        ("advance", "swap", "--percent", "101"),
        ("advance",),
        ("no-such-command",),
    ],
)
def test_what_cannot_be_meant_is_a_usage_error(place: Deployment, args: tuple[str, ...]) -> None:
    place.run(*args, code=2)


def test_a_move_is_confirmed_by_the_name_of_the_environment(place: Deployment) -> None:
    before = state(place)
    with place.nodes(*NODES):
        move = ("advance", "swap", "--percent", "1")
        assert place.json(*move, code=9)["error"]["id"] == "confirm.nobody"
        wrong = place.json(*move, "--confirm", "prod", code=9)
        assert wrong["error"]["id"] == "confirm.declined"
    assert state(place) == before


def test_gates_hold_a_move_up_and_say_why(place: Deployment, tmp_path: Path) -> None:
    place.beat("n1")
    refused = place.move("advance", "swap", "--percent", "1", code=3)
    assert "1 of 2 expected nodes" in refused["error"]["what"]
    unsure = Deployment(place.url, tmp_path, expected=None)
    assert (
        unsure.move("advance", "swap", "--percent", "1", code=4)["error"]["id"] == "gates.unsure"
    )
    waited = place.move("advance", "swap", "--percent", "1", "--wait-gates", "0.6", code=6)
    assert waited["error"]["id"] == "gates.timed_out"
    assert place.phase() == ("observe", 0)
    with unsure.nodes("n1"):
        assert unsure.move("advance", "swap", "--percent", "1", "--nodes", "1")["changed"]


def test_a_cutover_names_the_stragglers_it_waits_for(place: Deployment) -> None:
    place.put("drain")
    place.sight("robot-7", "bot")
    with place.nodes(*NODES):
        refused = place.run("cutover", "--all", "--confirm", "staging", code=3)
    assert "bot 1" in refused.stderr
    assert "drain-horizon" in refused.stderr
    assert place.phase()[0] == "drain"


def test_a_move_that_nodes_do_not_acknowledge_is_committed_and_exits_7(place: Deployment) -> None:
    place.put("swap")
    place.beat(*NODES)
    found = place.json("rollback", "--wait", "0.3", code=7)
    assert found["changed"]
    assert found["state"] == "propagating"
    assert sorted(found["waiting_on"]) == ["n1", "n2"]
    assert place.phase()[0] == "observe"
    status = place.json("status")
    assert status["phase"]["state"] == "propagating"
    assert [one["id"] for one in status["nodes"]["waiting"]] == ["n1", "n2"]


def test_a_rollback_that_nobody_saw_in_effect_is_waited_for_and_not_made_twice(
    place: Deployment,
) -> None:
    place.put("cutover")
    place.beat(*NODES)
    first = place.run("rollback", "--wait", "0.1", code=7)
    assert "to wait on: migrator rollback --to drain" in first.stderr
    assert "migrator nodes" in first.stdout
    for args in (("rollback",), ("rollback", "--to", "drain")):
        again = place.json(*args, "--wait", "0.1", code=7)
        assert (again["changed"], again["state"], again["next"]) == (
            *(False, "propagating"),
            "migrator nodes",
        )
    place.beat(*NODES)  # acknowledged, and nobody was told: an operator was interrupted
    said = place.run("rollback").stderr
    assert "this waits for it and moves nothing" in " ".join(said.split())
    assert "migrator rollback --to swap" in " ".join(said.split())
    assert place.phase()[0] == "drain"
    with place.nodes(*NODES):
        assert place.json("rollback")["to"] == "swap 100 %", "it was told: this is one phase more"


def test_a_rollback_that_was_not_to_be_waited_for_is_over_once_every_node_knows(
    place: Deployment,
) -> None:
    place.put("cutover")
    with place.nodes(*NODES):
        for phase in ("drain", "swap", "observe"):
            assert place.json("rollback", "--wait", "0")["changed"] is True
            assert place.phase()[0] == phase
            place.beat(*NODES)


def test_a_way_back_that_is_on_its_way_does_not_hold_up_one_that_says_where_to(
    place: Deployment,
) -> None:
    place.put("cutover")
    place.beat(*NODES)
    place.json("rollback", "--wait", "0")
    assert place.json("rollback", "--dry-run")["would_change"] is False
    assert place.json("rollback", "--to", "swap", "--wait", "0")["changed"] is True
    assert place.phase()[0] == "swap"


def test_leaving_the_drain_says_what_begins_anew(place: Deployment) -> None:
    place.put("drain")
    said = " ".join(place.run("rollback", "--dry-run").stderr.split())
    assert "ends the drain: its beginning, the announced end and the horizon" in said
    place.put("cutover")
    assert "ends the drain" not in place.run("rollback", "--dry-run").stderr


def test_the_way_back_of_a_segment_leaves_everybody_else_where_they_are(
    place: Deployment,
) -> None:
    place.put("drain")
    move = ("cutover", "--segment", "client=ios")
    way = "migrator rollback --to drain"
    with place.nodes(*NODES):
        place.sight("user-1", "ios", ago="2 days", lasts="0 s")
        plan = place.json("plan", *move)["plan"]
        assert plan["title"] == "drain, cutover of client=ios"
        assert (plan["rollback"]["command"], plan["rollback"]["to"]) == (way, "drain")
        assert f"`{way}` → drain" in place.run("plan", "show", plan["id"]).stdout
        said = place.run(*move, "--wait-gates", "10", "--confirm", "staging")
        assert f"rollback: {way}" in said.stderr
        assert "use rollback --to drain" in said.stderr
        assert said.stdout.startswith("drain, cutover of client=ios, epoch ")
        back = place.json("status")["rollback"]
        assert (back["to"], back["command"]) == ("swap", way)
        assert way in place.run("status").stdout
        gone = place.json(*way.split()[1:])
        assert (gone["title"], gone["exceptions"]) == ("drain, client=ios back to drain", [])
        assert place.json("status")["rollback"]["command"] == "migrator rollback"


def test_no_wait_is_no_wait(place: Deployment) -> None:
    place.put("swap")
    place.beat(*NODES)
    assert place.json("rollback", "--wait", "0")["state"] is None


def test_rollback_says_its_price_first_and_asks_nobody(place: Deployment) -> None:
    place.put("cutover")
    said = place.run("rollback").stderr
    assert said.index("price: 0 users logged out") < said.index("committed epoch")


def test_a_segment_is_cut_over_alone_and_comes_back_with_the_rest(place: Deployment) -> None:
    place.put("drain")
    place.sight("robot-7", "bot")
    with place.nodes(*NODES):
        place.move("cutover", "--segment", "client=ios", "--unseen", "--wait-gates", "10")
        found = place.json("status")
        assert found["exceptions"] == [{"by": "client", "value": "ios", "phase": "cutover"}]
        assert found["phase"]["name"] == "drain"
        again = place.move("cutover", "--segment", "client=ios", "--unseen")
        assert again["changed"] is False
        assert place.move("cutover", "--segment", "client=bot", code=3)
        back = place.json("rollback")
        assert (back["to"], back["exceptions"]) == ("swap 100 %", [])


def test_a_straggler_may_stay_behind_but_not_for_ever(place: Deployment) -> None:
    place.put("drain")
    place.sight("robot-7", "bot")
    with place.nodes(*NODES):
        found = place.move("cutover", "--all", "--except", "client=bot", "--wait-gates", "10")
        assert found["exceptions"] == [{"by": "client", "value": "bot", "phase": "drain"}]
        held = place.json("gates", "retire", code=3)
        assert "no-exceptions" in [g["id"] for g in held["gates"] if g["result"] == "fail"]
        assert place.json("status")["if_cut_over"]["subjects"] == 1
        assert "except client bot: drain" in place.run("status").stdout
        assert place.move("cutover", "--all", "--except", "client=bot")["changed"] is False
        place.move("cutover", "--all", code=3)
        place.execute("DELETE FROM migrator.legacy_subjects")
        assert place.move("cutover", "--all", "--wait-gates", "10")["exceptions"] == []


def test_a_cohort_cut_over_only_grows(place: Deployment) -> None:
    place.put("drain")
    with place.nodes(*NODES):
        place.move("cutover", "--segment", "cohort=10", "--wait-gates", "10")
        grown = place.move("cutover", "--segment", "cohort=30")
        assert [one["value"] for one in grown["exceptions"]] == ["30"]
        assert place.move("cutover", "--segment", "cohort=20")["changed"] is False


def test_two_operators_at_once_cannot_overwrite_each_other(place: Deployment) -> None:
    settings = place.settings
    stood, _ = flip.read(settings)
    target = rollout.swap(stood, 10)
    assert target is not None
    flip.commit(settings, stood, target, Order(who="kim", why=None, command="advance swap"))
    with pytest.raises(Stopped) as stopped:
        flip.commit(settings, stood, target, Order(who="dana", why=None, command="advance swap"))
    assert stopped.value.exit_code is Exit.CONFLICT
    assert "kim ran `advance swap`" in stopped.value.problem.what
    assert place.value("SELECT count(*) FROM migrator.rollout_log") == 1


def test_a_held_row_is_a_conflict_that_names_its_holder(place: Deployment) -> None:
    place.put("swap")
    with psycopg.connect(**conninfo(place.url), application_name="kim's psql") as other:
        other.execute("SELECT FROM migrator.rollout FOR UPDATE")
        held = place.json("rollback", code=8)
    assert "kim's psql" in held["error"]["what"]
    assert place.phase()[0] == "swap"


def test_each_move_is_one_epoch_one_line_and_one_row_of_the_feed(place: Deployment) -> None:
    with place.nodes(*NODES):
        place.move("advance", "swap", "--percent", "5")
    assert place.value("SELECT epoch FROM migrator.rollout") == 2
    assert place.execute("SELECT kind, key FROM migrator.feed") == [("legacy", "epoch:2")]
    rows = place.execute("SELECT command, epoch FROM migrator.rollout_log ORDER BY id")
    assert rows == [("advance swap", 2), ("in effect", 2)]


@pytest.mark.parametrize(
    ("phase", "args"),
    [
        ("observe", ("advance", "swap", "--percent", "10")),
        ("swap", ("advance", "drain")),
        ("drain", ("cutover", "--all")),
        ("cutover", ("rollback",)),
        ("cutover", ("retire",)),
    ],
)
def test_a_rehearsal_leaves_the_database_as_it_was(
    place: Deployment, postgres: DatabaseServer, phase: str, args: tuple[str, ...]
) -> None:
    if phase != "observe":
        place.put(phase)
    place.beat(*NODES)
    before = dump(postgres, place.url)
    found = place.json(*args, "--dry-run")
    assert found["would_change"]
    assert not found["changed"]
    assert found["dry_run"]
    assert dump(postgres, place.url) == before


def dump(postgres: DatabaseServer, url: str) -> str:
    done = subprocess.run(
        [str(postgres.bin("pg_dump")), url.replace("+psycopg", "")],
        capture_output=True,
        text=True,
        check=True,
    )
    # The token of the two guard lines is drawn anew for each dump.
    kept = [one for one in done.stdout.splitlines() if "restrict " not in one]
    return "\n".join(kept)


def test_p9_retire_drops_nothing_before_every_node_has_said_so(place: Deployment) -> None:
    place.put("cutover")
    place.beat(*NODES)
    found = place.move("retire", "--wait", "0.3", code=7)
    assert found["state"] == "propagating"
    assert place.phase()[0] == "retired"
    assert place.value("SELECT to_regclass('migrator.legacy_tokens')") is not None
    status = place.json("status")
    assert any("retire" in one for one in status["waiting_on"])
    # As after a kill: run again, it goes on without asking.
    with place.nodes(*NODES):
        assert place.json("retire")["changed"]
    assert place.value("SELECT to_regclass('migrator.legacy_tokens')") is None
    assert place.value("SELECT legacy_removed_at IS NOT NULL FROM migrator.rollout")


def test_a_retire_that_is_not_waited_for_drops_nothing_and_exits_0(place: Deployment) -> None:
    place.put("cutover")
    place.beat(*NODES)
    found = place.move("retire", "--wait", "0")
    assert (found["changed"], found["state"]) == (True, "propagating")
    assert found["waiting_on"] == list(NODES)
    assert place.value("SELECT to_regclass('migrator.legacy_tokens')") is not None


def test_retire_is_refused_before_its_mark_where_the_role_may_not_drop(
    place: Deployment, tmp_path: Path
) -> None:
    place.put("cutover")
    place.beat(*NODES)
    place.execute("DROP ROLE IF EXISTS mere_runner")
    place.execute("CREATE ROLE mere_runner")
    try:
        place.execute(place.run("db", "sql", "--grants", "mere_runner").stdout)
        narrowed = f"{place.url}{'&' if '?' in place.url else '?'}options=-crole%3Dmere_runner"
        found = Deployment(narrowed, tmp_path).move("retire", code=5)
        assert found["error"]["id"] == "retire.not_owner"
        assert place.phase()[0] == "cutover"
    finally:
        place.execute("DROP OWNED BY mere_runner")
        place.execute("DROP ROLE mere_runner")


def test_p8_an_interrupted_wait_says_that_the_move_is_committed(place: Deployment) -> None:
    place.put("swap")
    place.beat(*NODES)
    command = Path(sys.executable).parent / "migrator"
    process = subprocess.Popen(
        [str(command), "--config", str(place.config), "rollback", "--wait", "30"],
        env={**os.environ, **place.environ},
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    said = ""
    while "committed epoch" not in said:
        line = process.stderr.readline()
        assert line, said
        said += line
    process.send_signal(signal.SIGINT)
    _, rest = process.communicate(timeout=20)
    assert process.returncode == 130
    assert "is committed and stays" in rest
    assert place.phase()[0] == "observe"


def test_a_wrong_environment_is_told_before_anything_of_it_is_judged(place: Deployment) -> None:
    """No node is here: the gates fail too, but perhaps of the wrong deployment."""
    before = state(place)
    move = ("advance", "swap", "--percent", "1")
    wrong = place.json(*move, "--confirm", "prod", code=9)
    assert (wrong["schema"], wrong["changed"]) == ("migrator.error/1", False)
    assert place.json(*move, code=3)["changed"] is False
    assert place.move(*move, code=3)["error"]["id"] == "gates.failed"
    assert state(place) == before


def test_a_wait_says_each_step_of_the_nodes_once_and_nothing_of_none(place: Deployment) -> None:
    place.put("swap")
    place.beat(*NODES)
    said = place.run("rollback", "--wait", "0.5", code=7).stderr
    assert "  acks " not in said
    with place.nodes(*NODES):
        for command in (
            ("rollback",),
            ("advance", "swap", "--percent", "5", "--confirm", "staging"),
        ):
            said = place.run(*command).stderr
            steps = [line for line in said.splitlines() if line.startswith("  acks ")]
            assert steps[-1].startswith("  acks 2/2 in ")
            assert len(steps) == len(set(steps)) <= len(NODES)
