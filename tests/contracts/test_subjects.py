"""What every store promises of the cutoff of a subject, a key or an issuer."""

from __future__ import annotations

import uuid
from datetime import timedelta

from tests.contracts.worlds import DAY, NOW, World, a_claims, a_session


def test_a_subject_cut_off_loses_every_session_and_every_older_legacy_token(
    world: World,
) -> None:
    """P2: for a whole subject, by legacy tokens never seen before as well."""
    claims, swapped = a_claims(), world.swap(a_claims())
    login, token = world.login(), world.login(kind="api", expires_at=None, label="ci")
    other, elsewhere = world.login("2"), world.swap(a_claims(realm="staff"))
    ended = world.end_subject()
    assert set(ended.digests) == {swapped.digest, login.digest, token.digest}
    standing = world.swap(claims)
    assert (standing.bar, standing.known, standing.session) == ("cut_off", False, None)
    assert world.living() == []
    assert not world.is_over(other.digest)
    assert not world.is_over(elsewhere.digest)
    assert world.check(a_claims("2")).bar is None
    assert world.check(a_claims(realm="staff")).bar is None


def test_a_cutoff_stops_the_backfilled_row_of_its_subject(world: World) -> None:
    claims, session = a_claims(), a_session(origin="backfill")
    world.operator.backfill(session, claims)
    ended = world.end_subject()
    assert (ended.ids, ended.digests) == ((session.id,), ())
    assert world.swap(claims).digest is None


def test_the_session_kept_is_the_only_one_left(world: World) -> None:
    kept, other = world.login(), world.login()
    assert world.end_subject(keep=kept.session.id).ids == (other.session.id,)
    assert world.living() == [kept.session.id]


def test_a_cutoff_names_tokens_by_when_they_were_issued(world: World) -> None:
    """A token of the same second cannot be told apart; one that cannot be dated is never newer."""
    world.end_subject(before=NOW + timedelta(milliseconds=700))
    bars = {
        issued_at: world.check(a_claims(iat=issued_at, effective_iat=issued_at)).bar
        for issued_at in (None, NOW - DAY, NOW, NOW + timedelta(seconds=1))
    }
    assert bars == {
        None: "cut_off",
        NOW - DAY: "cut_off",
        NOW: "cut_off",
        NOW + timedelta(seconds=1): None,
    }


def test_the_latest_of_a_subjects_cutoffs_binds(world: World) -> None:
    world.end_subject(before=NOW)
    world.end_subject(before=NOW - DAY)
    assert world.check(a_claims(effective_iat=NOW)).bar == "cut_off"


def test_a_login_after_a_cutoff_is_a_new_session(world: World) -> None:
    world.end_subject()
    login = world.login()
    assert world.living() == [login.session.id]


def test_the_cutoff_of_a_key_is_absolute(world: World) -> None:
    """Who holds a leaked key writes iat at will."""
    world.operator.cut_off("a1", "k1")
    ahead = NOW + DAY
    assert world.swap(a_claims(effective_iat=ahead)).bar == "cut_off"
    assert world.check(a_claims(kid="k2")).bar is None
    assert world.check(a_claims(kid=None)).bar is None
    assert world.check(a_claims(issuer="a2")).bar is None


def test_the_cutoff_of_an_issuer_covers_all_its_keys(world: World) -> None:
    world.operator.cut_off("a1", None)
    bars = [world.check(a_claims(kid=kid)).bar for kid in ("k1", "k2", None)]
    assert bars == ["cut_off"] * 3
    assert world.check(a_claims(issuer="a2")).bar is None


def test_what_is_to_be_buried_is_what_a_subjects_ending_ends(world: World) -> None:
    login, swapped, over = world.login(), world.swap(a_claims()), world.login()
    world.operator.backfill(a_session(origin="backfill"), a_claims())
    world.end(over.session.id)
    digests = world.run(world.store.digests_of("1", realm="users"))
    assert set(digests) == {login.digest, swapped.digest}
    assert set(world.end_subject().digests) == set(digests)
    assert world.run(world.store.digests_of("1", realm="users")) == []


def test_a_family_is_named_with_the_asked_session_first_alive_or_not(world: World) -> None:
    one, two = world.swap(a_claims(family="f")), world.swap(a_claims(family="f"))
    backfilled = a_session(origin="backfill")
    world.operator.backfill(backfilled, a_claims(family="f"))
    assert two.session is not None
    world.end(two.session.id)
    family = world.run(world.store.family_of(two.session.id, legacy=True))
    assert family[0].digest == two.digest
    assert {found.digest for found in family} == {one.digest, two.digest, b""}
    alone = world.run(world.store.family_of(two.session.id, legacy=False))
    assert [found.digest for found in alone] == [two.digest]
    assert list(world.run(world.store.family_of(uuid.uuid4(), legacy=True))) == []
