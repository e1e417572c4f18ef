"""Migrations of live databases: what state they are in, and that there is one way out."""

from __future__ import annotations

import subprocess
import sys
import threading

import pytest
from alembic import command
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from migrator.control import revisions, schema
from migrator.control.blockers import without_literals
from migrator.core.errors import Exit, Stopped
from migrator.stores import tables
from tests.migrations.databases import (
    LASTING,
    LEGACY,
    SESSION,
    column,
    connect,
    execute,
    names,
    retire,
)

# ---- states ------------------------------------------------------------------------------------


def test_a_newer_releases_schema_is_ahead_and_not_touched(migrated: str) -> None:
    execute(migrated, "UPDATE migrator.migrator_alembic_version SET version_num = '0099_expand'")
    assert schema.state(migrated) == "ahead"
    with pytest.raises(Stopped) as stopped:
        schema.upgrade(migrated)
    assert (stopped.value.problem.id, stopped.value.exit_code) == ("schema.ahead", Exit.UNFIT)
    with pytest.raises(Stopped):
        schema.pending(migrated)


def test_missing_tables_without_the_mark_are_a_broken_schema(migrated: str) -> None:
    """Never taken for `retired`: that would refuse every legacy token unread."""
    execute(migrated, "DROP TABLE migrator.legacy_tokens")
    assert schema.state(migrated) == "broken"
    with pytest.raises(Stopped) as stopped:
        schema.upgrade(migrated)
    assert stopped.value.problem.id == "schema.broken"


def test_an_unreachable_database_is_told_without_its_password() -> None:
    for url in (
        "postgresql+psycopg://u:hunter2secret@127.0.0.1:1/x",
        "postgresql://127.0.0.1:1/x?user=u&password=hunter2secret",
    ):
        with pytest.raises(Stopped) as stopped:
            schema.upgrade(url)
        assert stopped.value.problem.id == "database.unreachable"
        assert stopped.value.exit_code == Exit.UNREACHABLE
        assert "127.0.0.1" in str(stopped.value)
        assert "hunter2secret" not in str(stopped.value)


def test_a_url_that_is_none_is_not_repeated() -> None:
    with pytest.raises(Stopped) as stopped:
        schema.state("hunter2secret")
    assert stopped.value.problem.id == "database.url"
    assert "hunter2secret" not in str(stopped.value)


# ---- live databases ----------------------------------------------------------------------------


def test_upgrade_on_a_live_database_disturbs_no_row(database: str) -> None:
    execute(
        database,
        "CREATE TABLE users (id integer PRIMARY KEY, name text)",
        "INSERT INTO users SELECT i, 'user ' || i FROM generate_series(1, 1000) i",
    )
    with connect(database) as busy:
        busy.execute(text("UPDATE users SET name = 'in flight' WHERE id = 1"))
        schema.upgrade(database)
    assert column(database, "SELECT count(*) FROM users WHERE name = 'in flight'") == [1]
    assert column(database, "SELECT count(*) FROM users") == [1000]


UPGRADE = "import sys; from migrator.control import schema; print(schema.upgrade(sys.argv[1]))"


def test_two_operators_at_once_apply_each_revision_once(database: str) -> None:
    runs = [
        subprocess.Popen(
            [sys.executable, "-c", UPGRADE, database], stdout=subprocess.PIPE, text=True
        )
        for _ in range(3)
    ]
    said = sorted(run.communicate(timeout=60)[0].strip() for run in runs)
    assert [run.returncode for run in runs] == [0, 0, 0]
    assert said == ["['0001_expand']", "[]", "[]"]


def test_two_threads_at_once_apply_each_revision_once(database: str) -> None:
    said: list[list[str]] = []
    threads = [
        threading.Thread(target=lambda: said.append(schema.upgrade(database))) for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(said) == [[], [], ["0001_expand"]]


def test_a_lock_timeout_names_who_was_in_the_way_and_changes_nothing(migrated: str) -> None:
    retire(migrated)
    with connect(migrated, connect_args={"application_name": "nightly-report"}) as busy:
        pid = busy.scalar(text("SELECT pg_backend_pid()"))
        busy.execute(text("SELECT count(*) FROM migrator.denials WHERE reason = 'hunter2secret'"))
        with pytest.raises(Stopped) as stopped:
            schema.contract(migrated, lock_timeout_ms=1500)
    assert (stopped.value.problem.id, stopped.value.exit_code) == ("schema.locked", Exit.CONFLICT)
    for shown in (f"pid {pid}", "nightly-report", "idle in transaction", "migrator.denials"):
        assert shown in stopped.value.problem.what
    assert "hunter2secret" not in str(stopped.value)
    assert names(migrated) >= LEGACY
    assert schema.contract(migrated) == ["0002_contract"]


@pytest.mark.parametrize(
    ("query", "shown"),
    [
        ("SELECT 1 FROM t\n WHERE a = $1", "SELECT ? FROM t WHERE a = $1"),
        ("UPDATE t SET s = 'secret' WHERE id = 7", "UPDATE t SET s = …"),
        ("UPDATE t2 SET n = 4711.5", "UPDATE t2 SET n = ?"),
        (r"SELECT E'it\'s' || 'secret'", "SELECT E …"),
        ("SELECT $tag$secret$tag$", "SELECT …"),
        ("/* user=secret */ SELECT 1", "…"),
        ("SELECT a -- secret", "SELECT a …"),
    ],
)
def test_a_blockers_query_is_shown_without_its_values(query: str, shown: str) -> None:
    assert without_literals(query) == shown


# ---- there is no way back, and one way out -----------------------------------------------------


@pytest.mark.parametrize("target", ["base", "expand@base", "-1"])
def test_downgrade_refuses_and_keeps_every_table(migrated: str, target: str) -> None:
    with revisions.connected(migrated) as connection:
        config = revisions.config("migrator")
        config.attributes["connection"] = connection
        with pytest.raises(RuntimeError, match="left in place"):
            command.downgrade(config, target)
    assert names(migrated) >= LASTING | LEGACY


@pytest.mark.parametrize(
    "half",
    [
        "phase = 'cutover'",
        "phase = 'retired'",
        "phase = 'cutover', legacy_removed_at = now()",
    ],
)
def test_contract_refuses_until_retired_and_marked(migrated: str, half: str) -> None:
    execute(migrated, f"UPDATE migrator.rollout SET {half}")
    with pytest.raises(Stopped) as stopped:
        schema.contract(migrated)
    assert stopped.value.problem.id == "schema.not_retired"
    assert stopped.value.exit_code == Exit.GATE_FAILED
    assert names(migrated) >= LEGACY


def test_the_contract_revision_refuses_by_any_other_road(migrated: str) -> None:
    with revisions.connected(migrated) as connection, pytest.raises(Stopped) as stopped:
        revisions.run(connection, "migrator", "contract", lock_timeout_ms=1000)
    assert stopped.value.problem.id == "schema.not_retired"
    with connect(migrated) as connection, pytest.raises(DBAPIError, match="migrator retire"):
        connection.exec_driver_sql(schema.sql(branch="contract"))
    assert names(migrated) >= LEGACY


def test_contract_leaves_what_lasts_and_later_upgrades_do_not_bring_the_rest_back(
    migrated: str,
) -> None:
    execute(migrated, SESSION.format(home="migrator", who="anna"))
    retire(migrated)
    assert schema.contract(migrated) == ["0002_contract"]
    assert schema.contract(migrated) == []
    assert names(migrated) == LASTING | {tables.VERSION_TABLE}
    assert column(migrated, "SELECT subject FROM migrator.sessions") == ["anna"]
    heads = schema.current(migrated)
    assert (heads.state, heads.contracted) == ("head", True)
    assert schema.upgrade(migrated) == []
    assert schema.check(migrated) == ()
    assert names(migrated) == LASTING | {tables.VERSION_TABLE}


def test_upgrade_never_comes_past_the_contract_branch() -> None:
    scripts = revisions.scripts()
    expand = {revision.revision for revision in scripts.iterate_revisions("expand@head", "base")}
    assert not [revision for revision in expand if "contract" in revision]


def test_every_revision_says_its_branch_and_imports_nothing_of_ours() -> None:
    files = sorted((revisions.migrations_dir() / "versions").glob("[0-9]*.py"))
    assert files
    for file in files:
        branch = file.name.split("_")[1]
        source = file.read_text()
        assert branch in {"expand", "contract"}
        assert f"{branch.capitalize()}: " in source.split('"""')[1]
        assert "import migrator" not in source
        assert "from migrator" not in source
