"""Each promise has a patch that breaks it and a test that notices; see the script beside this."""

from __future__ import annotations

import re

import pytest

from tests.mutants.promises.__main__ import PATCHES, PROMISES, ROOT, verdict


def test_every_promise_of_the_design_can_be_broken() -> None:
    assert list(PROMISES) == [f"P{number}" for number in range(1, 13)]
    assert {path.stem for path in PATCHES.glob("*.patch")} == set(PROMISES)


@pytest.mark.parametrize("name", list(PROMISES))
def test_a_promise_names_a_test_that_is_there_and_a_file_that_is_there(name: str) -> None:
    _, file, test = PROMISES[name]
    assert f"_{name.lower()}_" in test
    assert re.search(rf"^\s*(async )?def {test}\(", (ROOT / file).read_text(), re.MULTILINE)
    patched = re.findall(r"^\+\+\+ b/(\S+)", (PATCHES / f"{name}.patch").read_text(), re.MULTILINE)
    assert all((ROOT / path).is_file() for path in patched)


@pytest.mark.full
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("name", list(PROMISES))
def test_a_broken_promise_is_noticed(name: str) -> None:
    assert verdict(name) is None
