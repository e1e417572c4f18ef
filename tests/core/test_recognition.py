"""Of the shapes that a sample fits, which one is named first."""

from __future__ import annotations

import re
from typing import Any

import pytest

from migrator.core.presets.recognition import matches
from migrator.core.presets.records import Preset


def shape(name: str, *algorithms: str, **more: Any) -> Preset:
    defaults = {"algorithms": algorithms} if algorithms else {}
    return Preset(name=name, library=name, defaults=defaults, **more)


def first(*shapes: Preset, alg: str = "RS256", **payload: object) -> str:
    return matches(shapes, {"alg": alg}, payload)[0].preset.name


HMAC, RSA, NONE = shape("hmac", "HS512"), shape("rsa", "RS512"), shape("none")


@pytest.mark.parametrize(("alg", "name"), [("HS256", "hmac"), ("RS256", "rsa")])
def test_of_two_alike_the_one_of_its_family_of_algorithms(alg: str, name: str) -> None:
    for shapes in ((HMAC, RSA, NONE), (NONE, RSA, HMAC), (RSA, HMAC)):
        assert first(*shapes, alg=alg) == name


def test_a_shape_without_algorithms_is_of_no_family() -> None:
    assert first(NONE, RSA) == "rsa"
    assert first(HMAC, NONE) == "hmac"  # neither is of it: as they came


def test_what_only_one_of_them_writes_outweighs_how_often_it_is_met() -> None:
    telling = shape("telling", telling={"tid": "*"}, weight=0)
    often = shape("often", weight=9)
    assert first(often, telling, tid="x") == "telling"
    assert first(often, telling) == "often"


@pytest.mark.parametrize("value", ["b1", "a", ["a1"], {"a1": 1}])
def test_a_pattern_is_of_a_whole_text(value: object) -> None:
    anything = re.compile(r"a\d|\['a1'\]|\{'a1': 1\}")
    assert matches([shape("p", has={"x": anything})], {}, {"x": value}) == ()


def test_one_of_several_issuers_is_a_part_of_the_claim() -> None:
    several = shape("p", has={"iss": ("accounts.example", "login.example")})
    assert first(several, iss="https://login.example/v2") == "p"
