"""A database with our tables and an empty simplejwt ledger."""

from __future__ import annotations

import pytest

from tests.control.backfill.ledgers import Ledger


@pytest.fixture
def ledger(migrated: str) -> Ledger:
    return Ledger(migrated).create()
