"""Why a backfill does not begin or go on: one page for the operator for each."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from migrator.core.errors import Exit, Problem, Stopped


def _page(name: str, code: Exit, what: str, why: str, do: str) -> Stopped:
    return Stopped(Problem(id=f"backfill.{name}", what=what, why=why, do=do), code)


def unknown_issuer(given: str, known: Iterable[str]) -> Stopped:
    """The settings have no such issuer."""
    return _page(
        "unknown_issuer",
        Exit.USAGE,
        f"no issuer has the id {given!r}",
        f"the settings name: {', '.join(known) or 'none'}",
        "give the id of an [[issuers]] table, not its name",
    )


def unknown_realm(given: str, known: Iterable[str]) -> Stopped:
    """Nobody of the settings is in that realm."""
    return _page(
        "unknown_realm",
        Exit.USAGE,
        f"no issuer is of the realm {given!r}",
        f"the settings name: {', '.join(known)}",
        "give --realm as an [[issuers]] table has it",
    )


def no_table(name: str) -> Stopped:
    """The ledger is not there."""
    return _page(
        "no_table",
        Exit.USAGE,
        f"there is no table {name}",
        "it is not in this database, not on the search path, or the role may not see it",
        "name it by --from SCHEMA.TABLE, and another database by --source-url env:NAME",
    )


def no_key(name: str) -> Stopped:
    """Pages need an order that stays."""
    return _page(
        "no_key",
        Exit.USAGE,
        f"the table {name} has no primary key",
        "without one a stopped run could not tell which rows it has done",
        "add one, or export the rows and read them with `migrator backfill csv`",
    )


def no_columns(name: str, missing: Iterable[str], *, source: str = "table") -> Stopped:
    """The table is not what its name says."""
    return _page(
        "no_columns",
        Exit.USAGE,
        f"{name} has no column {', '.join(missing)}",
        "the ledger is not of the shape that this source reads",
        f"map its columns with `migrator backfill {source} --columns ours=theirs,…`",
    )


COLUMNS: Final = (
    "give token=COLUMN, or fingerprint=, subject= and exp=; also jti, family, client, iat and "
    "revoked"
)
DENYLIST_COLUMNS: Final = (
    "give jti=COLUMN, token=COLUMN or fingerprint=COLUMN; also until, which is the token's exp"
)
DATES_COLUMNS: Final = "give subject=COLUMN,not_before=COLUMN; also realm, where a column says it"


def bad_columns(why: str, *, do: str = COLUMNS) -> Stopped:
    """`--columns` says what cannot be done."""
    return _page(
        "bad_columns",
        Exit.USAGE,
        "--columns cannot be used as it is",
        why,
        do,
    )


def no_file(name: str, why: str) -> Stopped:
    """The file cannot be read."""
    return _page("no_file", Exit.USAGE, f"{name} cannot be read", why, "check --file")


def no_redis(name: str, why: str, *, unreachable: bool) -> Stopped:
    """The blocklist's Redis cannot be read."""
    return _page(
        "no_redis",
        Exit.UNREACHABLE if unreachable else Exit.USAGE,
        f"{name} cannot be read: {why}",
        "what is done so far is kept; nothing is known of the rest",
        "name it by --redis-url env:NAME, and run it again when it answers",
    )


def no_collection(name: str, wanted: str, found: str | None) -> Stopped:
    """The key is something else."""
    return _page(
        "no_collection",
        Exit.USAGE,
        f"{name} is no {wanted}",
        f"it is a {found}" if found else "it is no collection of members at all",
        "say --set, --zset or --hash as it is, or --pattern for keys that are named after jtis",
    )


def no_rejects(name: str, why: str) -> Stopped:
    """Rejected rows would be lost silently."""
    return _page("no_rejects", Exit.USAGE, f"{name} cannot be written", why, "check --rejects")


def retired() -> Stopped:
    """There is nothing left to seed into."""
    return _page(
        "retired",
        Exit.IRREVERSIBLE,
        "the rollout is retired: there are no legacy tokens any more",
        "a backfilled session waits for its legacy token, and none is read",
        "nothing: who is not logged in by now logs in",
    )


def changed(job: str, named: Iterable[str]) -> Stopped:
    """An unfinished run read other rows, or read them otherwise."""
    return _page(
        "changed",
        Exit.GATE_FAILED,
        f"{job} was begun otherwise and is not finished: {', '.join(named)} differ",
        "going on from its checkpoint would pass over rows that this mapping has not read",
        "run it as it was begun, or add --restart to read everything again: nothing is seeded "
        "twice",
    )


def unfinished(job: str, state: str | None) -> Stopped:
    """There is nothing yet that could be held against the ledger."""
    return _page(
        "unfinished",
        Exit.GATE_FAILED,
        f"{job} is {state}: it has not come to its end" if state else f"{job} was never run",
        "what was not read yet would be told as missing",
        "run `migrator backfill` with the same source and options to its end, then verify it",
    )


def taken(job: str, who: str) -> Stopped:
    """Somebody else is at it."""
    return _page(
        "taken",
        Exit.CONFLICT,
        f"{job} is being run by {who}",
        "two at once would do the same rows, and one's checkpoint would undo the other's",
        "wait for it, or stop it; what either has committed stays",
    )


def no_job(name: str, known: Iterable[str]) -> Stopped:
    """There is no backfill of this name."""
    return _page(
        "no_job",
        Exit.USAGE,
        f"there is no backfill called {name}",
        f"there are: {', '.join(known) or 'none'}",
        "migrator backfill list",
    )


def not_running(name: str, state: str) -> Stopped:
    """Only a run can be tuned."""
    return _page(
        "not_running",
        Exit.GATE_FAILED,
        f"{name} does not run: it is {state}",
        "the next run takes its pace from its own options",
        "run it again with --batch, --workers or --sleep",
    )


def not_paused(name: str, patience: float) -> Stopped:
    """Its process lives and did not look."""
    return _page(
        "not_paused",
        Exit.WAIT_TIMED_OUT,
        f"{name} did not stop within {patience:g} s",
        "a page of it is under way; what was asked for is withdrawn, and nothing was changed",
        "look at it with `migrator backfill list`, and ask again with a longer --wait",
    )
