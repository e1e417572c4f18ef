"""What makes a pair, which way two verdicts differ, and what is left of a path."""

from __future__ import annotations

import pytest

from migrator.core.comparing import OTHER, Difference, pair_of, route_class
from migrator.core.counting import TAKES, Counts
from migrator.core.meters import BOUNDS, Meters
from migrator.core.vitals import WINDOW_NS, Vitals, quantile_ms
from tests.bench import parts


@pytest.mark.parametrize(
    ("would_admit", "answered", "pair"),
    [
        (True, 200, "agree"),
        (True, 204, "agree"),
        (True, 304, "agree"),
        (True, 403, "agree"),
        (True, 409, "agree"),
        (True, 422, "agree"),
        (True, 401, "deny_allow"),
        (True, 302, None),
        (True, 400, None),
        (True, 404, None),
        (True, 429, None),
        (True, 500, None),
        (True, 503, None),
        (False, 200, "allow_deny"),
        (False, 401, "agree_deny"),
        (False, 403, "agree_deny"),
        (False, 302, None),
        (False, 404, None),
        (False, 422, None),
        (False, 500, None),
    ],
)
def test_an_answer_makes_a_pair_of_a_verdict_or_proves_nothing(
    would_admit: bool, answered: int, pair: str | None
) -> None:
    assert pair_of(would_admit=would_admit, answered=answered) == pair


def test_an_app_that_denies_with_another_status_is_believed() -> None:
    assert pair_of(would_admit=True, answered=403, denies_with=403) == "deny_allow"
    assert pair_of(would_admit=True, answered=401, denies_with=403) == "deny_allow"
    assert pair_of(would_admit=False, answered=403, denies_with=403) == "agree_deny"


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/", "/"),
        ("", "/"),
        ("/api/v1/items", "/api/v1/items"),
        ("/users/123", "/users/*"),
        ("/users/123/orders/9", "/users/*/orders/*"),
        ("/a/550e8400-e29b-41d4-a716-446655440000/x", "/a/*/x"),
        ("/o/507f1f77bcf86cd799439011", "/o/*"),
        ("/facade/deadbeef", "/facade/deadbeef"),
        ("/mail/ada@acme.example", "/mail/*"),
        ("/reset/eyJhbGciOiJIUzI1NiJ9.e30.c2ln", "/reset/*"),
        ("/" + "x" * 300, "/*/**"),
        ("/1/2/3/4/5/6/7/8/9", "/*/*/*/*/*/*/*/**"),
        ("/a\x00b\n?q=secret", "/ab"),
    ],
)
def test_a_path_is_of_a_kind_and_names_nobody(path: str, kind: str) -> None:
    assert route_class(path) == kind


def test_invented_paths_take_no_more_room_than_there_is_and_none_is_lost() -> None:
    counts: Counts[Difference] = Counts(room=10)
    for number in range(100):
        counts.add(Difference("deny_allow", "a1", f"ios/{number}", f"/x{number}", "admitted"))
    taken = counts.take()
    assert len(taken) == 11
    assert taken[Difference("deny_allow", "a1", OTHER, OTHER, "admitted")] == 90
    counts.give_back(taken)
    assert sum(counts.take().values()) == 100
    counts.add(Difference("deny_allow", "a1", "real/1", "/new", "admitted"))
    assert [one.route for one in counts.take()] == [OTHER]
    for _ in range(TAKES):
        counts.take()
    counts.add(Difference("deny_allow", "a1", "real/1", "/new", "admitted"))
    assert [one.route for one in counts.take()] == ["/new"]


@pytest.mark.parametrize(
    ("counts", "share", "wanted_ms"),
    [
        ([0] * 12, 0.99, None),
        ([100, *[0] * 11], 0.5, 0.5),
        ([98, 0, 0, 0, 2, *[0] * 7], 0.99, 17.5),
        ([*[0] * 11, 5], 0.5, 1000 * BOUNDS[-1]),
    ],
)
def test_a_latency_is_read_between_the_bounds_it_lies_in(
    counts: list[int], share: float, wanted_ms: float | None
) -> None:
    assert quantile_ms(counts, share) == wanted_ms


def test_vitals_are_of_the_last_minute_and_not_of_the_day() -> None:
    now = 0
    meters = Meters()
    vitals = Vitals(parts.node(remembers=True), meters, lambda: now)
    meters.store.took(2.0)
    meters.store.failures += 1
    now = 2_000_000_000
    first = vitals.read()
    assert (first["asked"], first["errors"], first["p99_ms"]) == (1, 1, 2485.0)
    for _ in range(40):
        now += 2_000_000_000
        vitals.read()
    meters.store.took(0.0005)
    now += 2_000_000_000
    last = vitals.read()
    assert (last["asked"], last["errors"], last["window_s"]) == (1, 0, WINDOW_NS // 10**9)
    assert last["p99_ms"] == 0.99


@pytest.mark.parametrize(("answered", "pair"), [(100, None), (101, "agree"), (300, None)])
def test_only_a_final_answer_serves(answered: int, pair: str | None) -> None:
    assert pair_of(would_admit=True, answered=answered) == pair


def test_a_path_is_folded_beyond_128_characters_or_eight_segments() -> None:
    longest = ("/" + "a" * 31) * 4
    assert route_class(longest) == longest
    assert route_class(longest + "a").endswith("/**")
    assert route_class("/a" * 8) == "/a" * 8
    assert route_class("/a" * 9) == "/a" * 7 + "/**"


def test_a_path_without_its_slash_names_nobody_either() -> None:
    assert route_class("ann/inbox") == "*/inbox"
