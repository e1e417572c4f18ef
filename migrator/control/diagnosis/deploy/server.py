"""What the database server itself may lose, hold up or run out of."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import text

from migrator.control.diagnosis.finding import Finding

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy import Connection

    from migrator.settings import Settings

# Of a node: its pool at rest and the pulse; more are opened under load.
_CONNECTIONS_PER_NODE: Final = 2
_LAG_S: Final = 10
_KEPT_BYTES: Final = 10 * 2**30

_SERVER: Final = text("""
SELECT current_setting('synchronous_commit'), current_setting('fsync'),
  current_setting('full_page_writes'), current_setting('max_connections')::int
    - current_setting('superuser_reserved_connections')::int, pg_backend_pid()""")

_STANDBYS: Final = text("""
SELECT coalesce(application_name, ''), extract(epoch FROM replay_lag)::float8
FROM pg_stat_replication WHERE replay_lag > make_interval(secs => :lag_s) ORDER BY 1""")

_SLOTS: Final = text("""
SELECT slot_name FROM pg_replication_slots
WHERE NOT active AND restart_lsn IS NOT NULL AND NOT pg_is_in_recovery()
  AND pg_wal_lsn_diff(pg_current_wal_lsn(), restart_lsn) > :kept ORDER BY 1""")

_UNVACUUMED: Final = text("""
SELECT c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = :home AND c.relkind = 'r'
  AND 'autovacuum_enabled=false' = ANY(c.reloptions) ORDER BY 1""")


def looks(connection: Connection, settings: Settings) -> list[Finding]:
    """What can be told from here."""
    row = connection.execute(_SERVER).one()
    return [
        *_durable(row),
        *_room(row[3], settings),
        *_pooled(connection, row[4]),
        *_replicas(connection),
        *_vacuum(connection, settings.database.schema),
    ]


def _durable(row: Any) -> Iterator[Finding]:
    commit, fsync, pages, *_ = row
    if fsync == "off" or pages == "off":
        told = "fsync or full_page_writes is off: a crash may leave no session at all"
        yield Finding("database.not-durable", "fail", told, "set both on")
    if commit == "off":
        told = (
            "synchronous_commit is off: a crash forgets the logins of its last second; "
            "revocations ask for a durable commit themselves"
        )
        yield Finding("database.async-commit", "info", told, "set synchronous_commit = on")


def _room(connections: int, settings: Settings) -> Iterator[Finding]:
    nodes = settings.expected_nodes
    if nodes is not None and nodes * _CONNECTIONS_PER_NODE > connections:
        told = (
            f"{nodes} nodes hold {nodes * _CONNECTIONS_PER_NODE} connections at rest, the server "
            f"gives {connections}"
        )
        do = "raise max_connections, or put pgbouncer (1.21 or later) between"
        yield Finding("database.few-connections", "warn", told, do)


def _pooled(connection: Connection, answered: int) -> Iterator[Finding]:
    # A pooler makes up the process id that it tells a client.
    driver: Any = connection.connection.driver_connection
    if driver.info.backend_pid != answered:
        told = "a pooler stands between: session or transaction mode work, statement mode does not"
        do = "pgbouncer 1.21 or later with max_prepared_statements above 0"
        yield Finding("database.pooled", "info", told, do)


def _replicas(connection: Connection) -> Iterator[Finding]:
    for name, lag in connection.execute(_STANDBYS, {"lag_s": _LAG_S}).all():
        told = f"standby {name or 'unnamed'} is {lag:.0f} s behind: a failover loses that much"
        yield Finding("database.lagging", "warn", told, "look at its disk and network")
    for (name,) in connection.execute(_SLOTS, {"kept": _KEPT_BYTES}).all():
        told = f"replication slot {name} is unused and keeps over 10 GB of log on this disk"
        yield Finding("database.slot", "warn", told, "drop it, or bring its reader back")


def _vacuum(connection: Connection, home: str) -> Iterator[Finding]:
    for (name,) in connection.execute(_UNVACUUMED, {"home": home}).all():
        told = f"{home}.{name} is never vacuumed: last-seen updates make it grow for ever"
        do = f"ALTER TABLE {home}.{name} RESET (autovacuum_enabled)"
        yield Finding("database.autovacuum", "warn", told, do)
