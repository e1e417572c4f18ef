"""`status`, `nodes`, `gates`, `log`, `db`: every screen in every phase, held to its schema."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.deployment import Deployment, validate

PHASES = ("observe", "swap", "drain", "cutover", "retired")


@pytest.fixture
def place(migrated: str, tmp_path: Path) -> Deployment:
    return Deployment(migrated, tmp_path)


def bring(place: Deployment, phase: str) -> None:
    """Put the rollout into a phase; into the last one as `retire` does."""
    if phase == "retired":
        place.put("cutover")
        with place.nodes("n1", "n2"):
            place.move("retire")
    elif phase != "observe":
        place.put(phase, percent=40 if phase == "swap" else 100)


def count(place: Deployment, outcome: str, number: int, client: str = "web") -> None:
    place.execute(
        "INSERT INTO migrator.legacy_usage (hour, issuer, client, outcome, count, last_at)"
        " VALUES (date_trunc('hour', now()), '', %s, %s, %s, now())",
        client,
        outcome,
        number,
    )


def fits(text: str) -> None:
    lines = text.rstrip("\n").split("\n")
    assert len(lines) <= 30
    assert max(len(line) for line in lines) <= 100, max(lines, key=len)


@pytest.mark.parametrize("phase", PHASES)
def test_status_is_valid_and_fits_one_screen_in_every_phase(place: Deployment, phase: str) -> None:
    place.beat("n1")
    if phase != "retired":
        count(place, "session", 9)
        count(place, "legacy", 1)
        for number in range(30):
            place.sight(f"user-{number}", f"a-client-with-a-rather-long-name/{number}")
    bring(place, phase)
    found = place.json("status")
    assert found["phase"]["name"] == phase
    assert found["exit_code"] == 0
    assert found["changed"] is False
    text = place.run("status").stdout
    fits(text)
    assert phase.upper() in text
    line = place.run("status", "--line").stdout
    assert line.startswith(f"phase={phase} epoch=")
    assert line.count("\n") == 1
    detail = place.run("status", "--detail").stdout
    assert "STILL OPEN" in detail
    validate(place.json("status", "--detail"), "status")
    place.json("nodes")
    place.run("nodes")
    for entering in PHASES[1:]:
        place.json_any("gates", entering)


@pytest.mark.parametrize(
    ("phase", "knobs"),
    [
        ("observe", (True, 0, "legacy")),
        ("swap", (True, 40, "cohort")),
        ("drain", (True, 100, "session")),
        ("cutover", (True, 0, "session")),
        ("retired", (False, 0, "session")),
    ],
)
def test_status_says_what_the_phase_does(
    place: Deployment, phase: str, knobs: tuple[bool, int, str]
) -> None:
    bring(place, phase)
    found = place.json("status")
    said = found["knobs"]
    assert (said["verify_jwt"], said["swap_percent"], said["issue"]) == knobs
    back = {"swap": "observe", "drain": "swap", "cutover": "drain"}.get(phase)
    assert found["rollback"]["to"] == back
    assert found["rollback"]["possible"] == (back is not None)
    assert found["rollback"]["cost_subjects"] == (None if back is None else 0)


def test_what_is_unknown_is_null_and_said_so(migrated: str, tmp_path: Path) -> None:
    found = Deployment(migrated, tmp_path, expected=None).json("status")
    assert found["traffic"]["session"] is None
    assert set(found["unknown"]) >= {
        "nodes.expected", "traffic.session", "traffic.legacy_percent", "drain.horizon", "compare",
        "last_change", "removal_horizon",
    }  # fmt: skip
    text = Deployment(migrated, tmp_path, expected=None).run("status").stdout
    assert "TRAFFIC  unknown" in text
    assert "expected: unknown" in text


def test_traffic_is_counted_by_kind(place: Deployment) -> None:
    for outcome, number in (
        ("session", 90), ("legacy", 6), ("swapped", 3), ("exchanged", 1),
        ("foreign:credential", 4), ("passed:legacy_expired", 50), ("issued:session", 7),
    ):  # fmt: skip
        count(place, outcome, number)
    traffic = place.json("status")["traffic"]
    assert (traffic["session"], traffic["legacy"], traffic["foreign"]) == (90, 10, 4)
    assert traffic["legacy_percent"] == 10.0
    assert traffic["slope_per_day"] is None


def test_whatever_is_waited_for_is_named(place: Deployment) -> None:
    place.beat("n1", "n2")
    assert place.json("status")["waiting_on"] == []
    place.run("hold", "add", "--reason", "CHG-1", "--for", "1h")
    place.put("swap")
    place.beat("n1")
    assert place.json("status")["waiting_on"] == [
        "node n2 to acknowledge epoch 2",
        "hold 1 of dana to be released, or over",
    ]


def test_a_backfill_past_its_total_is_said_in_words(place: Deployment) -> None:
    place.execute(
        "INSERT INTO migrator.jobs (name, source, state, done, total, rejected)"
        " VALUES ('backfill:x', 'simplejwt', 'running', 120, 100, 2)"
    )
    assert place.json("status")["backfill"][0]["done"] == 120
    assert "120 rows, more than the 100 expected" in place.run("status").stdout


def test_status_reports_a_missing_schema_with_exit_5(database: str, tmp_path: Path) -> None:
    place = Deployment(database, tmp_path)
    found = place.json("status", code=5)
    assert found["phase"] is None
    assert "phase" in found["unknown"]
    fits(place.run("status", code=5).stdout)
    assert "phase=unknown" in place.run("status", "--line", code=5).stdout
    for command in (("nodes",), ("gates", "swap"), ("log",), ("rollback",)):
        assert place.json(*command, code=5)["error"]["id"] == "schema.absent"


def test_status_reports_a_database_that_is_down_with_exit_11(tmp_path: Path) -> None:
    place = Deployment("postgresql+psycopg://nobody:geheim@127.0.0.1:1/none", tmp_path)
    result = place.run("status", code=11)
    fits(result.stdout)
    assert "geheim" not in result.stdout + result.stderr
    assert place.json("status", code=11)["drain"] is None
    assert place.json("rollback", code=11)["error"]["id"] == "database.unreachable"


def test_bad_settings_are_told_all_at_once_with_exit_5(place: Deployment) -> None:
    place.config.write_text('environment = 5\nspeed = "high"\n')
    result = place.run("status", code=5)
    assert "speed" in result.stderr
    assert "environment" in result.stderr


def test_global_options_are_taken_before_and_after_the_command(place: Deployment) -> None:
    config = str(place.config)
    command = str(Path(sys.executable).parent / "migrator")
    outs = [
        subprocess.run(
            [command, *args], env=place.environ, capture_output=True, text=True, check=True
        ).stdout
        for args in (
            ("--config", config, "--json", "db", "current"),
            ("db", "current", "--json", "--config", config),
            ("db", "--json", "current", "--config", config),
        )
    ]
    assert outs[0] == outs[1] == outs[2]


def test_nodes_are_listed_with_their_state(place: Deployment) -> None:
    place.beat("acts", build="0.0.1")
    place.execute(
        "INSERT INTO migrator.nodes (id, epoch, lease_until, seen_at) VALUES"
        " ('behind', NULL, now() + interval '9 s', now()),"
        " ('late', 1, now() + interval '2 s', now() - interval '8 s'),"
        " ('silent', 1, now() - interval '1 h', now() - interval '2 h'),"
        " ('undead', 1, now() - interval '1 h', now())"
    )
    found = place.json("nodes")
    states = {node["id"]: node["state"] for node in found["nodes"]}
    assert states == {
        "acts": "acked", "behind": "waiting", "late": "stale", "silent": "gone", "undead": "rogue",
    }  # fmt: skip
    nodes = place.json("status")["nodes"]
    assert [nodes[name] for name in ("live", "acked", "gone", "stale", "rogue", "old_build")] == [
        3, 2, 1, 1, 1, 1,
    ]  # fmt: skip
    assert "undead" in place.run("nodes").stdout


def test_the_schema_is_brought_and_checked(database: str, tmp_path: Path) -> None:
    place = Deployment(database, tmp_path)
    assert place.json("db", "current")["state"] == "absent"
    assert place.json("db", "check", code=5)["problems"][0]["id"] == "schema.absent"
    rehearsed = place.json("db", "upgrade", "--dry-run")
    assert rehearsed["revisions"]
    assert not rehearsed["changed"]
    assert place.value("SELECT to_regnamespace('migrator')") is None
    assert place.json("db", "upgrade")["changed"]
    assert place.json("db", "upgrade")["changed"] is False
    assert "up to date" in place.run("db", "upgrade").stdout
    assert "as this release made it" in place.run("db", "check").stdout
    assert place.run("db", "current").stdout.startswith("head: ")
    assert "CREATE TABLE" in place.run("db", "sql").stdout
    assert "GRANT" in place.json("db", "sql", "--grants", "app")["sql"]
    place.execute("ALTER TABLE migrator.sessions DROP COLUMN label")
    assert place.json("db", "check", code=10)["problems"][0]["id"] == "schema.drifted"


def test_an_empty_journal_says_so(place: Deployment) -> None:
    assert place.run("log").stdout == "nothing was moved yet\n"
    assert place.json("log")["rows"] == []


def test_an_unexpected_error_prints_an_id_and_no_secret(
    place: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("geheim")

    monkeypatch.setattr("migrator.cli.status.report", broken)
    result = place.run("status", code=1)
    assert "internal." in result.stderr
    assert "geheim" not in result.stderr


def test_traffic_says_for_how_long_it_was_watched(place: Deployment) -> None:
    place.beat("n1")
    place.execute("UPDATE migrator.nodes SET started_at = now() - interval '40 s'")
    count(place, "session", 9)
    assert 40 <= place.json("status")["traffic"]["window_s"] <= 60
    assert " s, last counted" in place.run("status").stdout
    place.execute("UPDATE migrator.nodes SET started_at = now() - interval '9 days'")
    assert 82_800 <= place.json("status")["traffic"]["window_s"] <= 86_400


def test_the_removal_horizon_is_shown_once_issuing_has_stopped(place: Deployment) -> None:
    assert "REMOVAL" not in place.run("status").stdout
    place.execute(
        "INSERT INTO migrator.sessions (id, kind, realm, subject, expires_at, origin) VALUES"
        " (gen_random_uuid(), 'session', 'users', 'ann', '2031-12-01T09:00Z', 'login')"
    )
    with place.nodes("n1", "n2"):
        place.move("advance", "swap", "--percent", "10")
        assert "REMOVAL" not in place.run("status").stdout
        place.json("rollback")
    text = place.run("status").stdout
    assert "REMOVAL  the last session ends 2031-12-01 09:00:00Z" in text
    fits(text)
    place.execute("UPDATE migrator.sessions SET revoked_at = now()")
    assert "REMOVAL  no session lives: the shim may go now" in place.run("status").stdout
