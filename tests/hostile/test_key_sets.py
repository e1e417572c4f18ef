"""A key set behind a URL that fails, lies or is asked for by a flood, with real requests.

Security.md 2.4, PUB-040 and PUB-060 to PUB-062. The loader alone: tests/stores/test_key_outage.py.
"""

from __future__ import annotations

import json
import secrets
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from tests.conftest import DatabaseServer
from tests.core.signers import SIGNERS
from tests.counts import counted
from tests.hostile.requests import bearer
from tests.hostile.standing import FORWARD_AUTH, Place, Wire, described, iss_of, standing, until
from tests.hostile.tokens import Forge
from tests.stores.test_key_outage import lies
from tests.stores.test_keys import Host, jwk
from tests.stores.test_keys import host as host

pytestmark = pytest.mark.xdist_group("hostile")


@dataclass(frozen=True)
class Front:
    """A server: RS256 has its key set behind a URL, ES256 behind one that never answered."""

    wire: Wire
    host: Host

    def forge(self, family: str) -> Forge:
        return Forge(SIGNERS[family], int(time.time()), iss_of(family))

    def ask(self, token: bytes) -> str:
        return described(self.wire.ask(bearer(token.decode())))

    def fetch(self) -> None:
        """Make the server fetch the set, as a kid that nobody knows does once a second."""
        before, forge = len(self.host.requests), self.forge("RS256")

        def fetched() -> bool:
            kid = secrets.token_hex(8)
            assert self.ask(forge.token(None, forge.header(kid=kid))) == "invalid"
            return len(self.host.requests) > before

        until(fetched)


@pytest.fixture(params=["uvicorn h11", "gunicorn", FORWARD_AUTH])
def front(
    request: pytest.FixtureRequest,
    postgres: DatabaseServer,
    migrated_template: str,
    host: Host,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Front]:
    name = f"keys_{uuid.uuid4().hex}"
    url = postgres.create_database(name, migrated_template)
    keys = {"RS256": host.url, "ES256": "http://127.0.0.1:9/jwks"}
    place = Place(tmp_path_factory.mktemp("keys"), url, keys=keys)
    place.rig.move("swap")
    host.answer = host.serve([jwk("RS256", kid="k1")])
    with standing(request.param, place) as server:
        wire = Wire(server)
        yield Front(wire, host)
        wire.close()
    postgres.drop_database(name)


def test_p4_a_failing_or_lying_key_host_costs_nobody_a_login(front: Front) -> None:
    """PUB-040, PUB-060, PUB-061, PUB-062."""
    forge = front.forge("RS256")
    until(lambda: front.ask(forge.fresh()) == "user-1")

    never = front.wire.ask(bearer(front.forge("ES256").fresh().decode()))
    assert described(never) == "temporarily_unavailable"
    assert never is not None
    assert never.get("retry-after") is not None

    stranger = json.dumps({"keys": [{"kty": "oct", "k": "AAAA", "kid": "k1"}]}).encode()
    for answer in (*lies(front.host)[:2], front.host.text(stranger)):
        front.host.answer = answer
        front.fetch()
        assert front.ask(forge.fresh()) == "user-1"
    assert not any("elsewhere" in path for path in front.host.requests)

    before, began, flood = len(front.host.requests), time.monotonic(), 200
    for _ in range(flood):
        token = forge.token(None, forge.header(kid=secrets.token_hex(8)))
        assert front.ask(token) == "invalid"
    fetches = len(front.host.requests) - before
    assert fetches <= 1 + time.monotonic() - began, "one a second at most"
    assert front.ask(forge.fresh()) == "user-1"
    counted("G1", "tokens of invented kids as requests", flood)
