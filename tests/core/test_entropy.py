"""G14: tokens are drawn from the system's generator, 256 bits each, and none comes twice."""

from __future__ import annotations

import math
import secrets
from collections import Counter

import pytest

from migrator import wiring
from migrator.core import tokens
from tests.counts import counted
from tests.rig import Rig

# Nine standard deviations: a fair draw of 42 columns exceeds this less than once in 10^8 runs.
_MOST_CHI_SQUARED = 61 + 9 * math.sqrt(2 * 61)


def draw(times: int) -> None:
    """Mint as wiring does, and look for repeats and for characters that come too often."""
    seen: set[bytes] = set()
    columns: list[Counter[int]] = [Counter() for _ in range(43)]
    for number in range(times):
        token = tokens.mint("sess", secrets.token_bytes(tokens.SECRET_BYTES))
        seen.add(tokens.digest(token)[:16])  # 128 bits: no two by chance within a lifetime
        if number < 100_000:
            for column, character in zip(columns, token[5:48], strict=True):
                column[character] += 1
    assert len(seen) == times
    drawn = min(times, 100_000)
    for column in columns[1:]:  # the first holds what is left of 256 bits
        expected = drawn / 62
        assert sum((column[each] - expected) ** 2 / expected for each in tokens.ALPHABET) < (
            _MOST_CHI_SQUARED
        )
    counted("G14", "tokens minted, all different", times)


def test_a_hundred_thousand_tokens_are_all_different_and_evenly_drawn() -> None:
    draw(100_000)


@pytest.mark.full
@pytest.mark.timeout(3600)
def test_ten_million_tokens_are_all_different() -> None:
    draw(10_000_000)


def test_a_token_holds_256_bits() -> None:
    assert tokens.SECRET_BYTES == 32
    assert 62**43 > 2**256 > 62**42
    most = tokens.mint("sess", b"\xff" * 32)
    assert tokens.is_well_formed(most, "sess")
    bits = [tokens.mint("sess", (1 << bit).to_bytes(32, "big")) for bit in range(256)]
    assert len(set(bits)) == 256, "a bit that no token shows"


def test_what_issues_draws_from_the_systems_generator(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not from anything that a fork, a seed or a test could repeat."""
    sessions = wiring.operator(Rig("postgresql://nowhere").settings())
    asked: list[int | None] = []
    drawn = secrets.token_bytes

    def noted(size: int | None = None) -> bytes:
        asked.append(size)
        return drawn(size)

    assert sessions.secret.func is drawn  # type: ignore[attr-defined]
    monkeypatch.setattr(secrets, "token_bytes", noted)
    again = wiring.operator(Rig("postgresql://nowhere").settings())
    assert again.secret() != again.secret()
    assert asked == [32, 32]
