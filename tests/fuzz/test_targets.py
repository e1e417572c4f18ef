"""Whatever bytes come, five readers keep their word: for seconds here, by the hour by hand."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

from tests.counts import counted
from tests.fuzz.targets import SEEDS, TARGETS, run

SECONDS = 10


@pytest.mark.parametrize("name", list(TARGETS))
def test_p10_no_input_that_fuzzing_finds_breaks_a_promise_or_takes_long(name: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.fuzz", name, "--seconds", str(SECONDS)],
        check=False,
        capture_output=True,
        text=True,
        timeout=SECONDS + 60,
    )
    assert done.returncode == 0, done.stdout
    said = re.search(r"Done (\d+) runs", done.stdout)
    assert said is not None, done.stdout
    counted("G5", f"inputs to {name}", int(said[1]))
    assert int(said[1]) > 1000


@pytest.mark.parametrize("name", list(TARGETS))
def test_the_seeds_reach_what_they_are_seeds_of(name: str) -> None:
    for data in SEEDS[name]:
        run(name, data)
