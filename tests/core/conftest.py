"""The pure suite of core: no server, no clock but a test's own, and nothing kept between tests."""

from __future__ import annotations

import pytest

from migrator.core import strict


@pytest.fixture(autouse=True)
def _headers_are_read_anew() -> None:
    """A header that an earlier test had read would answer for this one's."""
    strict._cached_header.cache_clear()
