"""Servers that fork, and servers that are told to stop: gunicorn with two workers, uvicorn."""

from __future__ import annotations

import signal
import time
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.apps.deployment import Deployment, sign
from tests.http.servers import Answer, Server, bearer, serving

pytestmark = pytest.mark.xdist_group("prefork")

BOUND_S = 1.0
LIVE = "lease_until > now()"


@pytest.fixture
def deployment(migrated: str, redis_url: str, tmp_path: Path) -> Deployment:
    deployment = Deployment(tmp_path, migrated, redis_url)
    deployment.rig.move("swap")
    return deployment


@pytest.fixture(params=["gunicorn", "gunicorn preloaded"])
def gunicorn(request: pytest.FixtureRequest, deployment: Deployment) -> Iterator[Server]:
    with serving(request.param, deployment) as server:
        yield server


def by_worker(server: Server, token: str) -> dict[str, Answer]:
    """The last answer of each of the two workers."""
    answers: dict[str, Answer] = {}
    deadline = time.monotonic() + 20
    while len(answers) < 2:
        assert time.monotonic() < deadline, "one worker never answers"
        answer = server.get("/seen", bearer(token))
        answers[answer.get("x-worker") or ""] = answer
    return answers


def await_nodes(deployment: Deployment, count: int) -> None:
    deadline = time.monotonic() + 10
    while deployment.rig.count("nodes", LIVE) != count:
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_both_workers_hand_out_one_token_and_take_it(gunicorn: Server) -> None:
    jwt = sign("ann")
    answers = by_worker(gunicorn, jwt).values()
    [token] = {answer.get("session-token") for answer in answers}
    assert token is not None
    taken = by_worker(gunicorn, token).values()
    assert {answer.json["via"] for answer in taken} == {"session"}
    assert {answer.json["session"] for answer in (*answers, *taken)} == {
        answer.json["session"] for answer in answers
    }
    rig = gunicorn.deployment.rig
    assert rig.count("sessions") == 1
    await_nodes(gunicorn.deployment, 2)  # each worker for itself, the master not at all


def test_session_ended_in_one_worker_is_refused_in_the_other(gunicorn: Server) -> None:
    jwt = sign("ann")
    token = next(iter(by_worker(gunicorn, jwt).values())).get("session-token")
    assert token is not None
    by_worker(gunicorn, token)
    assert gunicorn.send("POST", "/logout", bearer(token)).status == 204
    ended_at = time.monotonic()
    later: defaultdict[int, int] = defaultdict(int)
    while (asked_at := time.monotonic()) < ended_at + 2 * BOUND_S:
        for held in (token, jwt):
            answer = gunicorn.get("/seen", bearer(held))
            if asked_at > ended_at + BOUND_S:
                later[answer.status] += 1
    assert set(later) == {401}


@pytest.mark.parametrize(
    "name", ["gunicorn", "gunicorn preloaded", "uvicorn h11", "uvicorn httptools"]
)
def test_sigterm_leaves_no_lease_behind(deployment: Deployment, name: str) -> None:
    """A node that left must not hold up the next move, which waits for all that live."""
    with serving(name, deployment) as server:
        if name.startswith("gunicorn"):
            by_worker(server, sign("ann"))
            await_nodes(deployment, 2)
        else:
            assert server.get("/seen", bearer(sign("ann"))).status == 200
            await_nodes(deployment, 1)
        # uvicorn ends by the signal it was sent, once it has shut down in order.
        assert server.stop() in {0, -signal.SIGTERM}
        assert "Traceback" not in server.log.read_text()
    assert deployment.rig.count("nodes", LIVE) == 0
    assert deployment.rig.count("legacy_tokens", "last_seen_at IS NOT NULL") == 1
