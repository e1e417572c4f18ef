"""Which shapes a sample token fits. Unverified claims are looked at: nothing is admitted by it."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from migrator.core.facts import claim
from migrator.core.presets.records import ANY, Preset, Table


@dataclass(frozen=True, slots=True)
class Match:
    """A shape that a sample fits.

    Args:
        is_sure: it carries what only this one writes, and fits no other such shape.
    """

    preset: Preset
    is_sure: bool


def matches(shapes: Iterable[Preset], header: Table, payload: Table) -> tuple[Match, ...]:
    """Those of `shapes` that the sample fits, the likeliest first."""
    fitting = [each for each in shapes if _fits(each, header, payload)]
    told = [each for each in fitting if each.telling and _holds(each.telling, payload)]
    alg = str(header.get("alg", ""))

    def likelihood(preset: Preset) -> tuple[int, ...]:
        is_told = preset in told
        return (is_told, preset.weight, len(preset.has), _is_its_family(preset, alg))

    ordered = sorted(fitting, key=likelihood, reverse=True)
    return tuple(Match(each, is_sure=told == [each]) for each in ordered)


def _fits(preset: Preset, header: Table, payload: Table) -> bool:
    return (
        _holds(preset.header, header)
        and _holds(preset.has, payload)
        and (not preset.one_of or any(_holds(each, payload) for each in preset.one_of))
        and (not preset.only or preset.only.issuperset(payload))
        and preset.lacks.isdisjoint(payload)
    )


def _holds(facts: Table, of: Mapping[str, object]) -> bool:
    return all(_is(wanted, claim(of, name), name) for name, wanted in facts.items())


def _is(wanted: object, found: object, name: str) -> bool:
    if found is None or wanted == ANY:
        return found is not None
    if isinstance(wanted, re.Pattern):
        return isinstance(found, str | int) and wanted.fullmatch(str(found)) is not None
    if isinstance(wanted, tuple):
        return any(_is(each, found, name) for each in wanted)
    if name == "iss":
        return isinstance(found, str) and str(wanted) in found
    return wanted in found if isinstance(found, list) else wanted == found


def _is_its_family(preset: Preset, alg: str) -> bool:
    algorithms = preset.defaults.get("algorithms", ())
    return isinstance(algorithms, tuple) and any(alg[:2] == each[:2] for each in algorithms)
