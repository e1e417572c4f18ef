"""Nobody can be asked: through a proxy too that is 503 with Retry-After, and nobody's logout."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from migrator.cli.demo.servers import Postgres, embedded_postgres
from migrator.control import schema
from tests.http.servers import Answer
from tests.system.proxies.clients import Client
from tests.system.proxies.conftest import Ground
from tests.system.proxies.standing import Settings, Site, site

pytestmark = [pytest.mark.system, pytest.mark.timeout(300)]

_BACK_S = 20.0


@pytest.fixture
def own(kind: str, ground: Ground, tmp_path: Path) -> Iterator[tuple[Postgres, Site]]:
    """A site whose Postgres may be hurt; no Redis, nothing remembered beyond the moment."""
    with embedded_postgres() as postgres:
        schema.upgrade(postgres.url)
        short = {"MIGRATOR_DATABASE__BUDGET_MS": 1000, "MIGRATOR_MEMORY__TRUST_MS": 200}
        settings = Settings(tmp_path, postgres.url, more=short)
        with ground.running_app("header") as port, site(kind, settings, port) as made:
            made.move("swap")
            yield postgres, made


def in_time(ask: Callable[[], Answer], status: int) -> Answer:
    """The first answer of that status; every other until then must be one that loses nothing."""
    deadline = time.monotonic() + _BACK_S
    while (answer := ask()).status != status:
        assert answer.status in {200, 503}, answer
        assert time.monotonic() < deadline, answer
        time.sleep(0.1)
    return answer


def is_honest(answer: Answer) -> bool:
    """Whether an answer says what every client must hear of an outage."""
    return (
        answer.status == 503
        and answer.get("retry-after") == "1"
        and answer.json == {"error": "temporarily_unavailable"}
        and "no-store" in (answer.get("cache-control") or "")
        and not answer.all("set-cookie")
    )


def test_a_store_that_is_away_is_503_and_the_login_survives(own: tuple[Postgres, Site]) -> None:
    postgres, made = own
    client = Client(made, "header")
    client.log_in()
    assert client.me().status == 200
    postgres.kill()
    assert is_honest(in_time(client.me, 503))
    assert is_honest(client.refresh(lost=True))
    head = made.send("HEAD", "/api/me", ("Authorization", f"Bearer {client.access}"))
    assert (head.status, head.get("retry-after")) == (503, "1")
    assert made.get("/api/health").status == 200, "without a credential nobody is asked"
    postgres.start()
    in_time(client.me, 200)
    assert client.login_screens == 0


def test_a_migrator_that_is_away_is_503_and_the_login_survives(
    own: tuple[Postgres, Site],
) -> None:
    _, made = own
    client = Client(made, "header")
    client.log_in()
    made.stop_serving()
    assert is_honest(client.me())
    assert is_honest(client.refresh(lost=True))
    made.serve()
    in_time(client.me, 200)
    assert client.login_screens == 0
