"""P1, P2, P4 and P5 at once: a whole deployment under load while everything about it is hurt.

G8 and G20 of the security brief. A minute of it runs with the suite; `make full` runs ten, `make
soak DURATION=…` as long as anybody likes.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.counts import counted
from tests.soak import history, page
from tests.soak.measuring import RSS_SHARE
from tests.soak.soaking import Asked, Soaked, faults_of, soak

pytestmark = pytest.mark.xdist_group("soak")


def held(soaked: Soaked, tmp_path: Path) -> None:
    """Everything holds; else the page is the message, and the history is kept."""
    said = page.facts(soaked)
    counted("G8", "answers checked", said["answers"]["checked"])
    counted("G8", "faults injected", said["faults"]["injected"])
    for zero, number in said["zeros"].items():
        counted("G8", zero, number)
    counted("G20", "leaks", int(soaked.leaks))
    if not soaked.holds:
        history.write(soaked.records, tmp_path / "history.jsonl")
    assert soaked.holds, f"{page.text(soaked)}\nhistory: {tmp_path / 'history.jsonl'}"


@pytest.mark.timeout(400)
def test_p1_p2_p4_p5_a_minute_of_chaos_under_load_is_answered_right(tmp_path: Path) -> None:
    soaked = soak(Asked(seconds=60, seed=8, rate=60), tmp_path)
    held(soaked, tmp_path)
    assert soaked.report.answers.total() >= 3_000
    assert len(faults_of(soaked)) >= 8


@pytest.mark.full
@pytest.mark.timeout(1800)
def test_p1_p2_p4_p5_ten_minutes_of_chaos_under_load_are_answered_right(tmp_path: Path) -> None:
    soaked = soak(Asked(seconds=600, seed=20, rate=80), tmp_path)
    held(soaked, tmp_path)
    assert soaked.report.answers.total() >= 60_000
    assert len(faults_of(soaked)) >= 40
    never_killed = [one for one in soaked.grown if one.worker == "uvicorn"]
    assert [one.rss_share < RSS_SHARE for one in never_killed] == [True]


# A node that believes its memory for two minutes, and is told of nothing: as shipped but for that.
DEAF = {
    "memory": {"poll_ms": 60_000, "trust_ms": 120_000},
    "redis": {"url": "redis://127.0.0.1:1/0"},
}


@pytest.mark.full
@pytest.mark.timeout(300)
def test_a_soak_notices_one_node_that_does_not_hear_of_revocations(tmp_path: Path) -> None:
    """The test of the test: everything is up, and one of five processes is wrong."""
    soaked = soak(Asked(seconds=12, seed=5, rate=60, faults=False), tmp_path, **DEAF)
    assert not soaked.holds
    wrong = [one for one in soaked.report.findings if one.zero == "wrong accepts"]
    assert wrong
    workers = {one.record.worker for one in wrong if isinstance(one.record, history.Read)}
    assert workers == {"node"}
    assert "wrong accepts" in page.text(soaked)
