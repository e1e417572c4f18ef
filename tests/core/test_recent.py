"""The memory of recent verdicts: what it may answer, and what it must forget."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from hashlib import sha256

import pytest

from migrator.core import recent as recent_of
from migrator.core.claims import Claims
from migrator.core.recent import (
    ALL,
    ANY_LEGACY,
    LIFE_NS,
    SECOND_NS,
    SUSPECT_NS,
    About,
    Entry,
    Mark,
    Recent,
)
from migrator.core.usage import Tally
from migrator.core.verdicts import Admitted, Principal

AT = datetime(2026, 11, 23, tzinfo=UTC)
TOKEN, JWT = b"sess_token", b"a.jwt.sig"
DIGEST = sha256(TOKEN).digest()
SUBJECT: About = ("subject", "users", "ann")
ISSUERS, NOBODY = frozenset({"a1"}), frozenset[str]()
CLAIMS = Claims(
    issuer="a1", realm="users", subject="ann", fingerprint=bytes(32), exp=AT, keep_until=AT
)


@dataclass
class Ticks:
    now: int = 10**12

    def __call__(self) -> int:
        return self.now


@dataclass
class Memory:
    """A trusted memory, and hands to fill it with."""

    ticks: Ticks = field(default_factory=Ticks)
    room: int = 10

    def __post_init__(self) -> None:
        self.recent = Recent(self.room, self.ticks)
        self.recent.trusted_until = self.ticks.now + 10**15

    def session(self, mark: Mark | None = None, token: bytes = TOKEN) -> bool:
        digest = sha256(token).digest()
        return self.recent.fill(
            digest, self._entry(about=(digest, SUBJECT)), mark or self.recent.mark()
        )

    def legacy(self, mark: Mark | None = None, target: bytes | None = DIGEST) -> bool:
        mark = mark or self.recent.mark()
        entry = self._entry(about=(DIGEST, SUBJECT), claims=CLAIMS, target=target)
        entry.stamp = mark.stamp
        return self.recent.fill(sha256(JWT).digest(), entry, mark)

    def _entry(
        self,
        about: tuple[About, ...],
        claims: Claims | None = None,
        target: bytes | None = None,
    ) -> Entry:
        verdict = Admitted(Principal("ann", "users"))
        return Entry(
            verdict,
            until=self.ticks.now + LIFE_NS,
            tally=Tally(),
            about=about,
            claims=claims,
            target=target,
        )

    def used(self, since: int = 0) -> list[About]:
        """By digest, whose use is told."""
        return [entry.about[0] for entry in self.recent.used_since(since)]

    def knows(self, token: bytes = TOKEN) -> bool:
        return self.recent.peek(token, ISSUERS) is not None


@pytest.fixture
def memory() -> Memory:
    return Memory()


def test_a_remembered_session_is_answered(memory: Memory) -> None:
    assert not memory.knows()
    assert memory.session()
    assert memory.knows()


def test_nothing_is_answered_past_the_trust(memory: Memory) -> None:
    memory.session()
    memory.recent.trusted_until = memory.ticks.now
    assert not memory.knows()


def test_nothing_is_answered_past_its_minute(memory: Memory) -> None:
    memory.session()
    memory.ticks.now += LIFE_NS
    assert not memory.knows()


def test_an_eviction_forgets(memory: Memory) -> None:
    memory.session()
    memory.recent.evict(DIGEST)
    assert not memory.knows()


def test_an_eviction_by_subject_forgets_each_of_its_sessions(memory: Memory) -> None:
    memory.session(token=b"one")
    memory.session(token=b"two")
    memory.recent.evict(SUBJECT)
    assert not memory.knows(b"one")
    assert not memory.knows(b"two")


@pytest.mark.parametrize("about", [DIGEST, SUBJECT])
def test_a_fill_under_way_does_not_outrun_an_eviction(memory: Memory, about: About) -> None:
    """P2: the store was read before the revocation, and the fill comes after it."""
    mark = memory.recent.mark()
    memory.recent.evict(about)
    assert not memory.session(mark)
    assert not memory.knows()


def test_a_fill_under_way_does_not_outrun_a_clearing(memory: Memory) -> None:
    mark = memory.recent.mark()
    memory.recent.clear()
    assert not memory.session(mark)
    mark = memory.recent.mark()
    memory.recent.evict_all()
    assert not memory.session(mark)


def test_a_fill_begun_after_an_eviction_lands(memory: Memory) -> None:
    memory.recent.evict(DIGEST)
    assert memory.session()


def test_a_clearing_ends_the_trust(memory: Memory) -> None:
    memory.recent.clear()
    memory.session()
    assert not memory.knows()


def test_what_was_evicted_is_suspect_for_two_minutes(memory: Memory) -> None:
    memory.recent.evict(DIGEST)
    assert memory.recent.suspect(DIGEST, SUBJECT)
    memory.ticks.now += SUSPECT_NS - 1
    assert memory.recent.suspect(SUBJECT, DIGEST)
    memory.ticks.now += SECOND_NS
    assert not memory.recent.suspect(DIGEST)


def test_everything_is_suspect_once_all_was_evicted(memory: Memory) -> None:
    memory.recent.evict_all()
    assert memory.recent.suspect(b"anything")


def test_a_change_of_the_legacy_side_makes_every_legacy_entry_stale_and_no_session(
    memory: Memory,
) -> None:
    memory.session()
    memory.legacy()
    assert memory.knows(JWT)
    memory.recent.distrust_legacy()
    assert not memory.knows(JWT)
    assert memory.knows(TOKEN)


def test_a_verdict_judged_under_an_old_epoch_is_stale_when_it_lands(memory: Memory) -> None:
    memory.session()
    mark = memory.recent.mark()
    memory.recent.distrust_legacy()
    memory.legacy(mark)
    assert not memory.knows(JWT)


def test_a_legacy_entry_misses_once_its_session_is_forgotten(memory: Memory) -> None:
    memory.session()
    memory.legacy()
    memory.recent.evict(DIGEST)
    memory.legacy(target=DIGEST)
    assert not memory.knows(JWT)


def test_a_legacy_token_counts_only_in_its_issuers_place(memory: Memory) -> None:
    memory.session()
    memory.legacy()
    assert memory.recent.peek(JWT, NOBODY) is None
    assert memory.recent.peek(JWT, ISSUERS) is not None


def test_the_oldest_goes_when_there_is_no_room() -> None:
    memory = Memory(room=3)
    for n in range(5):
        memory.session(token=str(n).encode())
    assert len(memory.recent) == 3
    assert not memory.knows(b"0")
    assert memory.knows(b"4")


def test_use_is_told_once_even_of_what_is_forgotten(memory: Memory) -> None:
    memory.session()
    memory.knows()
    memory.recent.evict(DIGEST)
    assert [entry.used_at for entry in memory.recent.used_since(0)] == [memory.ticks.now]
    assert list(memory.recent.used_since(0)) == []


def test_the_session_a_legacy_token_points_at_was_not_itself_presented(memory: Memory) -> None:
    """Else it would count as adopted by a client that never saw its token."""
    mark = memory.recent.mark()
    entry = Entry(
        Admitted(Principal("ann", "users")),
        until=memory.ticks.now + LIFE_NS,
        tally=Tally(),
        about=(DIGEST,),
    )
    memory.recent.fill(DIGEST, entry, mark, used=False)
    for tick in (0, 1):  # a pulse that has not looked yet asks from 0 on
        assert list(memory.recent.used_since(tick)) == []


def test_listeners_are_told_of_every_eviction_after_it_holds(memory: Memory) -> None:
    told: list[tuple[About, bool]] = []
    memory.session()
    memory.recent.listen(lambda about: told.append((about, memory.knows())))
    memory.recent.distrust_legacy()
    memory.recent.evict(DIGEST)
    memory.session()
    memory.recent.evict(SUBJECT)
    memory.recent.evict_all()
    memory.recent.clear()
    assert told == [
        (ANY_LEGACY, True),
        (DIGEST, False),
        (SUBJECT, False),
        (ALL, False),
        (ALL, False),
    ]


def test_names_are_what_an_eviction_of_the_verdict_may_say(memory: Memory) -> None:
    assert memory.recent.names(TOKEN) is None
    memory.session()
    assert memory.recent.names(TOKEN) == (DIGEST, SUBJECT)
    memory.recent.evict(SUBJECT)
    assert memory.recent.names(TOKEN) is None


# ---- before it is trusted, when it is full, and after a fork -----------------------------------


def digests(*names: bytes) -> list[About]:
    return [sha256(name).digest() for name in names]


def test_nothing_is_believed_before_the_feed_was_read(memory: Memory) -> None:
    memory.recent = Recent(10, memory.ticks)
    assert memory.session()
    assert not memory.knows()
    assert not memory.recent.informed()


def test_the_use_of_what_was_replaced_pushed_out_or_cleared_is_told_once() -> None:
    memory = Memory(room=2)
    for name in (b"a", b"a"):
        memory.session(token=name)
    assert len(memory.recent) == 1
    assert memory.used() == digests(b"a", b"a")
    for name in (b"b", b"c"):
        memory.session(token=name)
    assert len(memory.recent) == 2
    assert memory.used() == digests(b"a", b"b", b"c")
    memory.recent.clear()
    assert memory.used() == digests(b"b", b"c")
    assert memory.used() == []


def test_what_is_replaced_makes_its_own_room() -> None:
    memory = Memory(room=2)
    for name in (b"a", b"b", b"b"):
        memory.session(token=name)
    assert memory.knows(b"a")


def test_use_before_the_tick_is_not_told(memory: Memory) -> None:
    memory.session(token=b"a")
    memory.ticks.now += 1
    memory.session(token=b"b")
    assert memory.used(memory.ticks.now) == digests(b"b")


def test_the_use_of_no_more_than_there_is_room_for_is_kept() -> None:
    memory = Memory(room=1)
    for name in (b"a", b"b", b"c", b"d"):
        memory.session(token=name)
    assert memory.used() == digests(b"a", b"d")  # one that is gone, and the one that is here


def test_p2_a_fill_under_way_does_not_outrun_the_second_of_two_evictions(memory: Memory) -> None:
    memory.recent.evict(("subject", "users", "bob"))
    mark = memory.recent.mark()
    memory.recent.evict(SUBJECT)
    assert not memory.session(mark)


def test_p2_a_fill_under_way_does_not_outrun_a_clearing_after_evictions(memory: Memory) -> None:
    for name in ("ann", "bob", "eve"):
        memory.recent.evict(("subject", "users", name))
    mark = memory.recent.mark()
    memory.recent.clear()
    assert not memory.session(mark)
    assert memory.session()


def test_more_evictions_than_can_be_named_make_everything_suspect(
    monkeypatch: pytest.MonkeyPatch, memory: Memory
) -> None:
    monkeypatch.setattr(recent_of, "MOST_EVICTED", 2)
    for name in (b"a", b"b"):
        memory.recent.evict(name)
    assert not memory.recent.suspect(b"z")
    memory.recent.evict(b"c")
    assert memory.recent.suspect(b"z")
    memory.ticks.now += SUSPECT_NS
    assert not memory.recent.suspect(b"z")


def test_what_was_evicted_long_ago_is_let_go_one_by_one(memory: Memory) -> None:
    for name in (b"a", b"b"):
        memory.recent.evict(name)
        memory.ticks.now += SECOND_NS
    memory.ticks.now += SUSPECT_NS - 2 * SECOND_NS
    memory.recent.evict(b"c")
    assert [*memory.recent._evicted] == [b"b", b"c"]


def test_a_child_begins_anew_and_remembers(memory: Memory) -> None:
    memory.session()
    memory.recent.after_fork()
    assert len(memory.recent) == 0
    assert memory.recent.trusted_until == 0
    assert memory.session()
    assert not memory.knows()
    memory.recent.trusted_until = memory.ticks.now + 1
    assert memory.knows()
