"""`playbook show` says where this rollout stands, on the page and at the gate asked about."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

import pytest

from migrator.control import playbooks
from tests.cli.deployment import Deployment

PAGES = {"swap": "10-swap", "drain": "20-drain", "cutover": "30-cutover", "retired": "40-retire"}
ROOM = (100, 30)


@pytest.fixture
def place(migrated: str, tmp_path: Path) -> Deployment:
    return Deployment(migrated, tmp_path)


def test_a_page_says_whether_its_turn_has_come_and_what_holds_it(place: Deployment) -> None:
    place.put("drain")
    place.sight("ann", "ios/7.2", ago="1 min")
    with place.nodes("n1", "n2"):
        live = place.json("playbook", "show", "30-cutover")["live"]
        later = place.json("playbook", "show", "40-retire")["live"]
        past = place.json("playbook", "show", "20-drain")["live"]
    assert (live["turn"], live["ready"], live["environment"]) == ("now", False, "staging")
    assert {gate["id"]: gate["result"] for gate in live["gates"]}["drain-horizon"] == "fail"
    assert "2 of 2 acknowledged" in live["text"]
    assert "ios/7.2 1" in live["text"]
    assert "rollback` → swap" in live["text"]
    assert "✗ drain-horizon" in live["text"]
    assert (later["turn"], later["ready"]) == ("later", False)
    assert "playbook show 30-cutover" in later["text"]
    assert (past["turn"], past["ready"], past["gates"]) == ("past", None, [])


def test_holds_the_drill_and_brownouts_stand_above_a_page(place: Deployment) -> None:
    place.put("drain")
    place.run("hold", "add", "--reason", "CHG-12 freeze", "--for", "72h")
    with place.nodes("n1", "n2"):
        text = place.json("playbook", "show", "30-cutover")["live"]["text"]
        assert "never drilled" in text
        assert "migrator hold release 1" in text
        place.run("hold", "release", "1")
        place.run("rollback", "--drill")
        text = place.json("playbook", "show", "30-cutover")["live"]["text"]
    assert re.search(r"drilled [0-9.]+ s ago", text), text
    assert "hold" not in text


def test_a_gate_of_a_page_says_what_it_found_here(place: Deployment) -> None:
    place.put("drain")
    shown = place.run("playbook", "show", "30-cutover#gate-nodes-acked").stdout
    assert shown.startswith("```text\nRIGHT NOW, in staging")
    assert "nodes-acked" in shown.split("```")[1]
    assert "drain-horizon" not in shown


@pytest.mark.parametrize("phase", ["observe", "swap", "drain", "cutover"])
def test_what_stands_above_a_page_fits_a_screen(place: Deployment, phase: str) -> None:
    if phase != "observe":
        place.put(phase, percent=40 if phase == "swap" else 100)
    for page in PAGES.values():
        text = place.json("playbook", "show", page)["live"]["text"]
        assert max(map(len, text.splitlines())) <= ROOM[0]
        assert len(text.splitlines()) <= ROOM[1]


def test_commands_name_this_environment(place: Deployment) -> None:
    shown = place.run("playbook", "show", "30-cutover").stdout
    assert "--confirm staging" in shown
    assert "--confirm prod" not in shown


def test_bare_it_is_the_text_as_it_is_shipped(place: Deployment) -> None:
    shown = place.run("playbook", "show", "30-cutover", "--bare").stdout
    assert shown.strip() == playbooks.passage("30-cutover")[1].strip()
    assert place.json("playbook", "show", "30-cutover", "--bare")["live"] is None


@pytest.mark.parametrize("page", ["why", "00-decide", "90-what-if#exit-7"])
def test_where_no_rollout_matters_none_is_shown(place: Deployment, page: str) -> None:
    assert place.json("playbook", "show", page)["live"] is None


def test_without_a_database_it_says_so_and_is_there_all_the_same(place: Deployment) -> None:
    place.environ["TEST_DATABASE_URL"] = "postgresql+psycopg://nobody@127.0.0.1:1/none"
    found = place.json("playbook", "show", "35-rollback")
    assert "no connection to 127.0.0.1" in found["live"]["unknown"]
    assert found["live"]["phase"] is None
    assert found["text"].startswith("---\nid: 35-rollback")


def test_with_settings_that_are_wrong_it_is_there_all_the_same(place: Deployment) -> None:
    place.config.write_text("nonsense = 1\n")
    found = place.json("playbook", "show", "35-rollback")
    assert "nonsense" in found["live"]["unknown"]
    assert found["live"]["environment"] is None


def test_before_the_tables_are_there_it_says_so(database: str, tmp_path: Path) -> None:
    place = Deployment(database, tmp_path)
    live = place.json("playbook", "show", "01-install-and-observe")["live"]
    assert live["unknown"]
    assert "db upgrade" in live["text"]


def test_reading_a_playbook_writes_nothing(place: Deployment) -> None:
    place.put("drain")
    assert _rows(place) == (place.run("playbook", "show", "30-cutover"), _rows(place))[1]


def _rows(place: Deployment) -> str:
    named = place.execute(
        "SELECT tablename FROM pg_tables WHERE schemaname = 'migrator' ORDER BY 1"
    )
    whole = [
        place.execute(f"SELECT t::text FROM migrator.{name} AS t ORDER BY 1") for (name,) in named
    ]
    return hashlib.sha256(repr(whole).encode()).hexdigest()
