"""`backfill` through the command line: its screens, its JSON, its exit codes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click.testing
import jsonschema
import pytest

from migrator.cli import main
from migrator.control.backfill import summary
from migrator.control.backfill.board import Progress
from tests.control.backfill.ledgers import SECRET, SWAP_KEY, Ledger, refresh

SCHEMA = Path(__file__).parents[2] / "migrator" / "schemas" / "backfill-1.json"
CONFIG = """
environment = "test"
[database]
url = "env:DB"
[swap]
keys = [{ id = "k1", secret = "env:SWAP" }]
[[issuers]]
id = "a1"
name = "main"
preset = "simplejwt"
keys = ["env:JWT_SECRET"]
"""


class Shell:
    def __init__(self, config: Path, ledger: Ledger) -> None:
        self.config = config
        self.ledger = ledger

    def run(self, *args: str, stdin: bytes = b"", code: int = 0) -> str:
        result = click.testing.CliRunner().invoke(
            main, ["--config", str(self.config), "backfill", *args], input=stdin
        )
        assert result.exit_code == code, (result.output, result.exception)
        self.stderr = result.stderr
        return result.stdout

    def json(self, *args: str, stdin: bytes = b"", code: int = 0) -> Any:
        found = json.loads(self.run(*args, "--json", stdin=stdin, code=code))
        jsonschema.validate(found, json.loads(SCHEMA.read_text()))
        assert found["exit_code"] == code
        return found


@pytest.fixture
def shell(migrated: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Shell:
    config = tmp_path / "migrator.toml"
    config.write_text(CONFIG)
    for name, value in {"DB": migrated, "SWAP": SWAP_KEY, "JWT_SECRET": SECRET}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("MIGRATOR_OPERATOR", "dana")
    return Shell(config, Ledger(migrated).create())


def test_the_report_says_what_was_done_and_what_cannot_be(shell: Shell, tmp_path: Path) -> None:
    shell.ledger.fill(3)
    shell.ledger.add(refresh("8"), revoked=True)
    shell.ledger.add(refresh("9", days=-1))
    shell.ledger.add("broken", user=None)
    rejects = tmp_path / "rejects.jsonl"
    assert shell.run("simplejwt", "--issuer", "a1", "--rejects", str(rejects)).splitlines() == [
        "backfill simplejwt of issuer a1 from public.token_blacklist_outstandingtoken",
        "6 of about 6 rows (100 %) read: done",
        "           3  sessions made, each waiting for its legacy token",
        "           1  over by their own exp",
        "           1  revoked by the ledger, denied from now on",
        "           1  rejected, not_a_jws: no JWT where the token should be",
        f"              each is in {rejects}",
        "cannot be seeded:",
        (
            "  access tokens: never in this ledger: they become sessions when they are presented,"
            " or end by"
        ),
        "    themselves",
        (
            "  refresh tokens made by rotation before simplejwt 5.5.1: they were not recorded"
            " (its issue 863):"
        ),
        "    they become sessions at the refresh route",
        "seen with a legacy token in 1 d:",
        "  subjects: unknown, none was counted",
    ]
    assert json.loads(rejects.read_text()) == {"row": "6", "reason": "not_a_jws"}


def test_every_screen_fits_a_hundred_columns(shell: Shell) -> None:
    shell.ledger.fill(3)
    for at in range(12):
        shell.ledger.add(f"broken{at}", user=None)
    shell.ledger.add(refresh("8"), revoked=True)
    for args in (["--dry-run"], ["--limit-rows", "2"], []):
        code = 13 if args[:1] == ["--limit-rows"] else 0
        out = shell.run("simplejwt", "--issuer", "a1", *args, code=code)
        assert max(map(len, out.splitlines())) <= 100, out
        assert len(out.splitlines()) <= 30


def test_json_of_each_end_validates_against_the_published_schema(shell: Shell) -> None:
    shell.ledger.fill(5)
    rehearsed = shell.json("simplejwt", "--issuer", "a1", "--dry-run")
    assert (rehearsed["seeded"], rehearsed["changed"], rehearsed["dry_run"]) == (5, False, True)
    assert shell.ledger.count("jobs") == shell.ledger.count("sessions") == 0

    limited = shell.json("simplejwt", "--issuer", "a1", "--limit-rows", "2", code=13)
    assert (limited["end"], limited["read"], limited["changed"]) == ("limit", 2, True)

    done = shell.json("simplejwt", "--issuer", "a1")
    assert (done["resumed"], done["read"], done["here"], done["total"]) == (True, 5, 3, 5)

    again = shell.json("simplejwt", "--issuer", "a1")
    assert (again["already"], again["seeded"], again["changed"]) == (5, 0, False)
    assert shell.ledger.execute("SELECT source, state, done FROM migrator.jobs") == [
        ("simplejwt", "done", 5)
    ]


def test_each_source_is_a_command(shell: Shell) -> None:
    shell.ledger.execute("CREATE TABLE public.tokens (id int PRIMARY KEY, jwt text)")
    shell.ledger.execute("INSERT INTO tokens VALUES (1, %s)", refresh("1"))
    table = shell.json(
        "table", "--issuer", "a1", "--from", "public.tokens", "--columns", "token=jwt"
    )
    lines = json.dumps({"token": refresh("2")}).encode() + b"\n"
    jsonl = shell.json("jsonl", "--issuer", "a1", "--file", "-", stdin=lines)
    rows = b"token\r\n" + refresh("3").encode() + b"\r\n"
    csv = shell.json("csv", "--issuer", "a1", "--file", "-", stdin=rows)
    assert [table["seeded"], jsonl["seeded"], csv["seeded"]] == [1, 1, 1]
    assert [table["job"], jsonl["job"], csv["job"]] == [
        "backfill:table:a1:public.tokens",
        "backfill:jsonl:a1:-",
        "backfill:csv:a1:-",
    ]


def test_a_ledger_elsewhere_is_named_by_a_variable_and_never_shown(
    shell: Shell, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    Ledger(database).create().fill(4)
    monkeypatch.setenv("LEDGER", database)
    done = shell.json("simplejwt", "--issuer", "a1", "--source-url", "env:LEDGER")
    assert done["seeded"] == 4
    assert done["place"].endswith(" at env:LEDGER")
    ((kept,),) = shell.ledger.execute("SELECT row_to_json(jobs)::text FROM migrator.jobs")
    assert database.rpartition("/")[2] not in kept


@pytest.mark.parametrize(
    ("args", "code", "said"),
    [
        (["simplejwt"], 2, "--issuer"),
        (["simplejwt", "--issuer", "zz"], 2, "backfill.unknown_issuer"),
        (["table", "--issuer", "a1"], 2, "--from"),
        (["csv", "--issuer", "a1"], 2, "--file"),
        (["simplejwt", "--issuer", "a1", "--source-url", "env:NOWHERE"], 5, "NOWHERE"),
        (
            ["simplejwt", "--issuer", "a1", "--source-url", "postgresql://a:pw7@h/d"],
            5,
            "settings.inline-secret",
        ),
        (["simplejwt", "--issuer", "a1", "--from", "nowhere"], 2, "backfill.no_table"),
    ],
)
def test_what_cannot_be_done_is_said_with_its_exit_code(
    shell: Shell, args: list[str], code: int, said: str
) -> None:
    assert shell.run(*args, code=code) == ""
    assert said in shell.stderr
    assert "pw7" not in shell.stderr


def test_an_error_of_the_ledger_shows_no_token(shell: Shell) -> None:
    token = refresh("a\0b")
    shell.ledger.add(token)
    out = shell.run("simplejwt", "--issuer", "a1")
    for part in token.split("."):
        assert part not in out + shell.stderr


def test_a_schema_that_is_not_there_is_exit_5(
    shell: Shell, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DB", database)
    shell.run("simplejwt", "--issuer", "a1", code=5)
    assert "migrator db upgrade" in shell.stderr


def test_progress_is_words_where_a_number_would_lie() -> None:
    def said(done: int, total: int | None, **more: Any) -> str:
        return summary.line(
            Progress(done=done, total=total, here=50, rejected=0, seconds=0.5, rate=100, **more)
        )

    assert said(50, 200) == "50 of about 200 rows (25 %)  100/s"
    assert said(50, 200, eta_s=90) == "50 of about 200 rows (25 %)  100/s  about 1 min 30 s left"
    assert said(250, 200) == "250 rows, 50 more than were counted at the start  100/s"
    assert said(50, None) == "50 rows, of how many is unknown  100/s"
