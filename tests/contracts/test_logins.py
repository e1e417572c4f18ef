"""What every store promises of a login, its cap and its end."""

from __future__ import annotations

import uuid
from datetime import timedelta

from migrator.core.phases import Phase
from tests.contracts.worlds import DAY, NOW, World, a_claims, a_session


def test_a_login_is_kept_whole(world: World) -> None:
    found = world.login(
        client="web",
        scopes=frozenset({"read", "write"}),
        claims={"name": "Zoë", "deep": {"a": [1, None]}},
        user_agent="ua",
        ip="::1",
        auth_time=NOW,
        amr=("pwd", "otp"),
        label="laptop",
    )
    assert (found.session.client, found.session.ip) == ("web", "::1")
    assert found.session.scopes == {"read", "write"}
    assert found.session.claims == {"name": "Zoë", "deep": {"a": [1, None]}}
    assert found.session.amr == ("pwd", "otp")
    assert (found.session.auth_time, found.session.label) == (NOW, "laptop")
    assert found.read_at >= found.session.created_at


def test_beyond_the_cap_the_oldest_login_goes(world: World) -> None:
    logins = [world.login(created_at=NOW + timedelta(seconds=age)) for age in range(3)]
    newest = a_session(created_at=NOW + timedelta(seconds=9), origin="login")
    ended = world.run(world.store.create(newest, uuid.uuid4().bytes * 2, cap=2))
    assert set(ended.ids) == {one.session.id for one in logins[:2]}
    assert set(ended.digests) == {one.digest for one in logins[:2]}
    assert world.living() == [newest.id, logins[2].session.id]


def test_the_cap_counts_families_and_ends_them_whole(world: World) -> None:
    """What came from one login counts once: here two sessions of one login at the provider."""

    def login(family: str, age: int) -> uuid.UUID:
        session = a_session(created_at=NOW + timedelta(seconds=age), origin="login")
        claims = a_claims(family=family)
        digest = uuid.uuid4().bytes * 2
        world.run(world.store.create(session, digest, cap=2, instead_of=[claims]))
        return session.id

    twins = [login("phone", 0), login("phone", 1)]
    tablet = login("tablet", 2)
    assert set(world.living()) == {*twins, tablet}
    newest = login("car", 3)
    assert set(world.living()) == {tablet, newest}


def test_no_cap_ends_a_family_in_which_a_swapped_session_lives(world: World) -> None:
    login = a_session(created_at=NOW - timedelta(hours=1), origin="login")
    claims = a_claims(family="phone")
    world.run(world.store.create(login, uuid.uuid4().bytes * 2, cap=1, instead_of=[claims]))
    swapped = world.swap(a_claims(family="phone")).session
    assert swapped is not None
    later = [world.login(cap=1).session.id for _ in range(3)]
    assert set(world.living()) == {login.id, swapped.id, later[-1]}


def test_once_retired_the_cap_counts_sessions(world: World) -> None:
    several = [
        a_session(created_at=NOW + timedelta(seconds=age), origin="login") for age in range(3)
    ]
    for session in several:
        digest = uuid.uuid4().bytes * 2
        world.run(world.store.create(session, digest, cap=2, legacy=False))
    assert set(world.living()) == {session.id for session in several[1:]}


def test_no_cap_ends_a_swapped_session_an_api_token_or_anothers_login(world: World) -> None:
    """P3 and P12: the JWT it came from would have lived."""
    kept = [
        world.swap(a_claims()).digest,
        world.login(kind="api", expires_at=None).digest,
        world.login("2").digest,
        world.login(realm="staff").digest,
    ]
    backfilled = a_session(origin="backfill")
    world.operator.backfill(backfilled, a_claims())
    for _ in range(3):
        last = world.login(cap=1)
    assert not any(world.is_over(digest) for digest in kept)
    assert {last.session.id, backfilled.id} <= set(world.living())


def test_an_extension_moves_the_end_later_and_never_earlier(world: World) -> None:
    found = world.login()
    end = found.session.expires_at
    assert end is not None
    ends = []
    for moved in (end + DAY, end - DAY):
        world.run(world.store.extend(found.session.id, moved))
        now = world.find(found.digest)
        assert now is not None
        ends.append(now.session.expires_at)
    assert ends == [end + DAY, end + DAY]


def test_an_extension_brings_nothing_back(world: World) -> None:
    """P2: neither what was ended nor what has expired."""
    over, late = world.login(), world.login(expires_at=NOW - DAY)
    world.end(over.session.id)
    for found in (over, late):
        world.run(world.store.extend(found.session.id, NOW + 5 * DAY))
        now = world.find(found.digest)
        assert now is not None
        assert now.session.expires_at == found.session.expires_at


def test_a_list_is_newest_first_and_shows_the_ended_when_asked(world: World) -> None:
    first, second, third = (
        world.login(created_at=NOW + timedelta(seconds=age)) for age in range(3)
    )
    late = world.login(created_at=NOW - DAY, expires_at=NOW - timedelta(hours=1))
    world.end(second.session.id)
    assert world.living() == [third.session.id, first.session.id]
    everything = world.run(world.store.list("1", realm="users", ended=True))
    assert [session.id for session in everything] == [
        found.session.id for found in (third, second, first, late)
    ]


def test_what_nobody_has_is_not_found(world: World) -> None:
    assert world.find(bytes(32)) is None
    assert world.living("nobody") == []


def test_time_is_told_in_utc_and_goes_on(world: World) -> None:
    one, two = (world.run(world.store.now()) for _ in range(2))
    assert one <= two
    assert one.utcoffset() == timedelta(0)


def test_a_new_store_observes(world: World) -> None:
    """The phase in which nothing changes for anybody."""
    rollout = world.run(world.store.rollout())
    assert (rollout.phase, rollout.percent, rollout.exceptions) == (Phase.OBSERVE, 0, ())
