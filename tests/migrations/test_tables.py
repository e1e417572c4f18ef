"""The tables arrive, stay as described, hurt nobody else's, and leave only with `retire`."""

from __future__ import annotations

import subprocess
import textwrap
from pathlib import Path

import pytest
from alembic import command
from alembic.config import Config
from sqlalchemy import make_url, text

from migrator.control import schema
from migrator.core.errors import Exit, Stopped
from migrator.core.phases import Phase
from migrator.stores import tables
from tests.conftest import DatabaseServer
from tests.migrations.databases import (
    LASTING,
    LEGACY,
    SESSION,
    catalog,
    column,
    connect,
    execute,
    names,
    retire,
    role,
)


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
