"""A prefork server loads the app and then forks: each child works for itself, the parent goes on.

What would go wrong is quiet: two processes on one socket read each other's answers, a lock that
was held at the moment of the fork is never released, a child without a pulse trusts for ever.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import textwrap
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from migrator import wiring
from migrator.core.gate import Gate
from tests.conftest import CacheServer
from tests.faults.nodes import present
from tests.rig import Rig, sign

pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
_CHILD_S = 20.0


@pytest.fixture
def rig(migrated: str, redis_url: str) -> Rig:
    rig = Rig(migrated, redis_url)
    rig.move("drain")
    return rig


@pytest.fixture
def gate(rig: Rig) -> Iterator[Gate]:
    yield wiring.gate(rig.settings())
    wiring.stop()


def in_a_child(work: Callable[[], Any]) -> Any:
    """What `work` returns in a forked child, which ends without cleaning up after its parent."""
    out, into = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            answer = json.dumps(work())
        except BaseException as error:  # noqa: BLE001 - told to the parent, whatever it was
            answer = json.dumps(f"{type(error).__name__}: {error}")
        os.write(into, answer.encode())
        os._exit(0)
    os.close(into)
    deadline = time.monotonic() + _CHILD_S
    while os.waitpid(pid, os.WNOHANG) == (0, 0):
        if time.monotonic() > deadline:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            break
        time.sleep(0.01)
    with os.fdopen(out, "rb") as answers:
        said = answers.read()
    assert said, "the child hung"
    return json.loads(said)


def backends(rig: Rig) -> set[int]:
    """Who is connected, but for the hand that asks."""
    return {
        row[0]
        for row in rig.execute(
            "SELECT pid FROM pg_stat_activity WHERE datname = current_database()"
            " AND pid <> pg_backend_pid() AND backend_type = 'client backend'"
        )
    }


def trusting(gate: Gate) -> None:
    deadline = time.monotonic() + 10
    while gate.node.recent.trusted_until <= gate.clock.ticks():
        assert time.monotonic() < deadline, "no pulse"
        time.sleep(0.01)


def test_after_a_fork_child_and_parent_work_on_sockets_of_their_own(rig: Rig, gate: Gate) -> None:
    legacy = sign("ann").encode()
    token = present(gate, legacy).token
    assert token is not None
    trusting(gate)
    before = backends(rig)

    def child() -> list[object]:
        first = [present(gate, one).subject for one in (legacy, token)]
        fresh = present(gate, sign("child").encode()).subject
        trusting(gate)
        ours = len(backends(rig) - before)
        names = [one.name for one in threading.enumerate() if one.name == "migrator-pulse"]
        return [*first, fresh, ours >= 2, len(names)]

    assert in_a_child(child) == ["ann", "ann", "child", True, 1]
    assert before <= backends(rig), "the child's end closed connections of its parent"
    assert present(gate, token).subject == "ann"
    assert present(gate, sign("parent").encode()).subject == "parent"
    assert rig.count("sessions") == 3


def test_p2_what_the_parent_remembers_is_not_trusted_in_the_child(
    rig: Rig, gate: Gate, redis_server: CacheServer
) -> None:
    token = present(gate, sign("ann").encode()).token
    assert token is not None
    trusting(gate)
    assert present(gate, token).kind == "admitted"
    redis_server.flush()  # what it says of the session is believed without a word in the feed

    def child() -> list[object]:
        known = len(gate.node.recent)
        rig.execute("UPDATE migrator.sessions SET revoked_at = now()")  # and no word in the feed
        return [known, gate.node.recent.trusted_until, present(gate, token).kind]

    assert in_a_child(child) == [0, 0, "refused"]


def test_p7_each_process_is_a_node_of_its_own(rig: Rig, gate: Gate) -> None:
    present(gate, sign("ann").encode())
    trusting(gate)

    def child() -> int:
        present(gate, sign("bob").encode())
        deadline = time.monotonic() + 10
        while rig.count("nodes", "lease_until > now()") < 2 and time.monotonic() < deadline:
            time.sleep(0.02)
        return rig.count("nodes", "lease_until > now()")

    assert in_a_child(child) == 2


def test_a_lock_held_at_the_fork_does_not_stop_the_child(rig: Rig, gate: Gate) -> None:
    token = present(gate, sign("ann").encode()).token
    assert token is not None
    trusting(gate)
    held, over = threading.Event(), threading.Event()

    def hold() -> None:
        # Where another thread is between two bytecodes of a fill; every fork of a busy server.
        with gate.node.recent._lock:
            held.set()
            over.wait(_CHILD_S)

    holder = threading.Thread(target=hold)
    holder.start()
    assert held.wait(5)
    try:
        assert in_a_child(lambda: present(gate, token).kind) == "admitted"
    finally:
        over.set()
        holder.join()


# ---- gunicorn ----------------------------------------------------------------------------------

_APP = """
    import json, os
    from migrator import wiring
    from migrator.settings import Settings
    from shims.wsgi import DualAcceptMiddleware
    from tests.faults.nodes import present
    from tests.rig import Rig, sign

    rig = Rig(os.environ["APP_DATABASE"], os.environ["APP_REDIS"])
    settings = rig.settings()
    # Used before the fork: what a preloaded app does that asks something at import.
    assert present(wiring.gate(settings), sign("preload").encode()).kind == "admitted"

    def hello(environ, start_response):
        who = environ.get("migrator.principal")
        body = json.dumps({"pid": os.getpid(), "who": who and who.subject}).encode()
        start_response("200 OK", [("Content-Type", "application/json")])
        return [body]

    app = DualAcceptMiddleware(hello, settings)
"""


@pytest.fixture
def gunicorn(rig: Rig, redis_url: str, tmp_path: Path) -> Iterator[str]:
    (tmp_path / "preloaded.py").write_text(textwrap.dedent(_APP))
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    root = Path(__file__).parent.parent
    argv = [sys.executable, "-m", "gunicorn", "--preload", "--workers", "3", "--threads", "2"]
    argv += ["--bind", f"127.0.0.1:{port}", "--no-control-socket", "preloaded:app"]
    server = subprocess.Popen(
        argv,
        cwd=tmp_path,
        env={
            **os.environ,
            "PYTHONPATH": f"{root}:{tmp_path}",
            "APP_DATABASE": rig.url,
            "APP_REDIS": redis_url,
        },
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    try:
        yield f"http://127.0.0.1:{port}/"
    finally:
        server.send_signal(signal.SIGTERM)
        _, complaint = server.communicate(timeout=90)  # it kills its own after 30 s
        assert b"Traceback" not in complaint, complaint.decode()


def get(url: str, token: bytes) -> tuple[int, dict[str, Any]]:
    request = urllib.request.Request(url, headers={"Authorization": f"Bearer {token.decode()}"})
    deadline = time.monotonic() + 30
    while True:
        try:
            with urllib.request.urlopen(request, timeout=10) as response:
                return response.status, json.loads(response.read())
        except urllib.error.HTTPError as error:
            return error.code, {}
        except urllib.error.URLError:
            assert time.monotonic() < deadline, "gunicorn does not answer"
            time.sleep(0.1)


@pytest.mark.timeout(240)
def test_gunicorn_with_preload_serves_from_every_worker_and_revokes_in_each(
    rig: Rig, gunicorn: str
) -> None:
    tokens = {f"user-{number}": sign(f"user-{number}").encode() for number in range(4)}
    workers: set[int] = set()
    deadline = time.monotonic() + 20
    while len(workers) < 3 and time.monotonic() < deadline:
        for subject, token in tokens.items():
            status, answer = get(gunicorn, token)
            assert (status, answer["who"]) == (200, subject)
            workers.add(answer["pid"])
    assert len(workers) == 3
    assert rig.count("nodes", "lease_until > now()") >= 3
    assert rig.count("sessions") == 5
    assert wiring.operator(rig.settings()).end_all("user-1") == 1
    time.sleep(1.0)
    answers = {get(gunicorn, tokens["user-1"])[0] for _ in range(20)}
    assert answers == {401}
    assert get(gunicorn, tokens["user-2"])[0] == 200
