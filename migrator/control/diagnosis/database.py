"""Whether the database is fit: reachable, writable, migrated, in time; what nodes counted."""

from __future__ import annotations

import time
from datetime import timedelta
from typing import TYPE_CHECKING, Final

from sqlalchemy import func, select, text

from migrator.control import reach, revisions, roster, schema, signers
from migrator.control.diagnosis.finding import Finding, of_problem
from migrator.core.errors import Stopped
from migrator.stores import tables

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from migrator.settings import Settings

_LEAST_SERVER: Final = 130_000  # pg_current_xact_id
_SKEW_FAIL_S: Final = 5.0
_SKEW_WARN_S: Final = 1.0
_SEEN: Final = frozenset({"legacy", "swapped"})
_ISSUED: Final = ("issued:", "exchanged")
_MOST_ROUTES: Final = 10


def looks(settings: Settings) -> list[Finding]:
    """The database of the settings, and the tables in it."""
    url, home = settings.database.url.get_secret_value(), settings.database.schema
    try:
        with revisions.connected(url) as connection:
            found = [*_server(connection), *_clock(connection)]
        problems = [of_problem(problem) for problem in schema.check(url, home)]
        found += problems or [Finding("schema", "ok", "the tables are as this release made them")]
        if any(problem.id != "schema.drifted" for problem in problems):
            return found
        with reach.reached(url, home) as connection:
            found += [
                *_rights(connection, home),
                *_issuers(connection, home, settings),
                *_leftovers(connection, home),
                *_usage(connection, home),
            ]
    except Stopped as stopped:
        return [of_problem(stopped.problem)]
    return found


def is_retired(settings: Settings) -> bool:
    """Whether `retire` marked the rollout; False where that cannot be told."""
    try:
        with reach.reached(
            settings.database.url.get_secret_value(), settings.database.schema
        ) as connection:
            return not roster.has_legacy(connection, settings.database.schema)
    except Stopped:
        return False


def _server(connection: Connection) -> list[Finding]:
    row = connection.execute(
        text(
            "SELECT current_setting('server_version_num')::int, current_setting('server_version'),"
            " pg_is_in_recovery(), current_setting('default_transaction_read_only') = 'on',"
            " current_setting('synchronous_standby_names'), current_setting('synchronous_commit'),"
            " (SELECT count(*) FROM pg_stat_replication), inet_server_port()"
        )
    ).one()
    number, version, standby, read_only, names, commit, replicas, port = row
    found = []
    if number < _LEAST_SERVER:
        told = f"PostgreSQL {version} is older than 13"
        found.append(Finding("database.old", "fail", told, "upgrade it to 13 or later"))
    else:
        found.append(Finding("database", "ok", f"PostgreSQL {version} answers"))
    if standby or read_only:
        told = "this server is read-only: it is a standby, or set so"
        found.append(
            Finding("database.read-only", "fail", told, "point database.url to the primary")
        )
    if names:
        told = (
            f"a synchronous standby is set (synchronous_commit {commit}); revocations wait for it"
        )
        found.append(Finding("database.standby", "ok", told))
    else:
        told = f"{replicas} standby(s), none synchronous" if replicas else "no standby"
        told += ": a failover or a restore may bring back the sessions that were revoked last"
        do = "set synchronous_standby_names; revocations ask for remote_apply themselves"
        found.append(Finding("database.standby", "warn" if replicas else "info", told, do))
    asked = connection.engine.url.port or 5432
    if port is not None and port != asked:
        told = f"something stands between (asked at port {asked}, answered at {port}): a pooler?"
        do = (
            "pgbouncer in transaction mode is fine from 1.21 on with max_prepared_statements "
            "above 0; statement mode is not"
        )
        found.append(Finding("database.pooler", "info", told, do))
    return found


def _clock(connection: Connection) -> list[Finding]:
    before = time.time()
    theirs = connection.execute(text("SELECT extract(epoch FROM clock_timestamp())")).scalar_one()
    skew = (before + time.time()) / 2 - float(theirs)
    told = f"this machine's clock is {abs(skew):.1f} s {'ahead of' if skew > 0 else 'behind'}"
    told += " the database's"
    if abs(skew) <= _SKEW_WARN_S:
        return [Finding("clock", "ok", told)]
    do = "keep both by NTP; times are judged by the database's clock"
    return [Finding("clock.skew", "fail" if abs(skew) > _SKEW_FAIL_S else "warn", told, do)]


def _rights(connection: Connection, home: str) -> list[Finding]:
    wanted = {"rollout": "SELECT, UPDATE", "rollout_log": "SELECT, INSERT"}
    all_rows = "SELECT, INSERT, UPDATE, DELETE"
    names = [each.name for each in (*tables.LASTING, *tables.LEGACY)]
    missing = []
    for name in names:
        rights = [part.strip() for part in wanted.get(name, all_rows).split(",")]
        held = connection.execute(
            text(
                "SELECT bool_and(has_table_privilege(to_regclass(:name), one))"
                " FROM unnest(cast(:rights AS text[])) one"
            ),
            {"name": f'"{home}"."{name}"', "rights": rights},
        ).scalar_one()
        if held is False:  # null: the table went with `retire`
            missing.append(name)
    if not missing:
        return [Finding("database.rights", "ok", "this role may read and write the rows")]
    role = connection.execute(text("SELECT current_user")).scalar_one()
    told = f"{role} may not do to {', '.join(missing)} what a node has to"
    do = f"have their owner run what `migrator db sql --grants {role}` prints"
    return [Finding("database.rights", "fail", told, do)]


def _issuers(connection: Connection, home: str, settings: Settings) -> list[Finding]:
    known = signers.recorded(connection, home)
    found = []
    for issuer in settings.issuers:
        as_other = [one for one, name in known.items() if name == issuer.name and one != issuer.id]
        if as_other and issuer.id not in known:
            told = (
                f"issuer {issuer.name} has the id {issuer.id}, and the database knows it as "
                f"{as_other[0]}: its tokens would be other tokens, and swap a second time"
            )
            do = f'set id = "{as_other[0]}" again'
            found.append(Finding("issuers.id-changed", "fail", told, do))
        elif issuer.id not in known:
            told = f"issuer {issuer.name} ({issuer.id}) is not recorded in the database"
            do = "migrator init --record; until then nothing guards its id"
            found.append(Finding("issuers.unrecorded", "info", told, do))
    return found


def _leftovers(connection: Connection, home: str) -> list[Finding]:
    feed = tables.in_schema(home).tables[f"{home}.feed"]
    old = connection.execute(
        select(func.count()).where(feed.c.at < func.now() - timedelta(days=1))
    ).scalar_one()
    if not old:
        return []
    told = "rows of the feed are older than a day: the sweep does not run"
    return [Finding("sweep.overdue", "warn", told, "run migrator sweep every hour")]


def _usage(connection: Connection, home: str) -> list[Finding]:
    """What nodes counted that says how the app is wired."""
    if not roster.has_legacy(connection, home):
        return []
    usage = tables.in_schema(home).tables[f"{home}.legacy_usage"]
    total = func.sum(usage.c.count)
    rows = connection.execute(
        select(usage.c.outcome, usage.c.client, total)
        .where(usage.c.hour > func.now() - timedelta(days=7))
        .group_by(usage.c.outcome, usage.c.client)
        .order_by(total.desc())
    ).all()
    outcomes = {row[0] for row in rows}
    found = []
    if outcomes & _SEEN and not any(one.startswith(_ISSUED) for one in outcomes):
        told = (
            "legacy tokens are seen, and neither login nor refresh of the app has called us in a "
            "week: a refresh token can mint what no cutoff sees"
        )
        do = "issue through `login` and `exchange` (playbook 01-install-and-observe)"
        found.append(Finding("app.issues-by-itself", "warn", told, do))
    paths = [
        (row[1], row[0].removeprefix("route:"))
        for row in rows
        if row[0].startswith("route:") and row[0] != "route:issues_legacy"
    ]
    for path, reason in paths[:_MOST_ROUTES]:
        told = f"{path}: the app answered 2xx where we would have refused ({reason})"
        do = "name it under routes.public or login, or its credential under [[foreign]]"
        found.append(Finding("routes.proposed", "info", told, do))
    return found
