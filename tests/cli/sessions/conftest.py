from __future__ import annotations

import base64
import secrets
from pathlib import Path

import pytest

from migrator import wiring
from migrator.settings import Settings
from tests.cli.sessions.places import CONFIG, SECRET, Place


@pytest.fixture
def place(migrated: str, redis_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    config = tmp_path / "migrator.toml"
    config.write_text(CONFIG)
    swap_key = base64.urlsafe_b64encode(secrets.token_bytes(32)).decode().rstrip("=")
    values = {"DB": migrated, "RD": redis_url, "SWAP": swap_key, "JWT_SECRET": SECRET}
    for name, value in values.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("MIGRATOR_OPERATOR", "dana")
    settings = Settings.load(config)
    return Place(migrated, config, settings, wiring.operator(settings))
