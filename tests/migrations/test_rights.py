"""What the rights and the constraints of our tables forbid."""

from __future__ import annotations

import pytest
from sqlalchemy.exc import DBAPIError, ProgrammingError

from migrator.control import schema
from migrator.core.errors import Exit, Stopped
from tests.migrations.databases import LASTING, LEGACY, SESSION, execute, names, retire, role

# ---- rights ------------------------------------------------------------------------------------


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
