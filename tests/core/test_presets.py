"""The presets: each shape is told from the others, and its facts verify a token of that shape.

Settings are built as an operator would write them: the preset's name, a key, and what only the
operator knows.
"""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import jwt
import pytest

from migrator import prepared
from migrator.core.claims import Claims, Purpose
from migrator.core.legacy import Legacy, Verifier
from migrator.core.presets import PRESETS, Preset, recognise
from migrator.core.verdicts import Reason
from migrator.settings import Settings
from tests.core.signers import SIGNERS, Signer
from tests.fixtures.libraries import SECRET, Signed, signed
from tests.fixtures.shapes import BY_HAND, HS, TIMES, UUID

LIBRARIES = ("simplejwt", "simplejwt-sliding", "flask-jwt-extended", "fastapi-users")


def _signs_with_secret(preset: Preset) -> bool:
    return preset.defaults["algorithms"] == ("HS256",)


@dataclass(frozen=True)
class Samples:
    login: bytes
    refresh: bytes | None
    others: dict[str, bytes]
    subject: str
    sure: bool
    verifier: Verifier


@pytest.fixture(scope="module")
def by_library() -> dict[str, Signed]:
    return signed()


def verifier_for(name: str, *keys: str, **given: Any) -> Verifier:
    """What `preset = name` verifies, and a key."""
    issuer = {"id": "a1", "preset": name, "keys": list(keys), **given}
    tables = {"database": {"url": "postgresql+psycopg://u@h/d"}, "issuers": [issuer]}
    return prepared.verifier_of(Settings.build(tables, environ={}))


@pytest.fixture
def samples(name: str, by_library: dict[str, Signed]) -> Samples:
    if name in by_library:
        made = by_library[name]
        return Samples(
            login=made.login.encode(),
            refresh=made.refresh.encode() if made.refresh else None,
            others={what: token.encode() for what, token in made.others.items()},
            subject=made.subject,
            sure=True,
            verifier=verifier_for(name, SECRET),
        )
    shape = BY_HAND[name]

    def sign(payload: Any) -> bytes:
        if shape.header["alg"] == "RS256":
            return SIGNERS["RS256"].token(payload, dict(shape.header))
        return _signed_with_secret(payload, dict(shape.header))

    key = SIGNERS["RS256"].pem().decode() if shape.header["alg"] == "RS256" else SECRET
    return Samples(
        login=sign(shape.login),
        refresh=sign(shape.refresh) if shape.refresh else None,
        others={what: sign(payload) for what, payload in shape.others.items()},
        subject=shape.subject,
        sure=shape.sure,
        verifier=verifier_for(name, key, **shape.given),
    )


def _signed_with_secret(payload: Any, header: dict[str, Any]) -> bytes:
    """By the algorithm alone: PyJWT refuses to encode what older signers wrote."""
    return Signer("HS256", SECRET.encode(), SECRET.encode()).token(payload, header)


def verdict(samples: Samples, token: bytes, purpose: Purpose = "access") -> Claims | Reason:
    owner = samples.verifier.whose(token)
    if not isinstance(owner, Legacy):
        return owner.reason  # type: ignore[union-attr]  # like a JWT, so it is never foreign
    found = samples.verifier.verify(
        token, owner.candidates, now=datetime.now(UTC), purpose=purpose
    )
    return found if isinstance(found, Claims) else found.reason


def test_every_preset_has_a_sample() -> None:
    assert {*LIBRARIES, *BY_HAND} == PRESETS.keys()


@pytest.mark.parametrize("name", PRESETS)
def test_a_login_holds_under_its_preset(samples: Samples) -> None:
    held = verdict(samples, samples.login)
    assert isinstance(held, Claims), held
    assert (held.subject, held.purpose) == (samples.subject, "access")


@pytest.mark.parametrize("name", PRESETS)
def test_a_refresh_token_is_exchanged_and_is_no_login(samples: Samples) -> None:
    if samples.refresh is None:
        assert verdict(samples, samples.login, "refresh") == Reason.WRONG_PURPOSE
        return
    held = verdict(samples, samples.refresh, "refresh")
    assert isinstance(held, Claims), held
    assert (held.subject, held.purpose) == (samples.subject, "refresh")
    if samples.refresh != samples.login:  # Laravel's one token is both
        assert verdict(samples, samples.refresh) == Reason.WRONG_PURPOSE
        assert verdict(samples, samples.login, "refresh") == Reason.WRONG_PURPOSE


REFUSALS = {
    Reason.WRONG_PURPOSE,
    Reason.WRONG_AUDIENCE,
    Reason.WRONG_TYPE,
    Reason.BAD_SUBJECT,
    Reason.UNKNOWN_ISSUER,
}


def is_refused(found: Claims | Reason) -> bool:
    return not isinstance(found, Claims) and found in REFUSALS


@pytest.mark.parametrize("name", PRESETS)
def test_another_token_of_the_same_signer_is_no_login(samples: Samples) -> None:
    for what, token in samples.others.items():
        assert is_refused(verdict(samples, token)), what


@pytest.mark.parametrize("name", PRESETS)
def test_another_token_of_the_same_signer_exchanges_nothing(samples: Samples) -> None:
    for what, token in samples.others.items():
        assert "refresh" in what or is_refused(verdict(samples, token, "refresh")), what


@pytest.mark.parametrize("name", PRESETS)
def test_a_login_is_recognised_and_named_only_where_it_can_be(name: str, samples: Samples) -> None:
    header = jwt.get_unverified_header(samples.login)
    payload = jwt.decode(samples.login, options={"verify_signature": False})
    found = recognise(header, payload)
    assert name in [match.preset.name for match in found]
    if samples.sure:
        assert (found[0].preset.name, found[0].is_sure) == (name, True)
    others = {match.preset.name for match in found if match.is_sure} - {name}
    # That app is built on this library, and a token does not say which scheme stood before it.
    assert others <= ({"flask-jwt-extended-3"} if name == "realworld-flask" else set())


AMBIGUOUS: list[tuple[dict[str, Any], list[str]]] = [
    ({"exp": 1, "sub": "7"}, ["fastapi-tutorial", "mealie"]),
    ({**TIMES, "sub": "7"}, ["fastapi-tutorial", "lemur", "mealie"]),
    ({"id": 7, "exp": 1}, ["realworld-django"]),
    ({"id": 7, "username": "a", **TIMES}, ["jsonwebtoken"]),
    ({"userId": UUID, **TIMES}, ["jsonwebtoken"]),
    ({"user": {"id": "66f"}, **TIMES}, ["jsonwebtoken"]),
    ({"file": "x", "exp": 1}, []),
    ({}, []),
]


@pytest.mark.parametrize(("payload", "names"), AMBIGUOUS)
def test_of_several_shapes_that_a_sample_fits_all_are_named_and_none_is_sure(
    payload: dict[str, Any], names: list[str]
) -> None:
    found = recognise(HS, payload)
    assert sorted(match.preset.name for match in found) == sorted(names)
    assert not any(match.is_sure for match in found)


def test_two_libraries_that_write_alike_are_both_named() -> None:
    found = recognise(HS, BY_HAND["realworld-flask"].login)
    assert [match.preset.name for match in found] == ["flask-jwt-extended-3", "realworld-flask"]


@pytest.mark.parametrize("claim", ["userId", "_id", "username", "user.id"])
def test_a_subject_of_any_name_is_one_setting(claim: str) -> None:
    outer, _, inner = claim.partition(".")
    payload = {outer: {inner: "66f1"} if inner else "66f1", **TIMES}
    judging = verifier_for("jsonwebtoken", SECRET, claims={"subject": claim})
    token = _signed_with_secret(payload, dict(HS))
    owner = judging.whose(token)
    assert isinstance(owner, Legacy)
    held = judging.verify(token, owner.candidates, now=datetime.now(UTC))
    assert isinstance(held, Claims)
    assert held.subject == "66f1"


def test_a_next_auth_cookie_is_named_and_is_no_preset() -> None:
    found = recognise({"alg": "dir", "enc": "A256GCM"}, {})
    assert [match.preset.name for match in found] == ["next-auth"]
    assert "next-auth" not in PRESETS
    assert recognise({"alg": "RSA-OAEP", "enc": "A128CBC-HS256"}, {}) == ()


def test_a_preset_keeps_what_the_app_behind_the_bridge_asks_for(
    by_library: dict[str, Signed],
) -> None:
    for name, claim in (("simplejwt", "hash_password"), ("flask-jwt-extended", "fresh")):
        token = by_library[name].login.encode()
        judging = verifier_for(name, SECRET)
        owner = judging.whose(token)
        assert isinstance(owner, Legacy)
        held = judging.verify(token, owner.candidates, now=datetime.now(UTC))
        assert isinstance(held, Claims)
        assert claim in held.kept


@pytest.mark.parametrize("name", [n for n, p in PRESETS.items() if _signs_with_secret(p)])
def test_an_empty_bridge_section_is_filled_by_the_preset(name: str) -> None:
    issuer = {"id": "a1", "preset": name, "keys": [SECRET]}
    tables = {"database": {"url": "postgresql+psycopg://u@h/d"}, "issuers": [issuer], "bridge": {}}
    bridge, facts = Settings.build(tables, environ={}).bridge, PRESETS[name].bridge
    assert bridge is not None
    assert (bridge.access, bridge.refresh) == (facts.access, facts.refresh)
    assert (bridge.constants, bridge.expiring) == (facts.constants, facts.expiring)


def test_bridge_facts_are_json_pointers_and_what_expires_was_there() -> None:
    for preset in PRESETS.values():
        facts = preset.bridge
        for pointer in (*facts.access, *facts.refresh, *facts.refresh_request):
            assert pointer.startswith("/")
        assert facts.expiring.keys() <= {*facts.constants}, preset.name


def test_hazards_have_one_id_each() -> None:
    for preset in PRESETS.values():
        ids = [hazard.id for hazard in preset.hazards]
        assert len(ids) == len(set(ids)) > 0
