"""Plans: a move made by the facts it was decided on, or refused with each fact that got worse."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.deployment import Deployment
from tests.cli.test_moves import NODES, dump
from tests.conftest import DatabaseServer


@pytest.fixture
def place(migrated: str, tmp_path: Path) -> Deployment:
    found = Deployment(migrated, tmp_path)
    found.put("drain")
    return found


def plan(place: Deployment, *args: str) -> str:
    found: str = place.json("plan", *(args or ("cutover", "--all")))["plan"]["id"]
    return found


def test_a_plan_keeps_its_evidence_and_is_good_for_one_move(place: Deployment) -> None:
    with place.nodes(*NODES):
        made = place.json("plan", "cutover", "--all", "--reason", "CHG-4502")["plan"]
        assert (made["state"], made["from"], made["to"]) == ("open", "drain", "cutover")
        assert made["ok"]
        assert made["nodes"] == {"expected": 2, "live": ["n1", "n2"]}
        assert {gate["id"] for gate in made["gates"]} >= {"nodes-acked", "legacy-seen"}
        rehearsed = place.json("cutover", "--plan", made["id"], "--dry-run")
        assert rehearsed["would_change"]
        said = place.run("cutover", "--plan", made["id"], "--confirm", "staging").stderr
        assert f"Plan {made['id']} · staging · drain → cutover · by dana · CHG-4502" in said
        row = next(row for row in place.json("log")["rows"] if row["command"] == "cutover")
        assert (row["plan"], row["why"]) == (made["id"], "CHG-4502")
        assert place.json("plan", "show", made["id"])["plan"]["state"] == "used"
        # Repeated, as after a lost terminal: it is so already.
        assert place.move("cutover", "--plan", made["id"])["changed"] is False
        place.json("rollback")
        void = place.move("cutover", "--plan", made["id"], code=4)
        assert void["error"]["id"] == "plan.void"
        assert "dana used it" in void["error"]["what"]


def test_a_plan_is_refused_with_the_gate_that_turned_and_the_users_that_came(
    place: Deployment,
) -> None:
    with place.nodes(*NODES):
        made = plan(place)
        place.sight("robot-7", "bot")
        void = place.move("cutover", "--plan", made, code=4)["error"]
        assert void["id"] == "plan.void"
        assert "gate drain-horizon: pass → fail" in void["what"]
        assert "users refused: 0 → 1 (bot 0 → 1)" in void["what"]
        assert void["do"] == "plan again: migrator plan cutover --all"
        assert place.phase()[0] == "drain"
        # What got better voids nothing.
        place.execute("DELETE FROM migrator.legacy_subjects")
        assert place.move("cutover", "--plan", made)["changed"]


def test_a_plan_is_refused_when_nodes_came_or_went(place: Deployment, tmp_path: Path) -> None:
    with place.nodes(*NODES):
        made = plan(place)
        with place.nodes("n3"):
            void = place.move("cutover", "--plan", made, code=4)["error"]
        assert "live nodes: 2 → 3 (+n3)" in void["what"]
        assert "gate nodes-acked: pass → fail" in void["what"]
        more = Deployment(place.url, tmp_path, expected=3)
        void = more.move("cutover", "--plan", made, code=4)["error"]
        assert "expected nodes: 2 → 3" in void["what"]


def test_a_plan_is_refused_when_an_override_or_a_hold_changed(place: Deployment) -> None:
    place.sight("robot-7", "bot")
    with place.nodes(*NODES):
        given = place.move(
            "override", "add", "drain-horizon", "--reason", "one robot", "--for", "1h"
        )
        made = plan(place)
        place.run("override", "revoke", str(given["override"]["id"]))
        place.run("hold", "add", "--reason", "freeze", "--for", "1h")
        void = place.move("cutover", "--plan", made, code=4)["error"]
        assert "gate drain-horizon: overridden → fail" in void["what"]
        assert "gate no-hold: absent → fail (dana holds it until" in void["what"]


def test_a_plan_is_void_once_the_rollout_moved_or_the_plan_expired(place: Deployment) -> None:
    with place.nodes(*NODES):
        made = plan(place)
        place.json("rollback")
        place.move("advance", "drain")
        void = place.move("cutover", "--plan", made, code=4)["error"]
        assert "the epoch: 2 → 4" in void["what"]
        late = plan(place)
        place.execute("UPDATE migrator.plans SET expires_at = now() WHERE id = %s", late)
        assert "it expired at" in place.move("cutover", "--plan", late, code=4)["error"]["what"]
        states = {one["id"]: one["state"] for one in place.json("plan", "list")["plans"]}
        assert states == {made: "open", late: "expired"}


def test_a_plan_that_was_made_while_its_gates_held_it_up_is_made_when_they_pass(
    place: Deployment,
) -> None:
    place.sight("robot-7", "bot")
    with place.nodes(*NODES):
        made = place.json("plan", "cutover", "--all")["plan"]
        assert not made["ok"]
        assert place.move("cutover", "--plan", made["id"], code=3)["error"]["id"] == (
            "gates.failed"
        )
        place.execute("DELETE FROM migrator.legacy_subjects")
        assert place.move("cutover", "--plan", made["id"])["changed"]


def test_a_plan_is_for_one_command_alone(place: Deployment) -> None:
    with place.nodes(*NODES):
        made = plan(place, "cutover", "--all", "--except", "client=bot", "--unseen")
        assert place.move("retire", "--plan", made, code=2)["error"]["id"] == "plan.other_command"
        assert place.move("cutover", "--plan", "ffff", code=2)["error"]["id"] == "plan.unknown"
        place.run("cutover", "--plan", made, "--all", "--confirm", "staging", code=2)
        assert place.phase()[0] == "drain"
        found = place.move("cutover", "--plan", made)
        assert found["exceptions"] == [{"by": "client", "value": "bot", "phase": "drain"}]


@pytest.mark.parametrize(
    ("phase", "args", "move"),
    [
        ("observe", ("advance", "swap", "--percent", "10"), ("advance", "swap")),
        ("swap", ("advance", "drain"), ("advance", "drain")),
        ("cutover", ("rollback",), ("rollback",)),
        ("cutover", ("retire",), ("retire", "--wait-gates", "10")),
    ],
)
def test_every_move_can_be_planned(
    migrated: str, tmp_path: Path, phase: str, args: tuple[str, ...], move: tuple[str, ...]
) -> None:
    place = Deployment(migrated, tmp_path)
    if phase != "observe":
        place.put(phase)
    with place.nodes(*NODES):
        made = plan(place, *args)
        confirm = () if move == ("rollback",) else ("--confirm", "staging")
        assert place.json(*move, "--plan", made, *confirm)["plan"] == made


def test_a_plan_is_told_as_a_change_ticket(place: Deployment) -> None:
    place.sight("robot-7", "bot")
    with place.nodes(*NODES):
        made = plan(place, "cutover", "--all", "--reason", "CHG-4502", "--soak", "15m")
    ticket = place.run("plan", "show", made, "--markdown").stdout
    for heading in ("Summary", "Timeline", "Gates", "Forecast", "Rollback"):
        assert f"## {heading}" in ticket
    assert f"| T | `migrator cutover --plan {made}` | yes |" in ticket
    assert "| when | action | reversible? |" in ticket
    assert "- bot (a1): 1" in ticket
    assert "`migrator rollback` → drain: 0 users affected" in ticket
    assert "CHG-4502" in ticket
    assert made in place.run("plan", "list").stdout


def test_a_plan_names_the_command_that_makes_it_or_the_gates_it_has_to_wait_for(
    place: Deployment,
) -> None:
    for number in range(4):
        place.sight(f"robot-{number}", f"a-client-with-quite-a-long-name/{number}")
    with place.nodes(*NODES):
        waits = place.run("plan", *("cutover", "--all")).stdout
        assert "  not before: drain-horizon\n" in waits
        assert "make it:" not in waits
        assert "    migrator status --detail\n" in waits  # in a line of its own: whole
        place.execute("DELETE FROM migrator.legacy_subjects")
        shown = place.run("plan", "show", plan(place)).stdout
    assert "make it: migrator cutover --plan " in shown
    assert "not before" not in shown


def test_a_rehearsed_plan_is_not_saved(place: Deployment, postgres: DatabaseServer) -> None:
    place.beat(*NODES)
    before = dump(postgres, place.url)
    found = place.json("plan", "cutover", "--all", "--dry-run")
    assert (found["plan"]["id"], found["changed"]) == (None, False)
    assert dump(postgres, place.url) == before


def test_what_is_so_already_or_illegal_is_not_planned(place: Deployment) -> None:
    place.beat(*NODES)
    assert place.json("plan", "advance", "drain")["plan"] is None
    assert place.json("plan", "retire", code=3)["error"]["id"] == "move.not_a_neighbour"
    place.run("plan", "cutover", code=2)
    place.run("plan", "advance", "swap", code=2)
    assert place.value("SELECT count(*) FROM migrator.plans") == 0


def test_two_operators_cannot_use_one_plan(place: Deployment) -> None:
    """The second read it before the first had used it."""
    place.beat(*NODES)
    made = plan(place)
    place.execute(
        "CREATE FUNCTION migrator.first() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
        " UPDATE migrator.plans SET used_at = now(), used_by = 'kim'; RETURN NEW; END $$"
    )
    place.execute(
        "CREATE TRIGGER first BEFORE UPDATE ON migrator.rollout"
        " FOR EACH ROW EXECUTE FUNCTION migrator.first()"
    )
    assert place.move("cutover", "--plan", made, code=4)["error"]["id"] == "plan.used"
    assert place.phase()[0] == "drain"
