"""The opaque token: its build, its checksum, its derivation."""

from __future__ import annotations

import hashlib
import re
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from migrator.core import tokens

SECRET = st.binary(min_size=32, max_size=32)


@given(SECRET)
def test_a_token_is_found_by_the_scanners_regex_and_is_well_formed(secret: bytes) -> None:
    token = tokens.mint("sess", secret)
    assert re.fullmatch(rb"\bsess_[0-9A-Za-z]{49}\b", token)
    assert tokens.is_well_formed(token, "sess")
    assert not tokens.is_well_formed(token, "pat")


@given(SECRET, SECRET)
def test_two_secrets_make_two_tokens(one: bytes, other: bytes) -> None:
    same = tokens.mint("sess", one) == tokens.mint("sess", other)
    assert same == (one == other)


def test_a_token_is_built_as_the_contract_says() -> None:
    """Big-endian base62 of 256 bits, left-padded, then that of CRC32 over those 43 characters."""
    body = b"0" * 42 + b"z"
    check, number = b"", zlib.crc32(body)
    for _ in range(6):
        number, rest = divmod(number, 62)
        check = tokens.ALPHABET[rest : rest + 1] + check
    assert tokens.mint("sess", bytes(31) + bytes([61])) == b"sess_" + body + check


@given(SECRET, st.integers(0, 53), st.integers(0, 255))
def test_no_altered_token_is_well_formed(secret: bytes, place: int, byte: int) -> None:
    token = bytearray(tokens.mint("sess", secret))
    altered = token[place] != byte
    token[place] = byte
    assert tokens.is_well_formed(bytes(token), "sess") != altered


@given(st.binary(max_size=80))
def test_reading_any_bytes_never_raises(presented: bytes) -> None:
    assert not tokens.is_well_formed(presented, "sess")


@pytest.mark.parametrize("more", [b"\n", b" ", b"=", b"\0", b"%0A"])
def test_nothing_is_normalised(more: bytes) -> None:
    token = tokens.mint("sess", bytes(32))
    assert not tokens.is_well_formed(token + more, "sess")
    assert not tokens.is_well_formed(more + token, "sess")


@given(st.binary(min_size=32, max_size=64), SECRET, SECRET)
def test_derivation_is_the_same_each_time_and_differs_by_key_and_fingerprint(
    key: bytes, fingerprint: bytes, other: bytes
) -> None:
    derived = tokens.derive("sess", key=key, fingerprint=fingerprint)
    assert derived == tokens.derive("sess", key=key, fingerprint=fingerprint)
    assert tokens.is_well_formed(derived, "sess")
    assert (derived == tokens.derive("sess", key=key, fingerprint=other)) == (fingerprint == other)
    assert derived != tokens.derive("sess", key=key + b"x", fingerprint=fingerprint)


@pytest.mark.parametrize("secret", [b"", bytes(31), bytes(33)])
def test_a_secret_of_another_size_is_refused(secret: bytes) -> None:
    with pytest.raises(ValueError, match="256 bits"):
        tokens.mint("sess", secret)


def test_a_fingerprint_names_issuer_and_signing_input_and_not_the_signature() -> None:
    one = tokens.fingerprint("a1", b"header.payload")
    assert one == tokens.fingerprint("a1", b"header.payload")
    assert one != tokens.fingerprint("a2", b"header.payload")
    assert tokens.fingerprint("a", b"1x") != tokens.fingerprint("a1", b"x")


def test_a_fingerprint_is_the_contracts_hash_of_issuer_and_signing_input() -> None:
    """The backfill computes the same inside the database."""
    wanted = hashlib.sha256(b"a1" + bytes(1) + b"head.body").digest()
    assert tokens.fingerprint("a1", b"head.body") == wanted
