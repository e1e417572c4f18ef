"""No node of one test lives on into another."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from migrator import wiring


@pytest.fixture(autouse=True)
def _no_node_stays() -> Iterator[None]:
    yield
    wiring.stop()
