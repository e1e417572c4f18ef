"""Every form of Redis URL, against a server of its kind."""

from __future__ import annotations

import asyncio
import datetime as dt
import ipaddress
import signal
import socket
import ssl
import subprocess
import threading
import time
import uuid
from collections.abc import Callable, Coroutine, Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import redis
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from migrator.cli.demo.binaries import redis_server
from migrator.cli.demo.servers import Redis, embedded_redis
from migrator.core.flow import run
from migrator.core.interfaces import TOMBSTONE, Found
from migrator.core.sessions import Session
from migrator.stores.redis import AsyncRedis, BlockingRedis, Hints
from migrator.stores.redis_clients import parse_address

Run = Callable[[Coroutine[Any, Any, Any]], Any]
BUDGET_S = 5.0  # for a busy machine; `cache/` has what budgets promise


def a_found(number: int) -> Found:
    now = dt.datetime.now(dt.UTC)
    session = Session(
        id=uuid.uuid4(),
        kind="session",
        realm="users",
        subject="1",
        created_at=now,
        expires_at=None,
        origin="login",
    )
    return Found(digest=number.to_bytes(32, "big"), session=session, read_at=now)


def works(url: str) -> None:
    """Both colours read, fill and bury all over the key space, and a hint arrives."""
    blocking = BlockingRedis(url, namespace=uuid.uuid4().hex, budget_s=BUDGET_S)
    _works(blocking, run)
    blocking.close()
    with asyncio.Runner() as runner:
        asking = AsyncRedis(url, namespace=uuid.uuid4().hex, budget_s=BUDGET_S)
        _works(asking, runner.run)
        runner.run(asking.aclose())
        teller = AsyncRedis(url, namespace="t", budget_s=BUDGET_S)
        hints = Hints(url, namespace="t", stop=threading.Event(), budget_s=BUDGET_S)
        hints.wait(0.05)
        runner.run(teller.hint([("session", "00")]))
        assert hints.wait(5)
        hints.close()
        runner.run(teller.aclose())


def _works(
    cache: BlockingRedis | AsyncRedis, run: Callable[[Coroutine[Any, Any, Any]], Any]
) -> None:
    finds = [a_found(number) for number in range(30)]
    for found in finds:
        run(cache.fill(found))
    assert [run(cache.get(found.digest)) for found in finds] == finds
    run(cache.bury([found.digest for found in finds]))
    assert {run(cache.get(found.digest)) for found in finds} == {TOMBSTONE}
    assert cache.faults == {}


def test_one_server_by_tcp(own_redis: Redis) -> None:
    works(own_redis.url)


def test_one_server_by_socket(own_redis: Redis) -> None:
    works(f"unix://{own_redis.socket}")


def test_the_urls_options_do_not_outrule_ours(own_redis: Redis) -> None:
    works(f"{own_redis.url}?protocol=3&decode_responses=true&socket_timeout=0.000001")


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A certificate for 127.0.0.1 that signs itself, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    now = dt.datetime.now(dt.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]),
            critical=False,
        )
        .sign(key, hashes.SHA256())
    )
    directory = tmp_path_factory.mktemp("tls")
    files = directory / "cert.pem", directory / "key.pem"
    files[0].write_bytes(made.public_bytes(serialization.Encoding.PEM))
    files[1].write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return files


@contextmanager
def a_tls_end(port: int, certificate: tuple[Path, Path]) -> Iterator[int]:
    """A port that speaks TLS and hands on to `port`; builds of Redis may lack TLS."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate)
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            with suppress(OSError):
                while True:
                    client, _ = listener.accept()
                    threading.Thread(target=speak, args=(client,), daemon=True).start()

        def speak(client: socket.socket) -> None:
            with suppress(OSError), context.wrap_socket(client, server_side=True) as outer:
                outer.settimeout(0.01)
                with socket.create_connection(("127.0.0.1", port)) as inner:
                    inner.settimeout(0.01)
                    while _hand_on(outer, inner) and _hand_on(inner, outer):
                        pass

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield int(listener.getsockname()[1])
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()


def _hand_on(source: socket.socket, target: socket.socket) -> bool:
    try:
        heard = source.recv(65536)
    except TimeoutError:
        return True
    target.sendall(heard)
    return bool(heard)


def test_one_server_by_tls_and_only_if_its_certificate_is_good(
    own_redis: Redis, certificate: tuple[Path, Path]
) -> None:
    with a_tls_end(own_redis.port, certificate) as port:
        works(f"rediss://127.0.0.1:{port}/0?ssl_ca_certs={certificate[0]}")
        blocking = BlockingRedis(f"rediss://127.0.0.1:{port}/0", namespace="t", budget_s=BUDGET_S)
        run(blocking.fill(a_found(1)))
        assert blocking.faults == {"unreachable": 1}
        other = AsyncRedis(f"rediss://127.0.0.1:{port}/0", namespace="t", budget_s=BUDGET_S)
        asyncio.run(other.fill(a_found(1)))
        assert other.faults == {"unreachable": 1}


def test_the_master_that_sentinels_name(own_redis: Redis, tmp_path: Path) -> None:
    with redis.Redis.from_url(own_redis.url) as raw:
        raw.config_set("requirepass", "se/cret")
    port = free_port()
    file = tmp_path / "sentinel.conf"
    file.write_text(
        f"port {port}\nbind 127.0.0.1\ndir {tmp_path}\n"
        f"sentinel monitor mymaster 127.0.0.1 {own_redis.port} 1\n"
        "sentinel auth-pass mymaster se/cret\n"
    )
    sentinel = subprocess.Popen(
        [str(redis_server()), str(file), "--sentinel"], stdout=subprocess.DEVNULL
    )
    try:
        until(lambda: _names_master(port))
        works(f"redis+sentinel://:se%2Fcret@127.0.0.1:{free_port()},127.0.0.1:{port}/mymaster/0")
    finally:
        sentinel.send_signal(signal.SIGKILL)
        sentinel.wait()


def _names_master(port: int) -> bool:
    raw: Any
    with redis.Redis(port=port, socket_timeout=1) as raw:
        return bool(raw.execute_command("SENTINEL", "GET-MASTER-ADDR-BY-NAME", "mymaster"))


@pytest.fixture
def cluster() -> Iterator[str]:
    """Two nodes that share the slots."""
    with ExitStack() as stack:
        nodes = []
        for _ in range(2):
            settings = {"cluster-enabled": "yes", "cluster-port": str(free_port())}
            nodes.append((stack.enter_context(embedded_redis(settings=settings)), settings))
        (one, _), (two, second) = nodes
        clients: list[Any] = [
            stack.enter_context(closing(redis.Redis.from_url(node.url))) for node in (one, two)
        ]
        clients[0].execute_command("CLUSTER", "ADDSLOTSRANGE", 0, 8191)
        clients[1].execute_command("CLUSTER", "ADDSLOTSRANGE", 8192, 16383)
        clients[1].execute_command("CLUSTER", "SET-CONFIG-EPOCH", 2)
        clients[0].execute_command(
            "CLUSTER", "MEET", "127.0.0.1", two.port, second["cluster-port"]
        )
        until(lambda: all(_is_whole(client) for client in clients))
        yield f"redis+cluster://127.0.0.1:{free_port()},127.0.0.1:{one.port}"


def _is_whole(client: Any) -> bool:
    says_so = b"cluster_state:ok" in client.execute_command("CLUSTER", "INFO")
    return says_so and len(client.execute_command("CLUSTER", "SLOTS")) == 2


def test_a_cluster_and_pipelines_across_its_nodes(cluster: str) -> None:
    works(cluster)


# ---- what is read from a URL ------------------------------------------------------------------


def test_hosts_of_a_url_are_read_with_their_ports() -> None:
    address = parse_address(
        "rediss+sentinel://u:p%40@a:1,b,[::1]:3,[::2]/main/4?ssl_cert_reqs=none"
    )
    assert address.nodes == (("a", 1), ("b", 26379), ("::1", 3), ("::2", 26379))
    assert (address.service, address.uses_tls) == ("main", True)
    assert address.plain == "rediss://u:p%40@localhost/4?ssl_cert_reqs=none"
    assert parse_address("redis+cluster://a,b:2").nodes == (("a", 6379), ("b", 2))


@pytest.mark.parametrize(
    "url",
    [
        "",
        "hunter2",
        "http://:hunter2@a",
        "unix+cluster://:hunter2@a",
        "redis+shard://:hunter2@a",
        "redis+sentinel://:hunter2@a:1",
        "redis+sentinel://:hunter2@a:1/",
        "redis+cluster://:hunter2@",
        "redis+cluster://:hunter2@a:x",
    ],
)
def test_a_url_that_cannot_be_read_is_refused_without_being_quoted(url: str) -> None:
    """P6."""
    with pytest.raises(ValueError) as refused:
        parse_address(url)
    assert "hunter2" not in str(refused.value)


def test_an_address_shows_no_password() -> None:
    """P6."""
    for url in ("redis://:hunter2@a", "redis+cluster://:hunter2@a,b"):
        assert "hunter2" not in repr(parse_address(url))


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while True:
        try:
            if holds():
                return
        except redis.RedisError:
            if time.monotonic() > deadline:
                raise
        assert time.monotonic() < deadline
        time.sleep(0.05)
