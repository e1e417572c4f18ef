"""What a verified payload says in our words, to the second; read without any signature."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from migrator.core import strict
from migrator.core.claims import Claims, Purpose
from migrator.core.issuers import ClaimNames
from migrator.core.legacy import Issuer
from migrator.core.tokens import fingerprint
from migrator.core.translate import translate
from migrator.core.verdicts import Reason
from tests.core.signers import NOW, NOW_S, SIGNERS, claims

HS = SIGNERS["HS256"]
HOUR = timedelta(hours=1)
SECOND = timedelta(seconds=1)


def said(
    payload: dict[str, Any],
    issuer: Issuer | None = None,
    wanted: Purpose = "access",
    *,
    key_id: str | None = None,
    header: dict[str, Any] | None = None,
    late: float = 0,
) -> Claims | Reason:
    jws = strict.parse(HS.token(payload, header))
    assert isinstance(jws, strict.Compact)
    return translate(
        issuer or HS.issuer(), jws, payload, now=NOW_S + late, wanted=wanted, key_id=key_id
    )


def held(*args: Any, **options: Any) -> Claims:
    found = said(*args, **options)
    assert isinstance(found, Claims), found
    return found


def test_a_payload_is_said_in_our_words() -> None:
    names = ClaimNames(client="azp", scopes="scope", family="sid", keep=("name",))
    issuer = HS.issuer(claims=names, leeway=9 * SECOND, skew=7 * SECOND)
    payload = claims(
        azp="web", scope="a b", sid="s1", name="Ann", auth_time=NOW_S - 9, amr=["pwd"]
    )
    jws = strict.parse(HS.token(payload))
    assert isinstance(jws, strict.Compact)
    assert held(payload, issuer) == Claims(
        issuer="a1",
        realm="users",
        subject="user-1",
        fingerprint=fingerprint("a1", jws.signing_input),
        exp=NOW + HOUR,
        keep_until=NOW + HOUR + 16 * SECOND,
        purpose="access",
        kid="k1",
        iat=NOW - 60 * SECOND,
        effective_iat=NOW - 67 * SECOND,
        jti="5f1d",
        family="s1",
        client="web",
        scopes=frozenset({"a", "b"}),
        kept={"name": "Ann"},
        auth_time=NOW - 9 * SECOND,
        amr=("pwd",),
        rolling_seconds=None,
    )


def test_what_the_settings_do_not_name_is_not_said() -> None:
    payload = claims(jti=..., client="web", scope="a", azp="w", name="Ann", sid="s", family="f")
    found = held(payload)
    assert (found.client, found.family, found.jti, found.kept) == (None, None, None, {})
    assert (found.scopes, found.auth_time, found.amr) == (frozenset(), None, ())


@pytest.mark.parametrize(
    ("key_id", "header", "kid"), [("own", "k1", "own"), (None, "k1", "k1"), (None, ..., None)]
)
def test_a_token_is_of_the_key_that_signed_it_whatever_its_header_says(
    key_id: str | None, header: object, kid: str | None
) -> None:
    assert held(claims(), key_id=key_id, header=HS.header(kid=header)).kid == kid


@pytest.mark.parametrize("value", [7, "7"])
def test_an_integer_client_or_family_is_text(value: object) -> None:
    issuer = HS.issuer(claims=ClaimNames(client="c", family="f"))
    found = held(claims(c=value, f=value), issuer)
    assert (found.client, found.family) == ("7", "7")


@pytest.mark.parametrize(
    "changes", [{"c": ""}, {"c": True}, {"f": ["x"]}, {"f": "a\n"}, {"jti": None}, {"jti": 7}]
)
def test_a_client_family_or_jti_that_cannot_be_kept_is_refused(changes: dict[str, Any]) -> None:
    issuer = HS.issuer(claims=ClaimNames(client="c", family="f"))
    assert said(claims(**changes), issuer) is Reason.BAD_CLAIM


@pytest.mark.parametrize("changes", [{"c": None}, {"f": None}, {"s": None}, {}])
def test_a_null_client_family_or_scope_is_an_absent_one(changes: dict[str, Any]) -> None:
    found = held(
        claims(**changes), HS.issuer(claims=ClaimNames(client="c", family="f", scopes="s"))
    )
    assert (found.client, found.family, found.scopes) == (None, None, frozenset())


def test_a_star_keeps_every_claim_about_the_login_and_none_about_the_token() -> None:
    issuer = HS.issuer(
        claims=ClaimNames(keep=("*", "deep.name")),
        require={"kind": "login"},
        refresh={"rt": True},
    )
    payload = claims(
        kind="login",
        rt=False,
        nbf=NOW_S,
        name="Ann",
        nothing=None,
        bad="a\0",
        deep={"name": "x", "n": 1},
        zero=0,
    )
    payload["urn:migrator:bridge"] = True
    assert held(payload, issuer).kept == {
        "sub": "user-1",
        "iat": NOW_S - 60,
        "jti": "5f1d",
        "name": "Ann",
        "zero": 0,
        "deep": {"name": "x", "n": 1},
        "deep.name": "x",
    }
    without_refresh = HS.issuer(claims=ClaimNames(keep=("*",)))
    assert held(claims(rt=False), without_refresh).kept["rt"] is False


def test_a_claim_that_is_kept_by_name_is_kept_whatever_it_is_about() -> None:
    issuer = HS.issuer(claims=ClaimNames(keep=("exp", "iss", "no")))
    assert held(claims(), issuer).kept.keys() == {"exp", "iss"}


@pytest.mark.parametrize(
    ("changes", "late", "reason"),
    [
        ({}, 3600 + 30, Reason.LEGACY_EXPIRED),
        ({}, 3600 + 29.999, None),
        ({"nbf": NOW_S + 30}, 0, None),
        ({"nbf": NOW_S + 31}, 0, Reason.NOT_YET_VALID),
        ({"iat": NOW_S + 35}, 0, None),
        ({"iat": NOW_S + 36}, 0, Reason.NOT_YET_VALID),
        ({"iat": None}, 0, Reason.BAD_TIME),
        ({"nbf": "1"}, 0, Reason.BAD_TIME),
        ({"exp": True}, 0, Reason.BAD_TIME),
        ({"exp": ...}, 0, Reason.NO_EXPIRY),
        ({"nbf": NOW_S + 31, "exp": NOW_S - 900}, 0, Reason.NOT_YET_VALID),
    ],
)
def test_a_token_holds_within_leeway_and_skew_to_the_second(
    changes: dict[str, Any], late: float, reason: Reason | None
) -> None:
    found = said(claims(**changes), late=late)
    assert found is reason if reason else isinstance(found, Claims)


def test_a_token_without_exp_holds_for_max_age_and_leeway() -> None:
    issuer = HS.issuer(max_age=100 * SECOND)
    payload = claims(exp=...)  # a minute old
    assert held(payload, issuer, late=69).exp == NOW + 40 * SECOND
    assert said(payload, issuer, late=70) is Reason.LEGACY_EXPIRED
    assert said(claims(exp=..., iat=...), issuer) is Reason.NO_EXPIRY
    assert said(payload, HS.issuer(max_age=None)) is Reason.NO_EXPIRY


def test_what_cannot_be_dated_by_its_iat_is_dated_by_the_lifetime_of_its_purpose() -> None:
    issuer = HS.issuer(lifetime=HOUR, refresh_lifetime=9 * HOUR, skew=7 * SECOND)
    payload = claims(iat=...)
    assert held(payload, issuer).effective_iat == NOW - 7 * SECOND
    found = held(payload, issuer, "refresh").effective_iat
    assert found == NOW - 8 * HOUR - 7 * SECOND
    undated = held(payload, HS.issuer(lifetime=None))
    assert (undated.iat, undated.effective_iat) == (None, None)


@pytest.mark.parametrize(
    ("wanted", "rotates", "lifetime", "rolling"),
    [
        ("refresh", True, 9 * HOUR, 32_400),
        ("refresh", False, 9 * HOUR, None),
        ("refresh", True, None, None),
        ("access", True, 9 * HOUR, None),
    ],
)
def test_only_a_refresh_token_that_rotates_carries_a_login_on(
    wanted: Purpose, rotates: bool, lifetime: timedelta | None, rolling: int | None
) -> None:
    issuer = HS.issuer(rotates_refresh=rotates, refresh_lifetime=lifetime)
    found = held(claims(), issuer, wanted)
    assert (found.purpose, found.rolling_seconds) == (wanted, rolling)
    assert found.rolling == (None if rolling is None else 9 * HOUR)
