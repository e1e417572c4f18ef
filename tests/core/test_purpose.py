"""What a token was signed for: a signature says nothing of it (RFC 8725 section 3.12)."""

from __future__ import annotations

from typing import Any

import pytest

from migrator.core.claims import Purpose
from migrator.core.purpose import KIND_CLAIMS, KINDS, OTHER_KINDS, holds, is_for


def serves(purpose: Purpose, payload: dict[str, Any], **rules: Any) -> bool:
    given: dict[str, Any] = {"require": {}, "refresh": None, "own_keys": False} | rules
    return is_for(purpose, payload, **given)


@pytest.mark.parametrize(
    ("rule", "payload", "fits"),
    [
        ({}, {}, True),
        ({"a": 1, "b": 2}, {"a": 1, "b": 2, "c": 3}, True),
        ({"a": 1, "b": 2}, {"a": 1}, False),
        ({"a": "x"}, {"a": ["y", "x"]}, True),
        ({"a": "x"}, {"a": ["xy"]}, False),
        ({"a": "x"}, {"a": "xy"}, False),
        ({"a": "x"}, {"a": None}, False),
        ({"a": 1}, {"a": [1]}, False),
        ({"a": 1}, {"a": True}, False),
        ({"a": 1}, {"a": 1.0}, False),
        ({"a": ["x", "y"]}, {"a": "y"}, True),
        ({"a": ("x", "y")}, {"a": "y"}, True),
        ({"a": frozenset({"x"})}, {"a": "x"}, True),
        ({"a": ["x", "y"]}, {"a": "z"}, False),
        ({"a": ["x", "y"]}, {}, False),
        ({"a": []}, {}, True),
        ({"a": ()}, {"a": 1}, False),
        ({"a": None}, {}, True),
        ({"a": None}, {"a": 1}, False),
        ({"a": "*"}, {"a": 0}, True),
        ({"a": "*"}, {}, False),
        ({"a.b": 1}, {"a": {"b": 1}}, True),
        ({"a.b": 1}, {"a": {"c": 1}}, False),
    ],
)
def test_a_rule_holds_where_each_claim_has_its_value_and_type(
    rule: dict[str, Any], payload: dict[str, Any], fits: bool
) -> None:
    assert holds(rule, payload) is fits


@pytest.mark.parametrize("name", KIND_CLAIMS)
def test_what_names_itself_something_else_is_no_login(name: str) -> None:
    for kind in sorted({*OTHER_KINDS, *KINDS["refresh"], "member", ""}):
        assert not serves("access", {name: kind})
    for kind in sorted(KINDS["access"]):
        assert serves("access", {name: kind})
    assert serves("access", {name: " Bearer "})
    assert not serves("access", {name: "Password-Reset"})
    assert not serves("access", {name: 7})


@pytest.mark.parametrize("name", KIND_CLAIMS)
def test_without_a_rule_only_what_names_itself_a_refresh_token_exchanges(name: str) -> None:
    for kind in sorted({*OTHER_KINDS, *KINDS["access"], "member"}):
        assert not serves("refresh", {name: kind})
    for kind in sorted(KINDS["refresh"]):
        assert serves("refresh", {name: kind})
    assert not serves("refresh", {})
    assert not serves("refresh", {name: "refresh", "purpose_of": 1, "nonce": "n"})


RULE = {"role": "user"}


@pytest.mark.parametrize("name", KIND_CLAIMS)
def test_beside_a_rule_a_kind_may_be_strange_but_not_another(name: str) -> None:
    """A rule speaks of one claim; what the others say must not contradict it."""
    right = {"role": "user"}
    assert serves("access", right | {name: "member"}, require=RULE)
    assert serves("access", right | {name: "access"}, require=RULE)
    assert not serves("access", right | {name: "refresh"}, require=RULE)
    assert not serves("access", right | {name: "id_token"}, require=RULE)
    assert serves("refresh", right | {name: "member"}, refresh=RULE)
    assert serves("refresh", right | {name: "refresh"}, refresh=RULE)
    assert not serves("refresh", right | {name: "access"}, refresh=RULE)
    assert not serves("refresh", right | {name: "otp"}, refresh=RULE)


def test_a_rule_about_a_kind_is_the_last_word_about_that_claim() -> None:
    assert serves("access", {"type": "reset"}, require={"type": "reset"})
    assert not serves("access", {"type": "reset", "kind": "reset"}, require={"type": "reset"})


@pytest.mark.parametrize("name", ["at_hash", "c_hash", "s_hash", "events"])
@pytest.mark.parametrize("purpose", ["access", "refresh"])
def test_an_id_token_or_a_logout_token_is_never_a_credential(name: str, purpose: Purpose) -> None:
    """OpenID Connect Core 3.1.3.6, RFC 8417: whatever a rule says."""
    payload = {"role": "user", name: None}
    assert not serves(purpose, payload, require=RULE, refresh=RULE, own_keys=True)


@pytest.mark.parametrize(
    ("rule", "is_told"),
    [
        (RULE, True),
        ({"role": "*"}, True),
        ({"role": None, "sub": "*"}, True),
        ({}, False),
        ({"file": None}, False),
        ({"file": []}, False),
        ({"file": ()}, False),
    ],
)
def test_a_rule_of_absence_tells_no_login_from_an_id_token(
    rule: dict[str, Any], is_told: bool
) -> None:
    """So a nonce, or a kind that nobody knows, is refused there as without a rule."""
    payload = {"sub": "u1"} | ({"role": "user"} if rule.get("role") else {})
    assert serves("access", payload, require=rule)
    assert serves("access", payload | {"nonce": "n"}, require=rule) is is_told
    assert serves("access", payload | {"kind": "member"}, require=rule) is is_told
    assert serves("refresh", payload, refresh=rule) is is_told


@pytest.mark.parametrize(
    ("refresh", "payload", "is_login"),
    [
        ({"rt": True}, {"rt": True}, False),
        ({"rt": True}, {}, True),
        ({"rt": "*"}, {"rt": True}, True),
        ({"rt": True, "sub": "*"}, {"rt": True, "sub": "u"}, True),
        ({}, {}, True),
        (None, {}, True),
    ],
)
def test_what_the_refresh_rule_names_is_no_login_where_logins_have_no_rule(
    refresh: dict[str, Any] | None, payload: dict[str, Any], is_login: bool
) -> None:
    assert serves("access", payload, refresh=refresh) is is_login
    assert serves("access", payload | RULE, require=RULE, refresh=refresh)
    assert serves("access", payload, refresh=refresh, own_keys=True)


def test_keys_of_their_own_tell_refresh_tokens_and_not_what_names_itself_a_login() -> None:
    assert serves("refresh", {}, own_keys=True)
    assert serves("refresh", {"type": "refresh"}, own_keys=True)
    assert not serves("refresh", {"type": "access"}, own_keys=True)
    assert not serves("refresh", {"nonce": "n"}, own_keys=True)
    assert not serves("refresh", {"type": "refresh"}, refresh={"rt": True})
