"""`make bench` runs to its end and shows every case; what it measures is nobody's claim here."""

from __future__ import annotations

import json

import pytest

from tests.bench import __main__ as bench
from tests.bench.timing import Case, Group, Plan, Spread, blocking, measure

TINY = Plan(rounds=2, slices=1, slice_s=0.0)
CASES = {
    "memory": 4,
    "jwt": 4,
    "asgi": 5,
    "wsgi": 5,
    "bridge": 3,
    "redis": 3,
    "redis-async": 3,
    "postgres": 4,
    "postgres-async": 4,
    "swap": 3,
    "swap-async": 3,
}


def test_every_case_of_every_group_is_measured(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert bench.main(["--json"], TINY) == 0
    read = json.loads(capsys.readouterr().out)
    assert read["schema"] == "migrator.bench/1"
    assert {group["name"]: len(group["cases"]) for group in read["groups"]} == CASES
    assert tuple(CASES) == bench.NAMES
    cases = [case for group in read["groups"] for case in group["cases"]]
    assert all(case["us"]["min"] > 0 for case in cases)
    needed = {"python", "pyjwt", "cryptography", "redis", "psycopg", "postgres", "redis-server"}
    assert needed <= {name for name, version in read["versions"].items() if version != "absent"}


def test_the_table_fits_a_screen(capsys: pytest.CaptureFixture[str]) -> None:
    assert bench.main(["--only", "memory,jwt"], TINY) == 0
    lines = capsys.readouterr().out.splitlines()
    assert max(len(line) for line in lines) <= 100
    assert any(line.strip().startswith("Gate.peek_header") for line in lines)


def test_a_ratio_is_formed_within_a_round() -> None:
    """A machine that slows down between two rounds must not change what is reported."""
    speeds = iter([1e-6, 1e-3])

    def renew() -> None:
        speed[0] = next(speeds, 1e-6)

    speed = [0.0]
    group = Group(
        "g",
        "",
        [
            Case("one", lambda calls: calls * speed[0]),
            Case("two", lambda calls: calls * speed[0] * 2),
        ],
        renew=renew,
    )
    one, two = measure(group, TINY)
    assert two.time.least < two.time.most
    assert (two.ratio.least, two.ratio.most) == pytest.approx((2, 2))
    assert one.ratio == Spread(1, 1, 1)
    assert one.added == Spread(0, 0, 0)


def test_every_item_is_given_out_once() -> None:
    seen: list[int] = []
    timer = blocking(seen.append, iter(range(1000)))
    assert timer(100) > 0
    assert timer(150) > 0
    assert seen == list(range(250))
