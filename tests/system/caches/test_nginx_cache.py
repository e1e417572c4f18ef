"""G18: nginx's `proxy_cache` in front, as careless as people write it: 200 and 304 for ten seconds
by URL alone, Set-Cookie no obstacle; Cache-Control, Expires and Vary are honoured, as by default.

No answer of it may carry a token that was not made for this very request, and no user may see
another's page where the app said whose it is.
"""

from __future__ import annotations

import http.client
import itertools
import random
import re
import sys
import uuid
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.apps.deployment import Deployment, sign
from tests.conftest import CacheServer, DatabaseServer
from tests.counts import counted
from tests.system.caches.app import OWN, SHARED
from tests.system.proxies.standing import ROOT, free_port, running

pytestmark = [pytest.mark.system, pytest.mark.xdist_group("caches")]

REQUESTS = 2_400
TOKEN = re.compile(r"sess_[0-9A-Za-z]{49}")
USERS = ("ann", "bob")
_FILE = """
daemon off; master_process off; worker_processes 1;
pid {folder}/nginx.pid; error_log {folder}/nginx.log warn;
events {{ worker_connections 256; }}
http {{
  access_log off;
  client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/f; uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;
  proxy_cache_path {folder}/cache keys_zone=all:10m max_size=100m use_temp_path=off;
  server {{
    listen 127.0.0.1:{port};
    location / {{
      proxy_pass http://127.0.0.1:{app};
      proxy_set_header Host shop.example;
      proxy_cache all;
      proxy_cache_key $request_uri;
      proxy_cache_valid 200 304 10s;
      proxy_ignore_headers {ignored};
      proxy_cache_revalidate on;
      proxy_cache_use_stale updating error;
      proxy_cache_lock on;
      add_header X-Cache $upstream_cache_status always;
    }}
  }}
}}
"""


@dataclass(slots=True)
class Front:
    """The cache, and what came out of it."""

    port: int
    folder: Path
    seen: Counter[str] = field(default_factory=Counter)
    _line: http.client.HTTPConnection | None = None

    def ask(
        self, method: str, path: str, headers: dict[str, str]
    ) -> tuple[int, dict[str, str], str]:
        """One request on a connection that is kept."""
        if self._line is None:
            self._line = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        self._line.request(method, path, headers=headers)
        answer = self._line.getresponse()
        body = answer.read().decode()
        told = {name.lower(): value for name, value in answer.getheaders()}
        self.seen[told.get("x-cache", "-")] += 1
        return answer.status, told, body

    def close(self) -> None:
        """Hang up."""
        if self._line is not None:
            self._line.close()

    def kept(self) -> list[str]:
        """Everything that lies on the cache's disk."""
        files = [one for one in (self.folder / "cache").rglob("*") if one.is_file()]
        return [one.read_bytes().decode("latin-1") for one in files]


@pytest.fixture
def ignored() -> str:
    """Which headers of the app's the cache does not honour."""
    return "Set-Cookie"


@pytest.fixture
def front(
    ignored: str,
    postgres: DatabaseServer,
    migrated_template: str,
    redis_server: CacheServer,
    tmp_path: Path,
) -> Iterator[Front]:
    name = f"cache_{uuid.uuid4().hex}"
    url = postgres.create_database(name, migrated_template)
    deployment = Deployment(tmp_path, url, redis_server.url)
    deployment.rig.move("drain")
    app, port = free_port(), free_port()
    config = tmp_path / "nginx.conf"
    config.write_text(_FILE.format(folder=tmp_path, port=port, app=app, ignored=ignored))
    served = ("uvicorn", "--factory", "tests.system.caches.app:create_app", "--no-access-log")
    with (
        running(
            *(sys.executable, "-m", *served, "--port", str(app)),
            port=app,
            log=tmp_path / "app.log",
            environ=deployment.environ(),
            cwd=ROOT,
        ),
        running(
            *("nginx", "-e", tmp_path / "nginx.log", "-p", tmp_path, "-c", config),
            port=port,
            log=tmp_path / "out.log",
            environ={},
            cwd=tmp_path,
        ),
    ):
        made = Front(port, tmp_path)
        yield made
        made.close()
    postgres.drop_database(name)


@dataclass(slots=True)
class Client:
    """One user's program: a JWT or the session it became, in a header or a cookie."""

    user: str
    place: str
    jwt: str
    token: str | None = None
    etags: dict[str, str] = field(default_factory=dict)

    def headers(self, *, by_session: bool) -> dict[str, str]:
        held = self.token if by_session and self.token else self.jwt
        if self.place == "header":
            return {"Authorization": f"Bearer {held}"}
        name = "__Host-session" if held == self.token else "access_token"
        return {"Cookie": f"{name}={held}"}


def handed(told: dict[str, str]) -> str | None:
    """The token of an answer, wherever it is."""
    found = TOKEN.search(told.get("session-token", "") + told.get("set-cookie", ""))
    return found[0] if found else None


def journey(front: Front, requests: int) -> Counter[str]:
    """So many requests of two users, shuffled; what was wrong, by kind."""
    chance = random.Random(26)
    wrong: Counter[str] = Counter()
    clients = [Client(user, place, sign(user)) for user in USERS for place in ("header", "cookie")]
    paths = [f"/own/{kind}/{{n}}" for kind in OWN] + [f"/shared/{kind}/{{n}}" for kind in SHARED]
    for number in range(requests):
        client, path = chance.choice(clients), chance.choice(paths).format(n=number // 60)
        method = chance.choices(("GET", "HEAD"), (9, 1))[0]
        sent = client.headers(by_session=chance.random() < 0.5)
        if path in client.etags and chance.random() < 0.3:
            sent["If-None-Match"] = client.etags[path]
        status, told, body = front.ask(method, path, sent)
        wrong["status"] += status not in {200, 304}
        if path.startswith("/own/"):
            wrong["mixed"] += bool(body) and not body.endswith(f" of {client.user}")
        else:
            wrong["mixed"] += bool(body) and not body.endswith(" for all")
        token = handed(told)
        if token is not None:
            if client.token is None:
                client.token = token
            wrong["another's token"] += token != client.token
            wrong["token out of the cache"] += told["x-cache"] in {"HIT", "STALE", "REVALIDATED"}
            wrong["token on a 304"] += status == 304
            wrong["token without no-store"] += told.get("cache-control") != "no-store"
        if status == 200 and "etag" in told:
            client.etags[path] = told["etag"]
    return wrong


@pytest.mark.parametrize(
    "requests",
    [REQUESTS, pytest.param(10_000, marks=[pytest.mark.full, pytest.mark.timeout(1800)])],
)
def test_p6_no_careless_cache_mixes_two_users_or_keeps_a_token(
    front: Front, requests: int
) -> None:
    wrong = journey(front, requests)
    assert +wrong == Counter()
    kept = front.kept()
    assert front.seen["HIT"] > requests // 10, front.seen  # it did keep what it may
    assert kept
    assert not any(TOKEN.search(one) or "Set-Cookie" in one for one in kept)
    counted("G18", "requests through nginx's proxy_cache", requests)
    counted("G18", "answers out of the cache", requests - front.seen["MISS"])
    counted("G18", "users mixed or tokens kept", sum(wrong.values()))


def test_p6_whoever_asks_next_never_gets_the_token_of_who_asked_first(front: Front) -> None:
    """In every order: whose answer is kept decides what the next one gets."""
    clients = [Client(user, place, sign(user)) for user in USERS for place in ("header", "cookie")]
    for number, (one, other) in enumerate(itertools.permutations(clients, 2)):
        for kind in SHARED:
            path = f"/shared/{kind}/pair-{number}"
            _, told, _ = front.ask("GET", path, one.headers(by_session=False))
            first = handed(told)
            assert first is not None
            _, told, _ = front.ask("GET", path, other.headers(by_session=False))
            assert handed(told) not in {None, first}, "nothing was kept, so it has its own"
    counted("G18", "pairs of users at one URL", (number + 1) * len(SHARED))


@pytest.mark.parametrize("ignored", ["Set-Cookie Cache-Control Vary"])
def test_a_cache_that_honours_nothing_is_caught_by_these_tests(front: Front) -> None:
    """The test of the test: no header of ours can help against such a cache."""
    wrong = journey(front, 600)
    assert wrong["mixed"]
    assert wrong["another's token"]
    assert any(TOKEN.search(one) for one in front.kept())
