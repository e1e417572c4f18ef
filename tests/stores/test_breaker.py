"""The breaker, stepped by a clock of ours."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest

from migrator.stores.breaker import FAILURES, FIRST_PAUSE_S, LONGEST_PAUSE_S, Breaker


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def breaker(clock: Clock) -> Breaker:
    return Breaker(clock)


def _times(number: int, act: Callable[[], object]) -> None:
    for _ in range(number):
        act()


def test_failures_in_a_row_open_it(breaker: Breaker) -> None:
    _times(FAILURES - 1, breaker.failed)
    assert breaker.allows()
    breaker.failed()
    assert not breaker.allows()
    assert breaker.is_open


def test_failures_apart_do_not_open_it(breaker: Breaker) -> None:
    for _ in range(10):
        _times(FAILURES - 1, breaker.failed)
        breaker.succeeded()
    assert breaker.allows()


def test_after_the_pause_one_probe_is_let_through_and_no_second(
    breaker: Breaker, clock: Clock
) -> None:
    _times(FAILURES, breaker.failed)
    clock.now += FIRST_PAUSE_S
    assert [breaker.allows() for _ in range(5)] == [True, False, False, False, False]


def test_a_probe_that_succeeds_closes_it(breaker: Breaker, clock: Clock) -> None:
    _times(FAILURES, breaker.failed)
    clock.now += FIRST_PAUSE_S
    assert breaker.allows()
    breaker.succeeded()
    assert [breaker.allows() for _ in range(5)] == [True] * 5


def test_each_probe_that_fails_doubles_the_pause_up_to_a_limit(
    breaker: Breaker, clock: Clock
) -> None:
    _times(FAILURES, breaker.failed)
    pauses = []
    for _ in range(6):
        start = clock.now
        while not breaker.allows():
            clock.now += 0.25
        pauses.append(clock.now - start)
        breaker.failed()
    assert pauses == [FIRST_PAUSE_S, *[LONGEST_PAUSE_S] * 5]


def test_a_straggler_sent_before_it_opened_does_not_lengthen_the_pause(
    breaker: Breaker, clock: Clock
) -> None:
    _times(FAILURES + 20, breaker.failed)
    clock.now += FIRST_PAUSE_S
    assert breaker.allows()


def test_a_probe_that_never_reports_does_not_hold_it_open_for_ever(
    breaker: Breaker, clock: Clock
) -> None:
    """A cancelled request reports neither success nor failure."""
    _times(FAILURES, breaker.failed)
    clock.now += FIRST_PAUSE_S
    assert breaker.allows()
    clock.now += FIRST_PAUSE_S
    assert breaker.allows()


def test_once_closed_again_it_starts_from_the_first_pause(breaker: Breaker, clock: Clock) -> None:
    _times(FAILURES, breaker.failed)
    for _ in range(3):
        clock.now += LONGEST_PAUSE_S
        assert breaker.allows()
        breaker.failed()
    breaker.succeeded()
    _times(FAILURES, breaker.failed)
    clock.now += FIRST_PAUSE_S
    assert breaker.allows()


def test_of_many_threads_one_becomes_the_probe(breaker: Breaker, clock: Clock) -> None:
    _times(FAILURES, breaker.failed)
    clock.now += FIRST_PAUSE_S
    start, answers = threading.Barrier(16), []

    def ask() -> None:
        start.wait()
        answers.append(breaker.allows())

    threads = [threading.Thread(target=ask) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(answers) == 1
