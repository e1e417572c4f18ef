"""In `observe` the app decides; what it answered is compared with what the shim would have.

Over real sockets, in both colours: the app answers as it is told, and what the pulse wrote is read
out of the database.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import httpx
import pytest

from migrator import wiring
from tests.faults.nodes import present
from tests.http import observed
from tests.rig import ISSUER, Rig, sign, sign_refresh

AGENT = "ios/7.2.1 CFNetwork"
OTHER_SECRET = "another signing secret of the tests, long enough"
IN_COOKIE = {
    **ISSUER,
    "transport": [{"header": "Authorization", "scheme": "Bearer"}, {"cookie": "jwt"}],
}


class Place:
    """The app behind the shim, and what came of asking it."""

    def __init__(self, rig: Rig, client: httpx.Client) -> None:
        self.rig = rig
        self._client = client

    def ask(self, path: str, jwt: str | None = None, *, method: str = "GET", **more: str) -> int:
        headers = {"User-Agent": AGENT, **more}
        if jwt is not None:
            headers["Authorization"] = f"Bearer {jwt}"
        return self._client.request(method, path, headers=headers).status_code

    def wait_for_memory(self) -> None:
        """Until this process has read the feed, and believes what it remembers."""
        self.ask("/me", sign("first"))
        node, _ = wiring.vitals(self.rig.settings())
        while node.clock.ticks() >= node.recent.trusted_until:
            time.sleep(0.01)

    def pairs(self) -> dict[str, int]:
        """How many pairs of each kind were written, by now."""
        wiring.stop()
        found = self.rig.execute(
            "SELECT outcome, client, issuer, sum(count)::int FROM migrator.legacy_usage"
            " WHERE outcome LIKE 'pair:%%' GROUP BY outcome, client, issuer"
        )
        assert {client for _, client, _, _ in found} <= {"ios/7.2.1"}
        return {outcome.removeprefix("pair:"): count for outcome, _, _, count in found}

    def differences(self) -> list[tuple[Any, ...]]:
        return self.rig.execute(
            "SELECT direction, issuer, client, route, verdict, count FROM migrator.differences"
            " ORDER BY direction, route, verdict"
        )


@pytest.fixture(params=["asgi", "wsgi"])
def standing(request: pytest.FixtureRequest, migrated: str) -> Iterator[Callable[..., Place]]:
    """Makes places in a phase; what they run ends with the test."""
    with ExitStack() as stack:

        def stand(phase: str = "observe", **tables: Any) -> Place:
            rig = Rig(migrated, **tables)
            rig.move(phase)
            at = stack.enter_context(observed.serving(request.param, rig.settings()))
            client = stack.enter_context(httpx.Client(base_url=at, follow_redirects=False))
            return Place(rig, client)

        yield stand
    wiring.stop()


@pytest.fixture
def place(standing: Callable[..., Place]) -> Place:
    return standing()


def test_each_direction_is_told_from_the_other_and_from_agreement(place: Place) -> None:
    good, forged = sign("ada"), sign("ada", secret=OTHER_SECRET)
    assert [place.ask(f"/users/{code}", good) for code in (200, 200, 403)] == [200, 200, 403]
    assert [place.ask("/orders/401", good) for _ in range(3)] == [401] * 3  # two out of memory
    assert [place.ask(f"/items/{code}", forged) for code in (200, 201, 401)] == [200, 201, 401]
    assert place.pairs() == {"agree": 3, "agree_deny": 1, "deny_allow": 3, "allow_deny": 2}
    assert place.differences() == [
        ("allow_deny", "a1", "ios/7.2.1", "/items/*", "bad_signature", 2),
        ("deny_allow", "a1", "ios/7.2.1", "/orders/*", "admitted", 3),
    ]


def test_what_proves_nothing_is_no_pair(place: Place) -> None:
    good, forged = sign("ada"), sign("ada", secret=OTHER_SECRET)
    for jwt in (good, forged):
        for code in (400, 404, 429, 500, 503):
            place.ask(f"/x/{code}", jwt)
        place.ask("/x/302?to=/elsewhere", jwt)
        place.ask("/login", jwt)  # a wrong password is a 401 there
        place.ask("/refresh", jwt)
        place.ask("/logout", jwt)
        place.ask("/x/401", jwt, method="OPTIONS")
    place.ask("/x/401")
    place.ask("/x/401", "an-api-key-of-another-library")
    place.ask("/x/401", "sess_nobody")
    assert place.pairs() == {}
    assert place.differences() == []


def test_who_is_sent_to_the_login_was_turned_away(place: Place) -> None:
    good = sign("ada")
    place.ask("/page/302?to=/login", good)
    place.ask("/page/303?to=https://app.example/login", good)
    place.ask("/page/302?to=http://[", good)
    assert place.pairs() == {"deny_allow": 2}


def test_a_token_at_its_end_is_no_revocation_that_we_do_not_know_of(place: Place) -> None:
    place.ask("/x/401", sign("ada", lasts_s=8))
    place.ask("/x/401", sign("bob", lasts_s=-8))  # over, and within our leeway
    assert place.pairs() == {}


def test_an_app_that_says_403_to_strangers_is_understood(
    standing: Callable[..., Place],
) -> None:
    place = standing(http={"refusal": {"status": 403}})
    place.ask("/x/403", sign("ada"))
    assert place.pairs() == {"deny_allow": 1}


def test_what_was_revoked_by_the_time_it_is_written_is_no_difference(
    standing: Callable[..., Place],
) -> None:
    place = standing(memory={"trust_ms": 20_000})
    place.wait_for_memory()
    late, unknown = (sign(name, claims={"jti": name}) for name in ("late", "unknown"))
    assert [place.ask("/me", jwt) for jwt in (late, unknown)] == [200, 200]
    place.rig.execute(  # as a ledger does it; this node has not heard of it yet
        "INSERT INTO migrator.denials (issuer, jti, reason) VALUES ('a1', 'late', 'ledger')"
    )
    assert [place.ask("/me/401", jwt) for jwt in (late, unknown)] == [401, 401]
    assert place.pairs() == {"agree": 3, "agree_deny": 1, "deny_allow": 1}


def test_a_denial_waits_for_the_ledger_that_may_explain_it(
    standing: Callable[..., Place],
) -> None:
    place = standing()
    wiring.blocklist(lambda _, __: False, settings=place.rig.settings())  # polled every 5 s
    jwt = sign("ada")
    place.ask("/me/401", jwt)
    place.ask("/me", jwt)
    deadline = time.monotonic() + 10
    while not place.rig.count("legacy_usage", "outcome = 'pair:agree'"):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    assert place.differences() == []
    assert place.pairs() == {"agree": 1, "deny_allow": 1}
    assert len(place.differences()) == 1


def test_a_second_credential_that_the_app_may_have_gone_by_makes_it_no_pair(
    standing: Callable[..., Place],
) -> None:
    place = standing(issuers=[IN_COOKIE])
    mine, other = sign("ada"), sign("ada")
    place.ask("/x/401", mine, Cookie=f"jwt={other}")
    place.ask("/x/401", Cookie=f"jwt={mine}", Authorization="Basic YTpi")
    place.ask("/y/401", mine, Cookie=f"jwt={mine}")  # the same one twice is one
    place.ask("/z/401", Cookie=f"jwt={mine}")
    assert place.pairs() == {"deny_allow": 2}
    assert [row[3] for row in place.differences()] == ["/y/*", "/z/*"]


@pytest.mark.parametrize("phase", ["swap", "drain", "cutover"])
def test_nothing_is_compared_where_the_shim_decides(
    standing: Callable[..., Place], phase: str
) -> None:
    place = standing(phase)
    for _ in range(3):
        place.ask("/x/401", sign("ada"))
    assert place.pairs() == {}


def test_the_app_admitting_what_we_call_revoked_is_answered_by_us_and_no_pair(
    place: Place,
) -> None:
    jwt = sign("ada", claims={"jti": "gone"})
    place.rig.execute(
        "INSERT INTO migrator.denials (issuer, jti, reason) VALUES ('a1', 'gone', 'test')"
    )
    assert place.ask("/x/200", jwt) == 401
    assert place.pairs() == {}


def test_who_uses_which_key_where_is_counted_when_a_token_is_verified_anew(
    standing: Callable[..., Place],
) -> None:
    place = standing(memory={"trust_ms": 20_000})
    place.wait_for_memory()
    jwt = sign("ada", headers={"kid": "2024-q1"})
    for _ in range(5):
        place.ask("/users/7/orders/200", jwt)
    place.ask("/login", sign("bob"))
    place.ask("/users/8", sign("eve", secret=OTHER_SECRET, headers={"kid": "forged"}))
    place.ask("/refresh", sign_refresh("ada"))
    wiring.stop()
    found = place.rig.execute(
        "SELECT issuer, client, kid, route, count FROM migrator.legacy_census"
        " WHERE route <> '/me' ORDER BY route"
    )
    assert found == [
        ("a1", "ios/7.2.1", "2024-q1", "/users/*/orders/*", 1),
        ("a1", "ios/7.2.1", "", "login", 1),
    ]


def test_a_node_says_how_its_store_answers(migrated: str) -> None:
    rig = Rig(migrated)
    gate = wiring.gate(rig.settings())
    deadline = time.monotonic() + 10
    said: dict[str, Any] = {}
    try:
        while not said.get("asked"):
            assert time.monotonic() < deadline, said
            present(gate, sign("ada").encode())
            time.sleep(0.05)
            said = _vitals(rig)
    finally:
        wiring.stop()
    assert 0 < said["p50_ms"] <= said["p99_ms"] < 2500
    assert (said["errors"], said["trusted"]) == (0, True)


def _vitals(rig: Rig) -> dict[str, Any]:
    rows = rig.execute("SELECT vitals FROM migrator.nodes")
    found: dict[str, Any] = rows[0][0] if rows else {}
    return found
