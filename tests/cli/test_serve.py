"""`migrator serve` as a command: where it listens, what it says, when it is ready, how it ends."""

from __future__ import annotations

import signal
import socket
import time
from pathlib import Path

import pytest

from migrator.cli.demo.servers import Postgres
from migrator.cli.serve import _bind
from migrator.control import schema
from migrator.core import tokens
from tests.apps.deployment import Deployment as Shop
from tests.apps.deployment import sign
from tests.cli.deployment import Deployment
from tests.http.servers import Answer, bearer
from tests.serve.served import CLIENT, CLIENT_SECRET, Serve, serving

pytestmark = pytest.mark.xdist_group("serve")


@pytest.fixture
def deployment(migrated: str, tmp_path: Path) -> Deployment:
    return Deployment(migrated, tmp_path)


def test_a_rehearsal_says_where_it_would_listen_and_ends(deployment: Deployment) -> None:
    said = deployment.run("serve", "--port", "0", "--upstream", "http://app:3000", "--dry-run")
    assert "would listen on http://127.0.0.1:" in said.stderr
    assert "in front of http://app:3000" in said.stderr
    assert said.stdout == ""
    assert deployment.execute("SELECT count(*) FROM migrator.nodes")[0][0] == 0


def test_no_answer_waits_for_the_acknowledgement_of_the_one_before() -> None:
    """asyncio switches Nagle's algorithm off only where the protocol is named: 40 ms an answer."""
    with _bind("127.0.0.1", 0) as bound:
        assert bound.proto == socket.IPPROTO_TCP


def test_a_port_that_is_taken_is_told_as_a_page(deployment: Deployment) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        said = deployment.run("serve", "--port", port, code=5)
    assert "serve.address: cannot listen on 127.0.0.1, port" in said.stderr


@pytest.mark.parametrize("url", ["app:3000", "http://app/path", "ftp://app", "http://u:p@app"])
def test_an_upstream_is_a_host_and_nothing_more(deployment: Deployment, url: str) -> None:
    said = deployment.run("serve", "--upstream", url, code=2)
    assert "http://host:port" in said.stderr


def test_it_is_a_node_until_it_is_told_to_stop(migrated: str, tmp_path: Path) -> None:
    shop = Shop(tmp_path, migrated)
    with serving(shop) as running:
        deadline = time.monotonic() + 5
        while shop.rig.count("nodes", "lease_until > now()") == 0:
            assert time.monotonic() < deadline
            time.sleep(0.02)
        assert running.get("/").status == 404
        assert running.stop() in {0, -signal.SIGTERM}
    assert shop.rig.count("nodes", "lease_until > now()") == 0


def test_not_ready_names_what_is_missing_and_is_ready_once_it_is_there(
    own_postgres: Postgres, tmp_path: Path
) -> None:
    url = own_postgres.create_database("late")
    clients = [{"id": CLIENT, "secret": "env:SERVE_CLIENT_SECRET"}]
    shop = Shop(tmp_path, url, None, {"serve": {"clients": clients}})
    with serving(shop, until="/healthz") as running:
        absent = running.get("/readyz")
        assert absent.status == 503
        assert absent.json["missing"][0] == "schema"
        schema.upgrade(url)
        shop.rig.move("swap")
        _await(running, 200)
        own_postgres.stop()
        gone = _await(running, 503)
        assert gone["missing"] == ["store"]
        for answer in _asked(running):
            assert answer.status == 503, "unknown is not no"
            assert answer.get("retry-after") is not None
        own_postgres.start()
        _await(running, 200)


def _asked(running: Serve) -> list[Answer]:
    """What is said of a token that nobody remembers, at every endpoint that judges one."""
    token = tokens.mint("sess", b"\x07" * 32).decode()
    form = ("Content-Type", "application/x-www-form-urlencoded")
    body = f"token={token}".encode()
    return [
        running.auth(bearer(token)),
        running.auth(bearer(sign("ann"))),
        running.get("/session", bearer(token)),
        running.send("POST", "/oauth2/introspect", form, bearer(CLIENT_SECRET), body=body),
        running.send("POST", "/oauth2/revoke", form, bearer(CLIENT_SECRET), body=body),
    ]


def _await(running: Serve, status: int) -> dict[str, list[str]]:
    deadline = time.monotonic() + 20
    while True:
        answer = running.get("/readyz")
        if answer.status == status:
            found: dict[str, list[str]] = answer.json
            return found
        assert time.monotonic() < deadline, answer
        time.sleep(0.1)
