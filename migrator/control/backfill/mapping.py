"""`--columns ours=theirs`: which of our names a ledger's columns stand for, checked once."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from migrator.control.backfill import refusals

OURS = ("token", "fingerprint", "subject", "exp", "jti", "family", "client", "iat", "revoked")
_OF_TOKEN = frozenset(OURS) - {"fingerprint", "subject"}


def parsed(given: str) -> dict[str, str]:
    """The mapping in `given`, ours to theirs.

    Raises:
        Stopped: USAGE, saying what is wrong with it.
    """
    pairs = [pair.partition("=") for pair in given.split(",") if pair.strip()]
    mapping = {ours.strip(): theirs.strip() for ours, _, theirs in pairs}
    odd = [ours.strip() for ours, is_pair, theirs in pairs if not is_pair or not theirs.strip()]
    if odd:
        raise refusals.bad_columns(f"{', '.join(odd)} has no column after an equals sign")
    if len(mapping) != len(pairs):
        raise refusals.bad_columns("a name of ours is given twice")
    unknown = [ours for ours in mapping if ours not in OURS]
    if unknown:
        raise refusals.bad_columns(f"{', '.join(unknown)}: not a name of ours")
    if not mapping:
        return mapping
    if "token" in mapping:
        beside = [ours for ours in mapping if ours not in _OF_TOKEN]
        if beside:
            raise refusals.bad_columns(f"a token says its {' and '.join(beside)} itself")
    elif not {"fingerprint", "subject", "exp"} <= mapping.keys():
        raise refusals.bad_columns("a row without a token needs fingerprint, subject and exp")
    return mapping


def by_name(theirs: Iterable[str]) -> dict[str, str]:
    """The mapping of a ledger whose columns have our names already."""
    named = [ours for ours in OURS if ours in set(theirs)]
    if "token" in named:
        named = [ours for ours in named if ours in _OF_TOKEN]
    return parsed(",".join(f"{ours}={ours}" for ours in named))


def missing(mapping: Mapping[str, str], theirs: Iterable[str]) -> list[str]:
    """The columns that the mapping names and the ledger does not have."""
    there = set(theirs)
    return [column for column in mapping.values() if column not in there]
