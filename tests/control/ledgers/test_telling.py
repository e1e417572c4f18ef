"""What the operator is told of ledgers: by `doctor`, by `status`, and by reading them once."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from click.testing import CliRunner

from migrator import wiring
from migrator.cli import main
from tests.control.ledgers.deployment import SIMPLEJWT, App, comes_true, jti, sign

SCHEMAS = Path(__file__).parents[3] / "migrator" / "schemas"
FILE = """
environment = "test"
app = "acme"
expected_nodes = 1
[database]
url = "env:DB"
[swap]
keys = [{ id = "k1", secret = "env:SWAP" }]
[[issuers]]
id = "a1"
name = "main"
algorithms = ["HS256"]
keys = ["env:JWT_SECRET"]
lifetime = "1h"
refresh_lifetime = "30d"
"""
BLOCKLIST = "CREATE TABLE blocklist (id serial PRIMARY KEY, jti text)"
LEDGER = """
[[ledgers]]
kind = "table"
table = "blocklist"
columns = { jti = "jti", revoked_at = "id" }
"""


class Desk:
    """The command line at a deployment."""

    def __init__(self, url: str, directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        from tests.rig import SECRET, SWAP_KEY  # noqa: PLC0415 - what the file names

        self.file = directory / "migrator.toml"
        self.app = App(url)
        for name, value in {"DB": url, "SWAP": SWAP_KEY, "JWT_SECRET": SECRET}.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setenv("MIGRATOR_CONFIG", str(self.file))
        self.write("")

    def write(self, ledgers: str) -> None:
        self.file.write_text(FILE + ledgers)

    def run(self, *args: str, schema: str, code: int = 0) -> dict[str, Any]:
        result = CliRunner().invoke(main, [*args, "--json"])
        assert result.exit_code == code, (result.output, result.exception)
        found: dict[str, Any] = json.loads(result.stdout)
        jsonschema.validate(found, json.loads((SCHEMAS / f"{schema}-1.json").read_text()))
        return found

    def doctor(self) -> list[tuple[str, str, str]]:
        found = self.run("doctor", schema="doctor")["findings"]
        return [
            (each["id"], each["level"], each["text"])
            for each in found
            if each["id"].startswith("ledgers.")
        ]

    def warnings(self) -> list[str]:
        found = self.run("status", schema="status")["warnings"]
        return [each["text"] for each in found if each["id"] == "ledgers.stale"]


@pytest.fixture
def desk(migrated: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Desk:
    return Desk(migrated, tmp_path, monkeypatch)


def test_doctor_states_the_bound_of_each_ledger_it_can_read(desk: Desk) -> None:
    desk.app.execute(BLOCKLIST)
    desk.write(LEDGER + 'every = "10s"\n')
    ((name, level, told),) = desk.doctor()
    assert (name, level) == ("ledgers.read", "ok")
    assert "every 10 s" in told
    assert "within 11 s" in told


def test_doctor_warns_of_a_ledger_it_cannot_read_and_does_not_fail(desk: Desk) -> None:
    desk.write(LEDGER)
    ((name, level, told),) = desk.doctor()
    assert (name, level) == ("ledgers.unreadable", "warn")
    assert "UndefinedTable" in told


def test_doctor_names_what_looks_like_a_ledger_and_is_none(desk: Desk) -> None:
    desk.app.execute(SIMPLEJWT)
    desk.app.execute(BLOCKLIST)
    desk.app.execute("CREATE TABLE auth_user (id int, is_active boolean)")
    told = desk.doctor()
    assert {each[0] for each in told} == {"ledgers.unwired"}
    assert [each[1] for each in told] == ["warn", "info", "info"]
    assert "token_blacklist" in told[0][2]
    assert "public.blocklist" in told[1][2]
    assert "is_active" in told[2][2]
    desk.write(
        '[[ledgers]]\nkind = "simplejwt"\n[[ledgers]]\nkind = "users"\ntable = "auth_user"\n'
        'columns = { subject = "id", active = "is_active" }\n' + LEDGER
    )
    assert {each[0] for each in desk.doctor()} == {"ledgers.read"}


def test_doctor_names_an_issuer_whose_library_would_ask_a_function(desk: Desk) -> None:
    text = FILE.replace('name = "main"', 'name = "main"\npreset = "flask-jwt-extended"')
    desk.file.write_text(text)
    ((name, level, told),) = desk.doctor()
    assert (name, level) == ("ledgers.unwired", "info")
    assert "token_in_blocklist_loader" in told


def test_status_warns_while_a_ledger_is_not_read(desk: Desk) -> None:
    desk.write(LEDGER)
    assert desk.warnings() == []  # and no node lives
    app = App(
        desk.app.rig.url,
        None,
        {"kind": "table", "table": "blocklist", "columns": {"jti": "jti"}, "every": "100ms"},
    )
    app.show(sign("7"))
    assert comes_true(lambda: app.rig.count("nodes", "lease_until > now()"))
    assert comes_true(lambda: app.rig.count("jobs", "state = 'failed'"))
    (told,) = desk.warnings()
    assert "UndefinedTable" in told
    assert "never read" in told
    app.execute(BLOCKLIST)
    assert comes_true(lambda: app.rig.count("jobs", "state = 'idle' AND detail ? 'read_at'"))
    assert desk.warnings() == []
    wiring.stop()


def test_status_does_not_take_a_ledger_for_a_backfill(desk: Desk) -> None:
    desk.app.execute(BLOCKLIST)
    desk.write(LEDGER)
    desk.run("backfill", "ledgers", schema="ledgers")
    assert desk.run("status", schema="status")["backfill"] == []


def test_reading_once_denies_and_says_so(desk: Desk) -> None:
    desk.app.execute(BLOCKLIST)
    desk.write(LEDGER)
    token, session = desk.app.swapped("7")
    desk.app.execute("INSERT INTO blocklist (jti) VALUES (%s), ('other')", jti(token))
    rehearsed = desk.run("--dry-run", "backfill", "ledgers", schema="ledgers")
    assert (rehearsed["changed"], rehearsed["dry_run"]) == (False, True)
    assert desk.app.rig.count("denials") + desk.app.rig.count("jobs") == 0
    assert desk.app.is_alive(session)
    done = desk.run("backfill", "ledgers", schema="ledgers")
    assert done["changed"]
    assert [{**each, "why": None} for each in rehearsed["ledgers"]] == done["ledgers"]
    assert done["ledgers"][0] == {
        "name": "table",
        "kind": "table",
        "read": 2,
        "denied": 2,
        "ended": 1,
        "lifted": 0,
        "why": None,
    }
    again = desk.run("backfill", "ledgers", schema="ledgers")
    assert not again["changed"]
    assert again["ledgers"][0]["denied"] == 0


def test_reading_once_tells_which_could_not_be_read(desk: Desk) -> None:
    desk.app.execute(BLOCKLIST)
    desk.write(LEDGER + '[[ledgers]]\nkind = "callback"\n' + LEDGER.replace("blocklist", "gone"))
    found = desk.run("backfill", "ledgers", schema="ledgers", code=11)
    assert [each["why"] for each in found["ledgers"]] == [
        None,
        "only the app has its function",
        "UndefinedTable",
    ]
    text = CliRunner().invoke(main, ["backfill", "ledgers"]).output
    assert "table: 0 read, 0 newly denied, 0 sessions ended" in text
