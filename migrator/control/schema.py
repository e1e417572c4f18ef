"""Where a database's schema stands, and the only way it is changed.

`upgrade` runs the expand branch, for `db upgrade`; `contract` the other, for `retire` alone. What
the states mean is decided here; how revisions are run, in `revisions.py`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias

from sqlalchemy import MetaData, column, inspect, select, table
from sqlalchemy.dialects import postgresql

from migrator.control import drift, revisions
from migrator.control.revisions import LOCK_TIMEOUT_MS, NOT_RETIRED, Branch
from migrator.core.errors import Exit, Problem, Stopped
from migrator.stores import tables

if TYPE_CHECKING:
    from alembic.script import ScriptDirectory
    from sqlalchemy import ColumnClause, Connection

State: TypeAlias = Literal["absent", "foreign", "behind", "head", "ahead", "broken"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Heads:
    """Which revisions a database has, and which this release would have.

    Args:
        applied: the newest of each branch, as the database has it recorded.
        expand: the newest expand revision of this release.
        contracted: whether the legacy tables were taken away.
    """

    state: State
    applied: tuple[str, ...]
    expand: str
    contracted: bool


def upgrade(
    url: str, schema: str = tables.SCHEMA, *, lock_timeout_ms: int = LOCK_TIMEOUT_MS
) -> list[str]:
    """Bring the tables to this release's expand head; return the revisions applied, if any.

    Safe to repeat and to run twice at once: the second waits, then has nothing to do.

    Raises:
        Stopped: UNREACHABLE; CONFLICT, naming who held the lock; UNFIT where the schema is
            somebody else's, newer than this release, broken, or may not be changed by this role.
    """
    with revisions.connected(url) as connection:
        heads = _heads(connection, schema)
        if heads.state in {"foreign", "ahead", "broken"}:
            raise Stopped(PROBLEMS[heads.state], Exit.UNFIT)
        return revisions.run(connection, schema, "expand", lock_timeout_ms=lock_timeout_ms)


def contract(
    url: str, schema: str = tables.SCHEMA, *, lock_timeout_ms: int = LOCK_TIMEOUT_MS
) -> list[str]:
    """Take the legacy tables away, once and for ever; return the revisions applied, if any.

    Raises:
        Stopped: as `upgrade`; GATE_FAILED unless the rollout is retired and marked so.
    """
    with revisions.connected(url) as connection:
        heads = _heads(connection, schema)
        if heads.state != "head":
            raise Stopped(PROBLEMS[heads.state], Exit.UNFIT)
        if not heads.contracted and not _is_marked(connection, schema):
            raise Stopped(NOT_RETIRED, Exit.GATE_FAILED)
        return revisions.run(connection, schema, "contract", lock_timeout_ms=lock_timeout_ms)


def current(url: str, schema: str = tables.SCHEMA) -> Heads:
    """Which revisions the database has, and how that stands to this release.

    Raises:
        Stopped: UNREACHABLE.
    """
    with revisions.connected(url) as connection:
        return _heads(connection, schema)


def state(url: str, schema: str = tables.SCHEMA) -> State:
    """How the schema stands to this release, in one word; only "head" is fit to run with.

    absent: nothing of ours there. foreign: tables with our names, not made by us. behind: upgrade.
    ahead: a newer release was here. broken: tables missing that no `retire` took away.

    Raises:
        Stopped: UNREACHABLE.
    """
    return current(url, schema).state


def pending(url: str, schema: str = tables.SCHEMA) -> list[str]:
    """The revisions `upgrade` would apply, oldest first; nothing is written.

    Raises:
        Stopped: UNREACHABLE, or UNFIT where `upgrade` would refuse.
    """
    with revisions.connected(url) as connection:
        heads = _heads(connection, schema)
    if heads.state in {"foreign", "ahead", "broken"}:
        raise Stopped(PROBLEMS[heads.state], Exit.UNFIT)
    line = reversed(list(revisions.scripts().iterate_revisions(heads.expand, "base")))
    known = [revision.revision for revision in line]
    done = [index for index, revision in enumerate(known) if revision in heads.applied]
    return known[done[-1] + 1 :] if done else known


def check(url: str, schema: str = tables.SCHEMA) -> tuple[Problem, ...]:
    """What is wrong with the schema: its state, and every difference from what we expect.

    Raises:
        Stopped: UNREACHABLE.
    """
    with revisions.connected(url) as connection:
        heads = _heads(connection, schema)
        if heads.state != "head":
            return (PROBLEMS[heads.state],)
        found = drift.differences(connection, schema, contracted=heads.contracted)
    return () if not found else (_drifted(found),)


def sql(schema: str = tables.SCHEMA, *, branch: Branch = "expand") -> str:
    """The script that does to an empty database what `upgrade` would, for who runs SQL by hand."""
    return revisions.printed(schema, branch)


# What the role of a running app and of the commands needs. The journal is only ever added to, and
# nobody makes a second rollout row or edits the record of revisions.
_RIGHTS: dict[str, str] = {
    tables.rollout.name: "SELECT, UPDATE",
    tables.rollout_log.name: "SELECT, INSERT",
    tables.VERSION_TABLE: "SELECT",
}
_ROWS = "SELECT, INSERT, UPDATE, DELETE"


def grants(role: str, schema: str = tables.SCHEMA, *, legacy: bool = True) -> str:
    """The SQL that lets `role` run everything but `db upgrade` and `retire`: rows, never DDL.

    Args:
        role: an existing role, as it is called; quoting is done here.
        schema: where the tables are.
        legacy: whether the legacy tables are still there.
    """
    kept = (*tables.LASTING, *tables.LEGACY) if legacy else tables.LASTING
    names = [*(table.name for table in kept), tables.VERSION_TABLE]
    home, grantee = _quoted(schema), _quoted(role)
    return "\n".join(
        [
            f"GRANT USAGE ON SCHEMA {home} TO {grantee};",
            *(
                f"GRANT {_RIGHTS.get(name, _ROWS)} ON {home}.{_quoted(name)} TO {grantee};"
                for name in names
            ),
            "",
        ]
    )


# ---- decisions ---------------------------------------------------------------------------------


def _heads(connection: Connection, schema: str) -> Heads:
    names = set(inspect(connection).get_table_names(schema=schema))
    applied = _applied(connection, schema) if tables.VERSION_TABLE in names else ()
    connection.rollback()
    scripts = revisions.scripts()
    known = {revision.revision for revision in scripts.walk_revisions()}
    expand = _newest(scripts, "expand")
    contracted = _newest(scripts, "contract") in applied
    return Heads(
        state=_judge(names, applied, known=known, head=expand, contracted=contracted),
        applied=applied,
        expand=expand,
        contracted=contracted,
    )


def _newest(scripts: ScriptDirectory, branch: Branch) -> str:
    head = scripts.get_revision(f"{branch}@head")
    assert head is not None, branch  # both branches ship with the package
    return head.revision


def _judge(
    names: set[str], applied: tuple[str, ...], *, known: set[str], head: str, contracted: bool
) -> State:
    ours = {table.name for table in (*tables.LASTING, *tables.LEGACY)}
    expected = {table.name for table in tables.LASTING} if contracted else ours
    if not applied:
        return "foreign" if names & ours else "absent"
    if not set(applied) <= known:
        return "ahead"
    if head not in applied:
        return "behind"
    return "head" if expected <= names else "broken"


def _page(state: str, what: str, why: str, do: str) -> Problem:
    return Problem(id=f"schema.{state}", what=what, why=why, do=do)


PROBLEMS: dict[str, Problem] = {
    "absent": _page(
        "absent",
        "our tables are not in this database",
        "the schema was never brought here, or the settings name another database or schema",
        "migrator db upgrade",
    ),
    "foreign": _page(
        "foreign",
        "the schema holds tables with our names that we did not make",
        "no revision of ours is recorded there; they belong to something else",
        "set database.schema to a name of its own",
    ),
    "behind": _page(
        "behind",
        "the schema is older than this release",
        "expand revisions of this release have not run here",
        "migrator db upgrade",
    ),
    "ahead": _page(
        "ahead",
        "the schema is newer than this release",
        "a newer release has upgraded it; this one does not know what it changed",
        "run the commands of the newer release; nodes of this one keep working",
    ),
    "broken": _page(
        "broken",
        "tables of ours are missing, and no `retire` took them away",
        "somebody dropped them, or a restore left them out",
        "restore them from a backup; until then nodes answer 503 rather than guess",
    ),
}


def _drifted(found: list[str]) -> Problem:
    return _page(
        "drifted",
        "the tables differ from what this release made: " + "; ".join(found),
        "somebody changed them by hand",
        "undo the change, or ask what it was for; migrator db check",
    )


# ---- the database ------------------------------------------------------------------------------


def _applied(connection: Connection, schema: str) -> tuple[str, ...]:
    revision: ColumnClause[str] = column("version_num")
    recorded = table(tables.VERSION_TABLE, revision, schema=schema)
    return tuple(connection.scalars(select(revision).select_from(recorded).order_by(revision)))


def _is_marked(connection: Connection, schema: str) -> bool:
    rollout = tables.rollout.to_metadata(MetaData(), schema=schema)
    marked = select(rollout.c.id).where(
        rollout.c.phase == "retired", rollout.c.legacy_removed_at.is_not(None)
    )
    found = connection.scalar(marked)
    connection.rollback()
    return found is not None


def _quoted(name: str) -> str:
    return _PREPARER.quote(name)


# Named parameters: with percent-style ones SQLAlchemy doubles a % in what it quotes. Its dialects'
# constructors are untyped.
_PREPARER = postgresql.dialect(paramstyle="named").identifier_preparer  # type: ignore[no-untyped-call]  # see above
