"""What of the settings is never shown, and the list of public secrets."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from migrator.core.errors import BadSettings
from migrator.settings import Settings
from migrator.settings.strength import pack
from tests.settings.given import ENVIRON, EXAMPLE, SECRET, SWAP, load, with_issuer

# What is never shown


def test_no_secret_in_a_repr(tmp_path: Path) -> None:
    settings = load(tmp_path, EXAMPLE, **ENVIRON)
    shown = repr(settings) + str(settings) + repr(dataclasses.asdict(settings))
    for secret in ("hunter2", "sesame", SWAP, SECRET):
        assert secret not in shown


# The list of public secrets


def test_the_shipped_list_is_made_from_the_public_one() -> None:
    source = Path(__file__).parents[3] / "shared/vectors/weak-secrets/jwt.secrets.list"
    if not source.exists():
        pytest.skip("the third-party vectors are not here")
    lines = [line.rstrip(b"\r") for line in source.read_bytes().split(b"\n")]
    shipped = Path(__file__).parents[2] / "migrator/settings/weak_secrets.bin"
    assert shipped.read_bytes() == pack(lines)


def test_every_long_enough_public_secret_is_refused() -> None:
    source = Path(__file__).parents[3] / "shared/vectors/weak-secrets/jwt.secrets.list"
    if not source.exists():
        pytest.skip("the third-party vectors are not here")
    lines = {line.rstrip(b"\r") for line in source.read_bytes().split(b"\n")}
    keys: list[Any] = [line for line in lines if len(line) >= 32 and not line.startswith(b"-----")]
    with pytest.raises(BadSettings) as raised:
        Settings.build(with_issuer(keys=keys))
    assert len(raised.value.problems) >= len(keys)
    told = {problem.id for problem in raised.value.problems}
    assert told <= {"settings.public-hmac", "settings.key-family-mismatch"}
