"""The test of what looks through every test's log: whoever logs a secret fails, and by name."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest_plugins = ["pytester"]

LOGGING = """
import logging
from tests.rig import sign
from migrator.core.tokens import mint

def test_says_nothing():
    logging.getLogger("x").warning("no more than %d characters", len(sign("ann")))

def test_says_a_jwt():
    logging.getLogger("x").warning("refused %s", sign("ann"))

def test_says_a_token():
    logging.getLogger("x").warning("refused %s", mint("sess", bytes(32)).decode())
"""


def test_p6_a_test_whose_log_holds_a_secret_fails(pytester: pytest.Pytester) -> None:
    root = Path(__file__).parents[1]
    pytester.makeconftest(
        f"import sys; sys.path.insert(0, {str(root)!r})\n"
        "from tests.canaries import pytest_runtest_makereport as pytest_runtest_makereport\n"
    )
    pytester.makepyfile(LOGGING)
    result = pytester.runpytest_subprocess("-p", "no:cacheprovider", "-p", "no:xdist")
    result.assert_outcomes(passed=1, failed=2)
    result.stdout.fnmatch_lines(
        ["*test_says_a_jwt holds a JWT", "*test_says_a_token holds a token"]
    )
