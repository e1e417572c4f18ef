"""Overrides: a gate passes on somebody's name, goes on saying what it says, and only if it may."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.deployment import Deployment
from tests.cli.test_moves import NODES

TERM = ("--reason", "CHG-7 two robots", "--for", "24h")


@pytest.fixture
def place(migrated: str, tmp_path: Path) -> Deployment:
    found = Deployment(migrated, tmp_path)
    found.put("drain")
    found.sight("robot-7", "bot")
    return found


def override(place: Deployment, gate: str) -> int:
    given: int = place.move("override", "add", gate, *TERM)["override"]["id"]
    return given


def test_an_override_lets_a_gate_pass_and_leaves_what_it_says(place: Deployment) -> None:
    with place.nodes(*NODES):
        place.move("cutover", "--all", code=3)
        for gate in ("legacy-seen", "drain-horizon"):
            override(place, gate)
        found = place.json("gates", "cutover")
        seen = {one["id"]: one for one in found["gates"]}["drain-horizon"]
        assert seen["result"] == "fail"
        assert seen["override"]["who"] == "dana"
        assert seen["override"]["reason"] == "CHG-7 two robots"
        status = place.json("status")
        assert status["ready"]["ok"]
        assert "drain-horizon" in status["ready"]["overridden"]
        assert "drain-horizon" not in status["ready"]["failing"]
        screen = place.run("status").stdout
        assert "OVERRIDE" in screen
        assert "o drain-horizon" in screen
        assert place.move("cutover", "--all")["changed"]
        moved = next(row for row in place.json("log")["rows"] if row["command"] == "cutover")
        assert [one["gate"] for one in moved["detail"]["overrides"]] == ["drain-horizon"]


def test_a_revoked_or_expired_override_lets_nothing_pass(place: Deployment) -> None:
    with place.nodes(*NODES):
        given = override(place, "drain-horizon")
        assert place.json("override", "revoke", str(given))["override"]["state"] == "revoked"
        assert place.json("override", "revoke", str(given))["changed"] is False
        place.move("cutover", "--all", code=3)
        override(place, "drain-horizon")
        place.execute("UPDATE migrator.overrides SET until = now()")
        place.move("cutover", "--all", code=3)
        assert place.json("override", "list")["overrides"] == []
        states = [one["state"] for one in place.json("override", "list", "--ended")["overrides"]]
        assert states == ["over", "revoked"]


@pytest.mark.parametrize(
    "gate", ["nodes-acked", "schema-head", "keys-present", "issuance-stopped", "swap-complete"]
)
def test_hard_gates_are_never_overridden(place: Deployment, gate: str) -> None:
    refused = place.move("override", "add", gate, *TERM, code=3)
    assert refused["error"]["id"] == "override.not_overridable"
    # Nor by a row that somebody writes by hand.
    place.execute(
        "INSERT INTO migrator.overrides (created_by, gate, reason, until)"
        " VALUES ('kim', %s, 'x', now() + interval '1 day')",
        gate,
    )
    assert {one["id"]: one for one in place.json_any("gates", "cutover")["gates"]}[gate][
        "override"
    ] is None


def test_nothing_is_overridden_before_the_move_without_return(place: Deployment) -> None:
    with place.nodes(*NODES):
        for gate in ("legacy-seen", "drain-horizon"):
            override(place, gate)
        place.move("cutover", "--all")
        assert place.move("retire", code=3)["error"]["id"] == "gates.failed"
        refused = place.move("override", "add", "legacy-seen", *TERM, code=3)
        assert refused["error"]["id"] == "override.not_overridable"


def test_an_override_needs_a_known_gate_a_reason_an_end_and_a_confirmation(
    place: Deployment,
) -> None:
    unknown = place.move("override", "add", "no-such-gate", *TERM, code=2)
    assert unknown["error"]["id"] == "override.unknown_gate"
    assert "drain-horizon" in unknown["error"]["why"]
    place.run("override", "add", "drain-horizon", "--for", "24h", code=2)
    place.run("override", "add", "drain-horizon", "--reason", "x", code=2)
    place.run("override", "add", "drain-horizon", "--reason", " ", "--for", "24h", code=2)
    long = place.move("override", "add", "drain-horizon", "--reason", "x", "--for", "91d", code=2)
    assert long["error"]["id"] == "term.too_long"
    place.run("override", "add", "drain-horizon", *TERM, code=9)
    place.run("override", "add", "drain-horizon", *TERM, "--confirm", "prod", code=9)
    assert place.json("override", "revoke", "7", code=2)["error"]["id"] == "override.unknown"
    assert place.value("SELECT count(*) FROM migrator.overrides") == 0


def test_a_gate_has_one_override_at_a_time_so_that_revoking_it_closes_the_gate(
    place: Deployment,
) -> None:
    with place.nodes(*NODES):
        given = override(place, "drain-horizon")
        for rehearsed in ((), ("--dry-run",)):
            again = place.move("override", "add", "drain-horizon", *TERM, *rehearsed, code=3)
            assert again["error"]["id"] == "override.in_force"
            assert f"override revoke {given}" in again["error"]["do"]
        place.run("override", "revoke", str(given))
        place.move("cutover", "--all", code=3)
        assert override(place, "drain-horizon") == given + 1


@pytest.mark.parametrize("command", [("rollback",), ("rollback", "--to", "drain")])
def test_a_way_back_takes_the_overrides_with_it_and_a_drill_does_not(
    place: Deployment, command: tuple[str, ...]
) -> None:
    with place.nodes(*NODES):
        given = [override(place, gate) for gate in ("legacy-seen", "drain-horizon")]
        assert place.move("cutover", "--all")["overrides_revoked"] == []
        place.run("rollback", "--drill")
        assert len(place.json("override", "list")["overrides"]) == 2
        back = place.run(*command, "--reason", "sign-ins doubled")
        assert "(drain-horizon, by dana)" in " ".join(back.stderr.split())
        ended = place.json("override", "list", "--ended")["overrides"]
        assert {one["id"] for one in ended} == {*given}
        assert {one["revoked_by"] for one in ended} == {"rollback"}
        moved = next(row for row in place.json("log")["rows"] if row["command"] == "rollback")
        assert [one["id"] for one in moved["detail"]["revoked"]] == given
        place.move("cutover", "--all", code=3)
