"""The log: every decision with who and why, how long the nodes took, and a file for evidence."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pytest

from tests.cli.deployment import Deployment
from tests.cli.test_moves import NODES


@pytest.fixture
def place(migrated: str, tmp_path: Path) -> Deployment:
    found = Deployment(migrated, tmp_path)
    with found.nodes(*NODES):
        found.run("hold", "add", "--reason", "=cmd|' /C calc'!A0", "--for", "1h")
        found.run("hold", "release", "1")
        found.move("advance", "swap", "--percent", "10", "--reason", "CHG-1")
        found.move("advance", "swap", "--percent", "100", "--reason", "CHG-2 | all")
    return found


def test_a_move_says_how_long_the_nodes_took(place: Deployment) -> None:
    rows = place.json("log")["rows"]
    moves = [row for row in rows if row["command"] == "advance swap"]
    assert all(row["in_effect_after_s"] >= 0 for row in moves)
    assert all(row["in_effect_at"] >= row["at"] for row in moves)
    told = place.run("log").stdout
    lines = [line for line in told.splitlines() if not line.startswith(" ")]
    assert len(lines) == 4  # what says that a move is in effect is told with the move
    assert " ".join(told.split()).count("in effect after") == 2
    assert all(row["in_effect_at"] is None for row in rows if row["command"] != "advance swap")


def test_a_decision_that_moves_nothing_stands_under_the_epoch_it_was_made_in(
    place: Deployment,
) -> None:
    held = [row for row in place.json("log")["rows"] if row["command"].startswith("hold")]
    assert [(row["from"], row["to"], row["epoch"]) for row in held] == [
        ("observe", "observe", 1),
        ("observe", "observe", 1),
    ]


def test_the_log_is_exported_whole_and_oldest_first(place: Deployment) -> None:
    told = [json.loads(line) for line in place.run("log", "--export", "jsonl").stdout.splitlines()]
    assert [row["command"] for row in told] == [
        *("hold add", "hold release"),
        *("advance swap", "in effect", "advance swap", "in effect"),
    ]
    rows = list(csv.DictReader(io.StringIO(place.run("log", "--export", "csv").stdout)))
    assert [row["command"] for row in rows] == [row["command"] for row in told]
    assert rows[0]["why"] == "'=cmd|' /C calc'!A0"  # inert in a spreadsheet
    table = place.run("log", "--export", "markdown").stdout.splitlines()
    assert len(table) == len(told) + 2
    assert "CHG-2 \\| all" in table[-2]


def test_the_log_begins_where_it_is_asked_to(place: Deployment) -> None:
    rows = place.json("log")["rows"]
    last = next(row for row in rows if row["command"] == "advance swap")
    found = place.json("log", "--since", last["at"])["rows"]
    assert last["epoch"] in {row["epoch"] for row in found}
    assert 1 not in {row["epoch"] for row in found}
    assert len(place.json("log", "--limit", "2")["rows"]) == 2
    place.run("log", "--since", "yesterday", code=2)
