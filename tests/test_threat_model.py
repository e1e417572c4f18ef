"""The threat model and SECURITY.md name tests that are there, and every promise has its own."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "playbooks" / "threat-model.md"
TESTS = ROOT / "tests"
_NAMED = re.compile(r"`((?:[\w-]+/)*test_\w+\.py)(?:::(test_\w+))?`")


def rows(heading: str) -> list[list[str]]:
    """The cells of the table under a heading, without its head."""
    part = PAGE.read_text().split(f"\n## {heading}\n", 1)[1].split("\n## ", 1)[0]
    lines = [line for line in part.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines[2:]]


def named(text: str) -> list[tuple[str, str]]:
    return _NAMED.findall(text)


def test_every_test_it_names_is_there() -> None:
    found = named(PAGE.read_text())
    assert len(found) > 60
    for file, test in found:
        source = (TESTS / file).read_text()
        assert not test or re.search(rf"\bdef {test}\(", source), f"{file}::{test}"


def test_every_source_it_names_is_there() -> None:
    for file in re.findall(r"`((?:core|stores|control)/(?!test_)\w+\.py)`", PAGE.read_text()):
        assert (ROOT / "migrator" / file).is_file(), file


@pytest.mark.parametrize("heading", ["Promises", "Threats"])
def test_whatever_is_claimed_names_what_proves_it(heading: str) -> None:
    for row in rows(heading):
        assert named(row[-1]), row


def test_each_promise_names_tests_that_carry_its_number() -> None:
    promises = rows("Promises")
    assert [row[0].split()[0] for row in promises] == [f"P{n}" for n in range(1, 13)]
    for row in promises:
        number = row[0].split()[0].lower()
        tests = [test for _, test in named(row[-1]) if test]
        assert any(test.startswith(f"test_{number}_") for test in tests), row


def test_the_reporting_page_leads_to_pages_that_are_there() -> None:
    for target in re.findall(r"\]\(([^)#]+)", (ROOT / "SECURITY.md").read_text()):
        assert (ROOT / target).is_file(), target
