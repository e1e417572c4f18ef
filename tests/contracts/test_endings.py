"""What every store promises of an ending and a denial."""

from __future__ import annotations

import uuid

from migrator.core.interfaces import Ended
from tests.contracts.worlds import DAY, NOW, World, a_claims, a_session


def test_an_ended_session_stays_ended_and_says_by_whom(world: World) -> None:
    found = world.login()
    ended = world.end(found.session.id)
    assert ended == Ended(ids=(found.session.id,), digests=(found.digest,))
    over = world.find(found.digest)
    assert over is not None
    assert over.session.revoked_at is not None
    assert (over.session.revoked_reason, over.session.revoked_by) == ("asked", "me")


def test_ending_again_ends_nothing_more_and_keeps_the_first_reason(world: World) -> None:
    found = world.login()
    world.end(found.session.id)
    first = world.find(found.digest)
    again = world.run(world.store.end(found.session.id, reason="x", by="y", legacy=True))
    assert again == Ended()
    second = world.find(found.digest)
    assert first is not None
    assert second is not None
    assert second.session == first.session


def test_ending_what_never_was_ends_nothing(world: World) -> None:
    assert world.end(uuid.uuid4()) == Ended()


def test_the_legacy_token_of_an_ended_session_opens_no_other(world: World) -> None:
    """P2: by the JWT it came from, however often it is swapped again."""
    claims = a_claims()
    session = world.swap(claims).session
    assert session is not None
    world.end(session.id)
    standing = world.swap(claims)
    assert standing.known
    assert standing.session is not None
    assert standing.session.revoked_at is not None
    assert world.living() == []


def test_ending_one_of_a_family_ends_all_and_denies_what_may_come(world: World) -> None:
    """P2: the refresh token of that login was never seen, and must not open a session now."""
    one, two = (a_claims(family="f") for _ in range(2))
    elsewhere = [a_claims(family="g"), a_claims(family="f", issuer="a2"), a_claims()]
    first, second = world.swap(one), world.swap(two)
    others = [world.swap(claims) for claims in elsewhere]
    assert first.session is not None
    assert second.session is not None
    ended = world.end(first.session.id)
    assert set(ended.ids) == {first.session.id, second.session.id}
    assert set(ended.digests) == {first.digest, second.digest}
    later = world.swap(a_claims(family="f"))
    assert (later.bar, later.known, later.session) == ("denied", False, None)
    assert not any(world.is_over(other.digest) for other in others)
    assert world.check(a_claims(family="f", issuer="a2")).bar is None


def test_once_retired_an_ending_ends_the_one_session(world: World) -> None:
    found, other = world.login(), world.login()
    assert world.end(found.session.id, legacy=False).ids == (found.session.id,)
    assert not world.is_over(other.digest)


def test_a_denied_legacy_token_and_its_family_are_over(world: World) -> None:
    claims = a_claims(family="f")
    swapped = world.swap(claims)
    ended = world.run(world.store.deny(claims, reason="stolen", by="ops"))
    assert ended.digests == (swapped.digest,)
    assert world.check(claims).bar == "denied"
    assert world.swap(a_claims(family="f")).bar == "denied"
    assert world.check(a_claims()).bar is None


def test_a_denied_token_never_seen_opens_nothing(world: World) -> None:
    """P2: a JWT revoked before it was ever swapped."""
    claims = a_claims()
    assert world.run(world.store.deny(claims, reason="stolen", by="ops")) == Ended()
    standing = world.swap(claims)
    assert (standing.bar, standing.session) == ("denied", None)
    assert world.living() == []
    assert world.run(world.store.deny(claims, reason="stolen", by="ops")) == Ended()


def test_a_denial_of_a_jti_holds_for_its_issuer_until_it_is_over(world: World) -> None:
    world.operator.deny_jti("a1", "j", None)
    world.operator.deny_jti("a1", "old", NOW - DAY)
    assert world.swap(a_claims(jti="j")).bar == "denied"
    assert world.check(a_claims(jti="j", issuer="a2")).bar is None
    assert world.check(a_claims(jti="old")).bar is None
    assert world.check(a_claims(jti=None)).bar is None


def test_what_names_a_token_that_its_client_never_got_names_its_session(world: World) -> None:
    claims, session = a_claims(), a_session("1", origin="exchange", expires_at=NOW + DAY)
    digest = uuid.uuid4().bytes * 2
    world.run(world.store.create(session, digest, cap=None, instead_of=[claims]))
    standing = world.run(world.store.check(claims))
    assert (standing.known, standing.adopted) == (True, True)
    assert standing.session is not None
    assert standing.session.id == session.id
    ended = world.run(world.store.deny(claims, reason="asked", by="me"))
    assert ended.ids == (session.id,)
