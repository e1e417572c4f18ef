"""Shapes of legacy tokens in the wild, as tables of facts read in the libraries' own source.

A preset fills one `[[issuers]]` table of the settings; anything given there wins. Its hazards are
what an operator should know before the first swap; `recognise` guesses shapes from one sample.
Nothing here decides about a token: the verifier reads the settings only.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from migrator.core.presets import django, fastapi, flask, node, php_and_ruby, providers
from migrator.core.presets.recognition import Match, matches
from migrator.core.presets.records import ANY, BridgeFacts, Hazard, Preset, Table

__all__ = ["ANY", "PRESETS", "BridgeFacts", "Hazard", "Match", "Preset", "Table", "recognise"]

_READABLE: Final = (
    *django.SHAPES,
    *flask.SHAPES,
    *fastapi.SHAPES,
    *node.SHAPES,
    *php_and_ruby.SHAPES,
    *providers.SHAPES,
)

PRESETS: Final[Mapping[str, Preset]] = MappingProxyType({each.name: each for each in _READABLE})
"""By the name that `preset = ` says."""


def recognise(header: Table, payload: Table) -> tuple[Match, ...]:
    """The shapes that a sample token fits, the likeliest first; of several none is sure.

    A guess from unverified claims, for `inspect` and `init`: nothing is admitted by it. A shape
    that nobody can read, being encrypted, is told by its header alone and is no preset.
    """
    shapes = _READABLE if "enc" not in header else node.UNREADABLE
    return matches(shapes, header, payload)
