"""A primary, a standby that follows it, and the failover from one to the other.

The walsender can be frozen apart from its server: what is committed then never reaches the
standby, as on a network that fails a moment before the primary does.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from typing import Any

import psycopg

from migrator.cli.demo.servers import Postgres, embedded_postgres
from migrator.stores.drivers import conninfo

_NAME = "second"
_PATIENCE_S = 30.0


class Standby(Postgres):
    """A copy of `primary` that follows it, until it is promoted."""

    def __init__(self, primary: Postgres) -> None:
        self._primary = primary
        way = f"host=127.0.0.1 port={primary.port} user=postgres application_name={_NAME}"
        super().__init__(
            settings={
                "primary_conninfo": way,
                "wal_receiver_status_interval": "1s",
                "wal_retrieve_retry_interval": "100ms",
            }
        )

    def _initialise(self) -> None:
        self.data_dir.mkdir(mode=0o700)
        self._account.own(self.data_dir)
        self._account.own(self.directory)
        argv = [str(self.bin("pg_basebackup")), "-h", "127.0.0.1", "-p", str(self._primary.port)]
        argv += ["-U", "postgres", "-D", str(self.data_dir), "-X", "stream"]
        argv += ["--checkpoint=fast", "--no-sync"]
        account = self._account.popen_options()
        subprocess.run(argv, cwd=self.directory, check=True, capture_output=True, **account)
        signal_file = self.data_dir / "standby.signal"
        signal_file.touch()
        self._account.own(signal_file)

    def promote(self) -> None:
        """Have it take writes; returns when it does."""
        ask(self, "SELECT pg_promote(true, 30)")


class Pair:
    """Who takes writes, and who follows."""

    def __init__(self, primary: Postgres, standby: Standby) -> None:
        self.primary = primary
        self.standby = standby

    def synchronise(self) -> None:
        """Commits that ask for it wait for the standby from here on."""
        ask(self.primary, f"ALTER SYSTEM SET synchronous_standby_names = '{_NAME}'")
        ask(self.primary, "SELECT pg_reload_conf()")
        until(lambda: bool(self._senders("sync_state = 'sync' AND state = 'streaming'")))

    def stop_sending(self) -> None:
        """Freeze the walsender: from here on nothing reaches the standby."""
        for pid in self._senders("true"):
            os.kill(pid, signal.SIGSTOP)

    def send_again(self) -> None:
        """Let the walsender go on."""
        for pid in self._senders("true"):
            os.kill(pid, signal.SIGCONT)

    def waiting(self) -> list[int]:
        """The backends that wait for the standby in their commit."""
        rows = ask(self.primary, "SELECT pid FROM pg_stat_activity WHERE wait_event = 'SyncRep'")
        return [pid for (pid,) in rows]

    def fail_over(self) -> None:
        """Kill the primary and promote the standby."""
        self.primary.kill()
        self.standby.promote()

    def _senders(self, where: str) -> list[int]:
        query = f"SELECT pid FROM pg_stat_replication WHERE application_name = '{_NAME}'"
        return [pid for (pid,) in ask(self.primary, f"{query} AND {where}")]


@contextmanager
def pairs(rounds: int) -> Iterator[Iterator[Pair]]:
    """So many pairs, one after another: who was promoted is the next one's primary."""

    def each(stack: ExitStack) -> Iterator[Pair]:
        primary: Postgres = stack.enter_context(embedded_postgres())
        for _ in range(rounds):
            standby = stack.enter_context(closing(Standby(primary)))
            yield Pair(primary, standby)
            primary.close()
            primary = standby

    with ExitStack() as stack:
        yield each(stack)


def ask(server: Postgres, query: str) -> list[tuple[Any, ...]]:
    """Run one statement as the server's operator."""
    with psycopg.connect(**conninfo(server.url), autocommit=True) as connection:
        cursor = connection.execute(query.encode())
        return cursor.fetchall() if cursor.description else []


def until(holds: Any) -> None:
    """Wait until a condition holds."""
    deadline = time.monotonic() + _PATIENCE_S
    while not holds():
        assert time.monotonic() < deadline, "it never came to that"
        time.sleep(0.01)
