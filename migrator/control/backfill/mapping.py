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
    mapping = pairs(given, OURS)
    if not mapping:
        return mapping
    if "token" in mapping:
        beside = [ours for ours in mapping if ours not in _OF_TOKEN]
        if beside:
            raise refusals.bad_columns(f"a token says its {' and '.join(beside)} itself")
    elif not {"fingerprint", "subject", "exp"} <= mapping.keys():
        raise refusals.bad_columns("a row without a token needs fingerprint, subject and exp")
    return mapping


def pairs(given: str, ours: Iterable[str], *, do: str = refusals.COLUMNS) -> dict[str, str]:
    """The pairs in `given`, of which each name of ours is one of `ours` and stands once.

    Raises:
        Stopped: USAGE, saying what is wrong with it, and what to `do`.
    """
    found = [pair.partition("=") for pair in given.split(",") if pair.strip()]
    mapping = {name.strip(): theirs.strip() for name, _, theirs in found}
    odd = [name.strip() for name, is_pair, theirs in found if not is_pair or not theirs.strip()]
    if odd:
        raise refusals.bad_columns(f"{', '.join(odd)} has no column after an equals sign", do=do)
    if len(mapping) != len(found):
        raise refusals.bad_columns("a name of ours is given twice", do=do)
    unknown = [name for name in mapping if name not in set(ours)]
    if unknown:
        raise refusals.bad_columns(f"{', '.join(unknown)}: not a name of ours", do=do)
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
