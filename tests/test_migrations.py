"""The tables arrive, stay as described, hurt nobody else's, and leave only with `retire`."""

from __future__ import annotations

import subprocess
import sys
import textwrap
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from alembic import command
from alembic.config import Config
from sqlalchemy import Connection, create_engine, make_url, text
from sqlalchemy.exc import DBAPIError, ProgrammingError
from sqlalchemy.pool import NullPool

from migrator.control import revisions, schema
from migrator.control.blockers import without_literals
from migrator.core.errors import Exit, Stopped
from migrator.core.phases import Phase
from migrator.stores import tables
from tests.conftest import DatabaseServer

LASTING = {table.name for table in tables.LASTING}
LEGACY = {table.name for table in tables.LEGACY}


@contextmanager
def connect(url: str, **kw: Any) -> Iterator[Connection]:
    """A connection that commits at the end."""
    with create_engine(url, poolclass=NullPool, **kw).begin() as connection:
        yield connection


def execute(url: str, *statements: str) -> None:
    with connect(url) as connection:
        for statement in statements:
            connection.execute(text(statement))


def column(url: str, query: str) -> list[Any]:
    with connect(url) as connection:
        return list(connection.execute(text(query)).scalars())


def names(url: str, home: str = "migrator") -> set[str]:
    return set(column(url, f"SELECT tablename FROM pg_tables WHERE schemaname = '{home}'"))


def retire(url: str, home: str = "migrator") -> None:
    execute(url, f"UPDATE {home}.rollout SET phase = 'retired', legacy_removed_at = now()")


SESSION = """
    INSERT INTO {home}.sessions (id, digest, kind, realm, subject, origin, expires_at)
    VALUES (gen_random_uuid(), sha256('{who}'), 'session', 'users', '{who}', 'login',
            now() + interval '1 day')
"""


def test_fresh_upgrade_leaves_every_table_and_says_what_it_ran(database: str) -> None:
    assert schema.state(database) == "absent"
    assert schema.pending(database) == ["0001_expand"]
    assert schema.upgrade(database) == ["0001_expand"]
    assert names(database) == LASTING | LEGACY | {tables.VERSION_TABLE}
    assert schema.current(database) == schema.Heads(
        state="head", applied=("0001_expand",), expand="0001_expand", contracted=False
    )
    assert names(database, "public") == set()


def test_second_upgrade_changes_nothing(database: str) -> None:
    schema.upgrade(database)
    before = catalog(database, "migrator")
    execute(database, SESSION.format(home="migrator", who="anna"))
    assert schema.pending(database) == []
    assert schema.upgrade(database) == []
    assert catalog(database, "migrator") == before
    assert column(database, "SELECT subject FROM migrator.sessions") == ["anna"]


def test_a_fresh_schema_stands_in_observe_at_epoch_one(database: str) -> None:
    schema.upgrade(database)
    with connect(database) as connection:
        rows = connection.execute(
            text(
                "SELECT phase, percent, epoch, exceptions, legacy_removed_at FROM migrator.rollout"
            )
        ).all()
    assert [tuple(row) for row in rows] == [(Phase.OBSERVE, 0, 1, [], None)]


def catalog(url: str, home: str) -> set[tuple[str, ...]]:
    """Columns, constraints, indexes and storage of a schema, as PostgreSQL spells them."""
    query = """
        WITH home AS (SELECT oid, nspname FROM pg_namespace WHERE nspname = :home)
        SELECT c.relname, a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull::text,
               coalesce(pg_get_expr(d.adbin, d.adrelid), ''), a.attidentity::text
        FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0
        LEFT JOIN pg_attrdef d ON d.adrelid = c.oid AND d.adnum = a.attnum
        JOIN home ON home.oid = c.relnamespace
        WHERE c.relkind = 'r' AND NOT a.attisdropped
        UNION ALL
        SELECT conrelid::regclass::text, conname, pg_get_constraintdef(pg_constraint.oid),
               '', '', ''
        FROM pg_constraint JOIN home ON home.oid = connamespace
        UNION ALL
        SELECT tablename, indexname, indexdef, '', '', '' FROM pg_indexes
        JOIN home ON home.nspname = schemaname
        UNION ALL
        SELECT relname, coalesce(reloptions::text, ''), '', '', '', '' FROM pg_class
        JOIN home ON home.oid = relnamespace WHERE relkind = 'r'
    """
    with connect(url) as connection:
        rows = connection.execute(text(query), {"home": home}).all()
    return {
        tuple(str(cell).replace(f"{home}.", "") for cell in row)
        for row in rows
        if tables.VERSION_TABLE not in row[0]
    }


def test_the_revisions_build_exactly_what_tables_py_says(database: str) -> None:
    """To the last CHECK and partial index, which autogenerate does not compare."""
    schema.upgrade(database)
    with connect(database) as connection:
        connection.execute(text("CREATE SCHEMA page"))
        tables.in_schema("page").create_all(connection)
    built = catalog(database, "migrator")
    assert built == catalog(database, "page")
    assert {"sessions_living_idx", "cutoffs_one_check", "keep_until"} <= {row[1] for row in built}
    assert schema.check(database) == ()


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ("DROP INDEX migrator.sessions_living_idx", "sessions_living_idx"),
        ("ALTER TABLE migrator.sessions DROP COLUMN label", "label"),
        ("ALTER TABLE migrator.denials ALTER reason DROP NOT NULL", "modify_nullable"),
    ],
)
def test_check_names_what_somebody_changed_by_hand(migrated: str, change: str, told: str) -> None:
    execute(migrated, change)
    (problem,) = schema.check(migrated)
    assert problem.id == "schema.drifted"
    assert told in problem.what


def test_an_index_of_the_owners_own_is_no_problem(migrated: str) -> None:
    execute(migrated, "CREATE INDEX ours_to_have ON migrator.sessions (client)")
    assert schema.check(migrated) == ()


@pytest.mark.parametrize(
    "home", ["sessions_of_acme", "Mixed Case", "100%;--", "o'clock", "public"]
)
def test_the_schema_may_have_any_name(database: str, home: str) -> None:
    schema.upgrade(database, home)
    assert schema.state(database, home) == "head"
    assert schema.check(database, home) == ()
    assert schema.state(database, "migrator") == "absent"
    quoted = '"' + home + '"'
    retire(database, quoted)
    schema.contract(database, home)
    assert schema.current(database, home).contracted


def test_a_schema_made_beforehand_needs_no_right_to_create_one(
    postgres: DatabaseServer, database: str
) -> None:
    with role(database) as (name, as_role):
        execute(database, f"CREATE SCHEMA migrator AUTHORIZATION {name}")
        assert schema.upgrade(as_role) == ["0001_expand"]
        assert schema.check(as_role) == ()


def test_a_role_named_as_the_schema_finds_it(database: str) -> None:
    """Its search path makes ours the default schema, which Alembic calls None."""
    with role(database) as (name, as_role):
        execute(database, f"CREATE SCHEMA AUTHORIZATION {name}")
        schema.upgrade(as_role, name)
        assert schema.check(as_role, name) == ()


# ---- other people's Alembic --------------------------------------------------------------------


def foreign_project(directory: Path, url: str) -> Config:
    """An app's own Alembic project, with a table `sessions` of its own in `public`."""
    (directory / "versions").mkdir(parents=True)
    (directory / "env.py").write_text(
        textwrap.dedent(
            f"""
            from alembic import context
            from sqlalchemy import create_engine
            from sqlalchemy.pool import NullPool
            with create_engine({url!r}, poolclass=NullPool).connect() as connection:
                context.configure(connection=connection)
                with context.begin_transaction():
                    context.run_migrations()
            """
        )
    )
    for revision, down, statement in (
        ("aaa1", None, "CREATE TABLE sessions (id integer)"),
        ("aaa2", "aaa1", "ALTER TABLE sessions ADD COLUMN app_column text"),
    ):
        (directory / "versions" / f"{revision}.py").write_text(
            f"from alembic import op\nrevision = {revision!r}\ndown_revision = {down!r}\n"
            f"def upgrade():\n    op.execute({statement!r})\n"
        )
    config = Config()
    config.set_main_option("script_location", str(directory))
    config.set_main_option("path_separator", "os")
    return config


def test_an_apps_own_alembic_history_is_neither_read_nor_touched(
    database: str, tmp_path: Path
) -> None:
    theirs = foreign_project(tmp_path / "app", database)
    command.upgrade(theirs, "aaa1")
    assert schema.upgrade(database) == ["0001_expand"]
    assert column(database, "SELECT version_num FROM public.alembic_version") == ["aaa1"]
    command.upgrade(theirs, "head")
    assert column(database, "SELECT version_num FROM public.alembic_version") == ["aaa2"]
    assert schema.state(database) == "head"
    assert schema.check(database) == ()


def test_tables_with_our_names_that_we_did_not_make_are_left_alone(
    database: str, tmp_path: Path
) -> None:
    """The app has a `sessions`, and somebody set database.schema to its schema."""
    command.upgrade(foreign_project(tmp_path / "app", database), "head")
    assert schema.state(database, "public") == "foreign"
    with pytest.raises(Stopped) as stopped:
        schema.upgrade(database, "public")
    assert (stopped.value.problem.id, stopped.value.exit_code) == ("schema.foreign", Exit.UNFIT)
    assert names(database, "public") == {"alembic_version", "sessions"}


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


# ---- by hand -----------------------------------------------------------------------------------


def test_the_printed_script_does_what_upgrade_does(
    postgres: DatabaseServer, database: str, migrated: str
) -> None:
    psql(postgres, database, schema.sql())
    assert catalog(database, "migrator") == catalog(migrated, "migrator")
    assert schema.state(database) == "head"
    assert schema.check(database) == ()
    assert schema.upgrade(database) == []


def test_the_printed_script_run_twice_fails_and_changes_nothing(
    postgres: DatabaseServer, database: str
) -> None:
    psql(postgres, database, schema.sql())
    before = catalog(database, "migrator")
    with pytest.raises(subprocess.CalledProcessError):
        psql(postgres, database, schema.sql())
    assert catalog(database, "migrator") == before


def psql(server: DatabaseServer, url: str, script: str) -> None:
    plain = make_url(url).set(drivername="postgresql").render_as_string(hide_password=False)
    subprocess.run(
        [server.bin("psql"), "-X", "-q", "-v", "ON_ERROR_STOP=1", plain],
        input=script,
        text=True,
        check=True,
        capture_output=True,
    )


# ---- rights ------------------------------------------------------------------------------------


@contextmanager
def role(url: str) -> Iterator[tuple[str, str]]:
    """A login role without rights, and the URL that comes in as it."""
    name = f"role_{make_url(url).database}"
    execute(url, f"CREATE ROLE {name} LOGIN PASSWORD 'app'")
    as_role = make_url(url).set(username=name, password="app")
    try:
        yield name, as_role.render_as_string(hide_password=False)
    finally:
        execute(url, f"DROP OWNED BY {name}", f"DROP ROLE {name}")


def test_the_printed_grants_suffice_for_rows_and_allow_no_ddl(migrated: str) -> None:
    with role(migrated) as (name, as_role):
        with pytest.raises(ProgrammingError, match="permission denied"):
            execute(as_role, "SELECT FROM migrator.sessions")
        execute(migrated, schema.grants(name))
        execute(
            as_role,
            SESSION.format(home="migrator", who="anna"),
            "UPDATE migrator.sessions SET revoked_at = now()",
            "INSERT INTO migrator.feed (kind, key) VALUES ('subject', 'anna')",
            "INSERT INTO migrator.denials (issuer, jti, reason) VALUES ('a1', 'j', 'r')"
            " ON CONFLICT (issuer, jti) DO UPDATE SET reason = 'again'",
            "SELECT FROM migrator.rollout FOR UPDATE",
            "UPDATE migrator.rollout SET epoch = epoch + 1",
            "INSERT INTO migrator.rollout_log (who, command) VALUES ('me', 'advance')",
        )
        for table in (LASTING | LEGACY) - {"rollout", "rollout_log"}:
            execute(as_role, f"DELETE FROM migrator.{table}")
        assert schema.state(as_role) == "head"
        assert schema.upgrade(as_role) == []
        for forbidden in (
            "CREATE TABLE migrator.more (id integer)",
            "ALTER TABLE migrator.sessions ADD COLUMN more text",
            "DROP TABLE migrator.sessions",
            "TRUNCATE migrator.sessions",
            "DELETE FROM migrator.rollout_log",
            "DELETE FROM migrator.rollout",
            "UPDATE migrator.migrator_alembic_version SET version_num = 'x'",
        ):
            with pytest.raises(ProgrammingError, match=r"permission denied|must be owner"):
                execute(as_role, forbidden)


def test_grants_after_retire_name_only_what_is_left(migrated: str) -> None:
    retire(migrated)
    schema.contract(migrated)
    with role(migrated) as (name, _):
        execute(migrated, schema.grants(name, legacy=False))


def test_grants_quote_what_they_name() -> None:
    granted = schema.grants('x; DROP ROLE "y"', "Mixed Case")
    assert 'TO "x; DROP ROLE ""y""";' in granted
    assert 'ON "Mixed Case".sessions' in granted


def test_a_role_that_may_not_change_tables_is_told_so(database: str) -> None:
    with role(database) as (_, as_role), pytest.raises(Stopped) as stopped:
        schema.upgrade(as_role)
    assert stopped.value.problem.id == "schema.forbidden"
    assert stopped.value.exit_code == Exit.UNFIT
    assert names(database) == set()


# ---- what the constraints forbid ---------------------------------------------------------------


@pytest.mark.parametrize(
    "statement",
    [
        "INSERT INTO migrator.rollout (id, phase) VALUES (false, 'swap')",
        "INSERT INTO migrator.rollout (phase) VALUES ('swap')",
        "UPDATE migrator.rollout SET phase = 'sideways'",
        "UPDATE migrator.rollout SET percent = 101",
        "UPDATE migrator.sessions SET digest = 'short'",
        "UPDATE migrator.sessions SET expires_at = NULL",
        "INSERT INTO migrator.denials (issuer, reason) VALUES ('a1', 'nothing named')",
        "INSERT INTO migrator.denials (issuer, jti, family, reason) VALUES ('a', 'j', 'f', '')",
        "INSERT INTO migrator.cutoffs (subject, not_before) VALUES ('anna', now())",
        "INSERT INTO migrator.cutoffs (realm, subject) VALUES ('users', 'anna')",
        "INSERT INTO migrator.cutoffs (kid) VALUES ('k1')",
        "INSERT INTO migrator.cutoffs (issuer, not_before) VALUES ('a1', now())",
    ],
)
def test_rows_that_mean_nothing_are_refused(migrated: str, statement: str) -> None:
    execute(migrated, SESSION.format(home="migrator", who="anna"))
    with pytest.raises(DBAPIError, match=r"violates (check|unique) constraint"):
        execute(migrated, statement)


@pytest.mark.parametrize(
    "statement",
    [
        "INSERT INTO migrator.cutoffs (realm, subject, not_before) VALUES ('users', 'a', now())",
        "INSERT INTO migrator.cutoffs (issuer) VALUES ('a1')",
        "INSERT INTO migrator.cutoffs (issuer, kid) VALUES ('a1', 'k1')",
        "UPDATE migrator.sessions SET kind = 'api', expires_at = NULL",
    ],
)
def test_rows_that_mean_something_are_taken(migrated: str, statement: str) -> None:
    execute(migrated, SESSION.format(home="migrator", who="anna"), statement)
