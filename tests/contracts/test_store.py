"""What every store promises, over each that ships."""

from __future__ import annotations

import asyncio
import threading
import uuid
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol, TypeVar

import psycopg
import pytest

from migrator.core.claims import Claims
from migrator.core.interfaces import Ended, Found, Standing, Store, Ticket
from migrator.core.phases import Phase, Rollout
from migrator.core.sessions import Session
from migrator.stores.drivers import AsyncDriver, BlockingDriver
from migrator.stores.memory import MemoryStore
from migrator.stores.postgres import Postgres

T = TypeVar("T")
DAY = timedelta(days=1)
NOW = datetime.now(UTC).replace(microsecond=0)


def drive(work: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine that must not suspend."""
    try:
        work.send(None)
    except StopIteration as done:
        value: T = done.value
        return value
    work.close()
    raise AssertionError("it suspended")


class Operator(Protocol):
    """What is done to a store from outside the request path."""

    def backfill(self, session: Session, claims: Claims) -> None: ...

    def adopt(self, session_id: uuid.UUID) -> None: ...

    def deny_jti(self, issuer: str, jti: str, until: datetime | None) -> None: ...

    def cut_off(self, issuer: str, kid: str | None) -> None: ...


@dataclass(frozen=True, slots=True)
class InMemory:
    store: MemoryStore

    def backfill(self, session: Session, claims: Claims) -> None:
        self.store.backfill(session, claims)

    def adopt(self, session_id: uuid.UUID) -> None:
        self.store.adopt(session_id)

    def deny_jti(self, issuer: str, jti: str, until: datetime | None) -> None:
        self.store.deny_key(issuer, jti=jti, until=until)

    def cut_off(self, issuer: str, kid: str | None) -> None:
        self.store.cut_off(issuer, kid=kid)


@dataclass(frozen=True, slots=True)
class InPostgres:
    """Writes the rows that backfill, pulse and `cutoff add` write."""

    url: str

    def backfill(self, session: Session, claims: Claims) -> None:
        self._do(
            "INSERT INTO migrator.sessions (id, kind, realm, subject, created_at, expires_at,"
            " origin) VALUES (%s, %s, %s, %s, %s, %s, %s)",
            session.id,
            session.kind,
            session.realm,
            session.subject,
            session.created_at,
            session.expires_at,
            session.origin,
        )
        self._do(
            "INSERT INTO migrator.legacy_tokens (fingerprint, issuer, jti, family, realm, subject,"
            " purpose, exp, session_id, keep_until, percent_bucket)"
            " VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, 0)",
            claims.fingerprint,
            claims.issuer,
            claims.jti,
            claims.family,
            claims.realm,
            claims.subject,
            claims.purpose,
            claims.exp,
            session.id,
            claims.keep_until,
        )

    def adopt(self, session_id: uuid.UUID) -> None:
        self._do(
            "UPDATE migrator.legacy_tokens SET adopted_at = now() WHERE session_id = %s",
            session_id,
        )

    def deny_jti(self, issuer: str, jti: str, until: datetime | None) -> None:
        self._do(
            "INSERT INTO migrator.denials (issuer, jti, until, reason) VALUES (%s, %s, %s, 'x')",
            issuer,
            jti,
            until,
        )

    def cut_off(self, issuer: str, kid: str | None) -> None:
        self._do("INSERT INTO migrator.cutoffs (issuer, kid) VALUES (%s, %s)", issuer, kid)

    def _do(self, statement: str, *values: object) -> None:
        url = self.url.replace("postgresql+psycopg://", "postgresql://", 1)
        with psycopg.connect(url) as connection:
            connection.execute(statement, values)


@dataclass(frozen=True, slots=True)
class World:
    """A store, how to run it, and who works on it from outside."""

    store: Store
    operator: Operator
    run: Callable[[Coroutine[Any, Any, Any]], Any]

    def find(self, digest: bytes) -> Found | None:
        found: Found | None = self.run(self.store.find(digest))
        return found

    def check(self, claims: Claims) -> Standing:
        standing: Standing = self.run(self.store.check(claims))
        return standing

    def swap(self, claims: Claims, ticket: Ticket | None = None) -> Standing:
        standing: Standing = self.run(self.store.swap(claims, ticket or a_ticket(claims)))
        return standing

    def login(self, subject: str = "1", *, cap: int | None = None, **more: Any) -> Found:
        """A session begun by a login; `more` are further fields of it."""
        now = self.run(self.store.now())
        more = {"created_at": now, "expires_at": now + DAY, "origin": "login", **more}
        session = a_session(subject, **more)
        digest = uuid.uuid4().bytes * 2
        self.run(self.store.create(session, digest, cap=cap))
        found = self.find(digest)
        assert found is not None
        return found

    def end(self, session_id: uuid.UUID, *, legacy: bool = True) -> Ended:
        ended: Ended = self.run(self.store.end(session_id, reason="asked", by="me", legacy=legacy))
        return ended

    def end_subject(self, subject: str = "1", realm: str = "users", **more: Any) -> Ended:
        more = {"legacy": True, "reason": "asked", "by": "me", **more}
        ended: Ended = self.run(self.store.end_subject(subject, realm=realm, **more))
        return ended

    def living(self, subject: str = "1") -> list[uuid.UUID]:
        sessions = self.run(self.store.list(subject, realm="users"))
        return [session.id for session in sessions]

    def is_over(self, digest: bytes | None) -> bool:
        assert digest is not None
        found = self.find(digest)
        assert found is not None
        return found.session.revoked_at is not None


@pytest.fixture(params=["memory", "blocking postgres", "async postgres"])
def world(request: pytest.FixtureRequest) -> Iterator[World]:
    if request.param == "memory":
        memory = MemoryStore()
        yield World(memory, InMemory(memory), drive)
        return
    url = request.getfixturevalue("migrated")
    # A budget for a busy machine: what is claimed here is not how fast it is.
    if request.param == "blocking postgres":
        blocking = BlockingDriver(url, budget_s=20)
        yield World(Postgres(blocking, "migrator"), InPostgres(url), drive)
        blocking.close()
        return
    with asyncio.Runner() as runner:
        driver = AsyncDriver(url, budget_s=20)
        yield World(Postgres(driver, "migrator"), InPostgres(url), runner.run)
        driver.close()


def a_session(subject: str = "1", **more: Any) -> Session:
    facts: dict[str, Any] = {
        "id": uuid.uuid4(),
        "kind": "session",
        "realm": "users",
        "created_at": NOW,
        "expires_at": NOW + DAY,
        "origin": "swap",
    }
    return Session(subject=subject, **facts | more)


def a_claims(subject: str = "1", **more: Any) -> Claims:
    facts: dict[str, Any] = {
        "issuer": "a1",
        "realm": "users",
        "fingerprint": uuid.uuid4().bytes * 2,
        "exp": NOW + DAY,
        "keep_until": NOW + DAY + timedelta(seconds=35),
        "kid": "k1",
        "iat": NOW - timedelta(minutes=1),
        "effective_iat": NOW - timedelta(minutes=1),
    }
    return Claims(subject=subject, **facts | more)


def a_ticket(claims: Claims, /, **more: Any) -> Ticket:
    session = a_session(claims.subject, realm=claims.realm, expires_at=claims.exp, **more)
    digest = bytes(255 - byte for byte in claims.fingerprint)  # derived, so always the same
    return Ticket(session=session, digest=digest, swap_key_id="s1", percent_bucket=7)


# ---- a swap -----------------------------------------------------------------------------------


def test_a_swap_opens_a_session_of_the_derived_digest(world: World) -> None:
    claims = a_claims(client="app", scopes=frozenset({"read"}))
    ticket = a_ticket(claims, client="app", scopes=frozenset({"read"}), claims={"name": "Zoë"})
    standing = world.swap(claims, ticket)
    assert standing.bar is None
    assert standing.known
    assert (standing.digest, standing.swap_key_id) == (ticket.digest, "s1")
    assert not standing.adopted
    found = world.find(ticket.digest)
    assert found is not None
    assert found.session == standing.session
    kept = ("id", "subject", "realm", "client", "scopes", "claims", "expires_at", "origin")
    assert {name: getattr(found.session, name) for name in kept} == {
        name: getattr(ticket.session, name) for name in kept
    }


def test_one_legacy_token_has_one_session_however_often_it_is_swapped(world: World) -> None:
    """P1: the loser's ticket names another session, and gets the winner's answer."""
    claims = a_claims()
    first, *others = [world.swap(claims) for _ in range(4)]
    assert first.session is not None
    assert [other.session for other in others] == [first.session] * 3
    assert world.living() == [first.session.id]


def test_a_node_with_another_swap_key_gets_the_first_ones_answer(world: World) -> None:
    """P1: it lacks the key that the row names, and so admits without handing out."""
    claims = a_claims()
    first = world.swap(claims)
    other = replace(a_ticket(claims), digest=uuid.uuid4().bytes * 2, swap_key_id="s2")
    second = world.swap(claims, other)
    assert (second.session, second.digest) == (first.session, first.digest)
    assert second.swap_key_id == "s1"
    assert world.find(other.digest) is None


def test_swaps_at_once_open_one_session(world: World) -> None:
    """P1."""
    claims = a_claims()
    standings: list[Standing] = []
    if world.store.blocks:

        def swap() -> None:
            standings.append(world.swap(claims))

        threads = [threading.Thread(target=swap) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    else:

        async def all_at_once() -> list[Standing]:
            tickets = [a_ticket(claims) for _ in range(8)]
            return await asyncio.gather(*(world.store.swap(claims, one) for one in tickets))

        standings = world.run(all_at_once())
    assert len(standings) == 8
    assert len({standing.session.id for standing in standings if standing.session}) == 1
    assert len(world.living()) == 1


def test_checking_a_legacy_token_changes_nothing(world: World) -> None:
    claims = a_claims()
    standing = world.check(claims)
    assert (standing.known, standing.session, standing.bar) == (False, None, None)
    assert world.living() == []
    swapped = world.swap(claims)
    assert replace(world.check(claims), read_at=swapped.read_at) == swapped


def test_an_adopted_swap_says_so(world: World) -> None:
    claims = a_claims()
    session = world.swap(claims).session
    assert session is not None
    world.operator.adopt(session.id)
    assert world.swap(claims).adopted
    assert world.check(claims).adopted


def test_a_backfilled_session_gets_its_token_at_the_first_swap(world: World) -> None:
    """P1: the row that the ledger brought stays the only one."""
    claims, session = a_claims(), a_session(origin="backfill")
    world.operator.backfill(session, claims)
    before = world.check(claims)
    assert (before.known, before.digest, before.swap_key_id) == (True, None, None)
    assert before.session is not None
    assert before.session.id == session.id
    after = world.swap(claims)
    assert after.session is not None
    assert after.session.id == session.id
    assert (after.digest, after.swap_key_id) == (a_ticket(claims).digest, "s1")
    assert world.living() == [session.id]
    assert world.swap(claims).digest == after.digest


def test_a_backfilled_session_that_ended_gets_no_token(world: World) -> None:
    """P2: whoever was revoked in the ledger, or since, is not let in by the swap."""
    claims, session = a_claims(), a_session(origin="backfill")
    world.operator.backfill(session, claims)
    assert world.end(session.id).ids == (session.id,)
    standing = world.swap(claims)
    assert standing.known
    assert standing.digest is None
    assert standing.session is not None
    assert standing.session.revoked_at is not None


# ---- endings ----------------------------------------------------------------------------------


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


# ---- a subject --------------------------------------------------------------------------------


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


# ---- logins -----------------------------------------------------------------------------------


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


# ---- the memory store alone -------------------------------------------------------------------


def test_memory_stands_where_it_was_set() -> None:
    store = MemoryStore(lambda: NOW)
    rollout = Rollout(phase=Phase.SWAP, epoch=2, percent=10, since=NOW)
    store.set_rollout(rollout)
    assert drive(store.rollout()) == rollout


def test_memory_cuts_off_what_was_issued_within_the_second_of_the_cutoff() -> None:
    """Where iat has a fraction too; its clock and ours do not agree to the millisecond."""
    memory = MemoryStore()
    world = World(memory, InMemory(memory), drive)
    world.end_subject(before=NOW + timedelta(milliseconds=500))
    assert world.check(a_claims(effective_iat=NOW + timedelta(milliseconds=900))).bar == "cut_off"


def test_memory_ends_what_a_denied_key_and_a_cut_off_one_became() -> None:
    memory = MemoryStore()
    world = World(memory, InMemory(memory), drive)
    by_jti, by_family = world.swap(a_claims(jti="j")), world.swap(a_claims(family="f"))
    by_kid, other = world.swap(a_claims(kid="k9")), world.swap(a_claims())
    assert memory.deny_key("a1", jti="j").digests == (by_jti.digest,)
    assert memory.deny_key("a1", family="f").digests == (by_family.digest,)
    assert memory.cut_off("a1", kid="k9").digests == (by_kid.digest,)
    assert not world.is_over(other.digest)


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
