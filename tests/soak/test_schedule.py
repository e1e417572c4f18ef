"""What a seed decides of a soak."""

from __future__ import annotations

from tests.soak.schedule import SORTS, planned


def test_one_seed_plans_the_same_faults_and_another_others() -> None:
    assert planned(7, 600) == planned(7, 600)
    assert planned(7, 600) != planned(8, 600)


def test_every_kind_of_fault_comes_before_any_comes_twice() -> None:
    plan = planned(7, 600)
    assert len(plan) >= 40
    assert {one.what for one in plan[: len(SORTS)]} == SORTS.keys()


def test_two_faults_at_once_are_of_two_stores() -> None:
    pairs = [one for one in planned(7, 3600) if one.other is not None]
    assert pairs
    assert all(SORTS[one.what].store != SORTS[one.other or ""].store for one in pairs)
