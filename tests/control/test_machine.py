"""The state machine under attack: a fleet that lags, operators that race, moves in any order.

The first half drives the tables and decisions alone, against nodes that learn late, fall silent,
come back and restart. What "safe side by side" means is a predicate over the phase table (`safe`),
held for every pair of living nodes after every step. The second half says some of it again by the
command line, on a real Postgres.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import product
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import Phase as Stage
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from migrator.control import flip, gates, rollout
from migrator.control.evidence import Evidence
from migrator.control.gates import fleet as fleet_gates
from migrator.control.nodes import Fleet, Node
from migrator.control.rollout import Segment, Target
from migrator.core.errors import Exit, Stopped
from migrator.core.phases import ORDER, RULES, Phase, Rollout, back_of
from tests.cli.deployment import Deployment
from tests.conftest import DatabaseServer

AT = datetime(2026, 11, 23, tzinfo=UTC)
LEASE = timedelta(seconds=10)
NODES = ("n1", "n2", "n3", "n4")
ISSUERS = ("a1", "a2")
CLIENTS = (None, "ios/7.2", "ios/7.1", "bot")
# One on either side of each size a cohort takes here.
BUCKETS = (0, 9, 10, 29, 30, 59, 60, 99)
SIZES = (0, 10, 30, 60, 100)


@dataclass(frozen=True)
class Who:
    """A credential, as far as the one row looks at it."""

    issuer: str
    client: str | None
    bucket: int


EVERYBODY = tuple(Who(*each) for each in product(ISSUERS, CLIENTS, BUCKETS))


def rule_for(stands: Rollout, who: Who, *, by_issuer: bool = True) -> Phase:
    issuer = who.issuer if by_issuer else None
    return stands.phase_for(issuer=issuer, client=who.client, bucket=who.bucket)


def issues_legacy(stands: Rollout, who: Who) -> bool:
    """Whether a node of this rollout answers a login or a refresh with a legacy token."""
    at_login = RULES[rule_for(stands, who, by_issuer=False)]
    at_refresh = RULES[rule_for(stands, who)]
    refreshes = at_refresh.legacy not in {"verify_then_refuse", "unread"}
    return not stands.includes(at_login.issue, who.bucket) or (
        refreshes and not stands.includes(at_refresh.issue, who.bucket)
    )


def hands_out(stands: Rollout, who: Who) -> bool:
    """Whether a node of this rollout hands out a session, by login, refresh or swap."""
    rule = RULES[rule_for(stands, who)]
    return any(stands.includes(share, who.bucket) for share in (rule.issue, rule.swap))


def accepts_legacy(stands: Rollout, who: Who) -> bool:
    return RULES[rule_for(stands, who)].legacy in {"shadow", "verify"}


def safe(one: Rollout, other: Rollout) -> bool:
    """Whether nodes of these two may serve the same clients: neither refuses what the other gives.

    Sessions need no clause: there is no phase that refuses one (the table has no such column).
    """
    return not any(
        issues_legacy(giving, who) and not accepts_legacy(taking, who)
        for giving, taking in ((one, other), (other, one))
        for who in EVERYBODY
    )


# ---- the model ---------------------------------------------------------------------------------


@dataclass
class Process:
    """A process running the shim: what it acts under, and when it was last heard."""

    acts: Rollout
    lease_until: datetime
    seen_at: datetime
    cut_off: bool = False

    def record(self, name: str) -> Node:
        return Node(
            id=name,
            build=None,
            host=None,
            pid=None,
            epoch=self.acts.epoch,
            acked_at=self.seen_at,
            lease_until=self.lease_until,
            seen_at=self.seen_at,
            started_at=AT,
            sees_tables=True,
            has_keys=True,
            key_ids=("k1",),
            clock_skew_ms=0,
            last_jwt_issued_at=None,
            issued_horizon=None,
        )


Decide = Callable[[Rollout], Target | None]
segments = st.one_of(
    st.builds(Segment, by=st.just("issuer"), value=st.sampled_from(ISSUERS)),
    st.builds(Segment, by=st.just("client"), value=st.sampled_from(("ios", "ios/7.2", "bot"))),
    st.builds(Segment, by=st.just("cohort"), value=st.sampled_from(("10", "30", "60"))),
)
moves: st.SearchStrategy[Decide] = st.one_of(
    st.builds(lambda percent: partial(rollout.swap, percent=percent), st.sampled_from(SIZES)),
    st.just(rollout.drain),
    st.builds(
        lambda leaving: partial(rollout.cut_over, leaving=leaving),
        st.lists(segments, max_size=2),
    ),
    st.builds(
        lambda named: partial(rollout.cut_over_segments, segments=named),
        st.lists(segments, min_size=1, max_size=2),
    ),
    st.just(rollout.back),
    st.just(rollout.retire),
)


class Machine(RuleBasedStateMachine):
    """One rollout row, its journal, a fleet, and operators who may have looked a while ago."""

    # A rollback is never gated, so an operator in haste may go back twice before the first is in
    # effect. `patient` ones wait; for the others `safe` is not promised, and what is, is below.
    patient = True

    def __init__(self) -> None:
        super().__init__()
        self.now = AT
        self.row = Rollout(phase=Phase.OBSERVE, epoch=1, percent=0, since=AT)
        self.journal: list[tuple[Rollout, Rollout]] = []
        self.views = [self.row]
        self.processes: dict[str, Process] = {}
        self.tables_taken_at: int | None = None
        self.ever_in_effect = self.row

    @initialize(steps=st.integers(0, 5))
    def start(self, steps: int) -> None:
        for name in NODES:
            self.join(name)
        for _ in range(steps):
            self.goes_on()

    # The fleet.

    def join(self, name: str) -> None:
        self.processes[name] = Process(self.row, self.now + LEASE, self.now)

    @rule(name=st.sampled_from(NODES))
    def beats(self, name: str) -> None:
        found = self.processes[name]
        if not found.cut_off:
            self.join(name)

    @rule()
    def all_beat(self) -> None:
        for name in NODES:
            self.beats(name)

    @rule(name=st.sampled_from(NODES))
    def is_cut_off(self, name: str) -> None:
        self.processes[name].cut_off = True

    @rule(name=st.sampled_from(NODES))
    def is_back(self, name: str) -> None:
        self.processes[name].cut_off = False

    @rule(name=st.sampled_from(NODES))
    def restarts(self, name: str) -> None:
        """What it remembered is gone; it reads the row before it serves."""
        self.join(name)

    @rule(seconds=st.sampled_from((1, 4, 11)))
    def time_passes(self, seconds: int) -> None:
        """Nodes that are not cut off beat in the meantime, under what they know by then."""
        self.now += timedelta(seconds=seconds)
        for found in self.processes.values():
            if not found.cut_off and seconds >= LEASE.total_seconds():
                found.acts, found.seen_at = self.row, self.now
                found.lease_until = self.now + LEASE

    def fleet(self) -> Fleet:
        return Fleet(
            nodes=tuple(each.record(name) for name, each in self.processes.items()),
            epoch=self.row.epoch,
            now=self.now,
            expected=len(NODES),
        )

    def living(self) -> list[Process]:
        return [each for each in self.processes.values() if each.lease_until > self.now]

    def in_effect(self) -> bool:
        return all(each.acts.epoch == self.row.epoch for each in self.living())

    # Operators.

    def gates(self, target: Target, stands: Rollout) -> Exit:
        """The gates that hold a fleet together, as `control.gates` has them for that phase."""
        facts = cast(
            "Evidence",
            SimpleNamespace(fleet=self.fleet(), rollout=self.row, now=self.now),
        )
        cuts = target.phase is Phase.CUTOVER or target.phase is stands.phase is Phase.DRAIN
        entering = Phase.CUTOVER if cuts else target.phase
        judges = [
            judge
            for judge in gates.SETS[entering]
            if judge.__name__ in {"nodes_acked", "swap_complete", "no_exceptions"}
        ]
        assert "nodes_acked" in {judge.__name__ for judge in judges}
        return gates.exit_of(gate for judge in judges if (gate := judge(facts)) is not None)

    @rule()
    def an_operator_looks(self) -> None:
        self.views = [*self.views[-3:], self.row]

    @rule(decide=moves, ago=st.integers(0, 3))
    def an_operator_moves(self, decide: Decide, ago: int) -> None:
        """Decided by what stood when they looked; committed if that still stands."""
        self.move(decide, self.views[-1 - min(ago, len(self.views) - 1)])

    @rule(decide=moves)
    def an_operator_who_just_looked_moves(self, decide: Decide) -> None:
        self.move(decide, self.row)

    @rule(named=st.lists(segments, min_size=1, max_size=2))
    def a_segment_is_cut_over(self, named: list[Segment]) -> None:
        self.move(partial(rollout.cut_over_segments, segments=named), self.row)

    @rule()
    def an_operator_goes_back(self) -> None:
        if self.patient:
            self.all_come_along()
        self.move(rollout.back, self.row)

    def all_come_along(self) -> None:
        for each in self.processes.values():
            each.cut_off = False
        self.all_beat()

    @rule(decide=moves)
    def two_operators_send_the_same(self, decide: Decide) -> None:
        seen, before = self.row, len(self.journal)
        self.move(decide, seen)
        self.move(decide, seen)
        assert len(self.journal) <= before + 1

    @precondition(lambda self: self.row.phase not in {Phase.CUTOVER, Phase.RETIRED})
    @rule(steps=st.integers(1, 3))
    def goes_on_as_far_as_cutover(self, steps: int) -> None:
        for _ in range(steps):
            if self.row.phase is not Phase.CUTOVER:
                self.goes_on()

    @precondition(lambda self: self.row.phase is not Phase.RETIRED)
    @rule()
    def goes_on(self) -> None:
        """The next move forward, once all have come along: what a rollout mostly does."""
        self.all_come_along()
        forward: dict[Phase, Decide] = {
            Phase.OBSERVE: partial(rollout.swap, percent=10),
            Phase.SWAP: rollout.drain
            if self.row.percent == 100
            else partial(rollout.swap, percent=100),
            Phase.DRAIN: rollout.cut_over,
            Phase.CUTOVER: rollout.cut_over if self.row.exceptions else rollout.retire,
        }
        before = self.row
        self.move(forward[before.phase], before)
        assert self.row.epoch == before.epoch + 1

    def move(self, decide: Decide, view: Rollout) -> None:
        before, code = self.row, None
        try:
            target = decide(view)
        except Stopped as stopped:
            code = stopped.exit_code
            target = None
        if code is not None:
            assert code in {Exit.GATE_FAILED, Exit.IRREVERSIBLE}
            assert (code is Exit.IRREVERSIBLE) == (view.phase is Phase.RETIRED)
        if target is None:
            return
        if target.gated and self.gates(target, view) is not Exit.DONE:
            return
        if self.patient and not target.gated and not self.in_effect():
            return
        if view.epoch != self.row.epoch:  # the compare of compare-and-set
            return
        assert self.in_effect() or not target.gated, "only in effect satisfies a gate"
        self.row = replace(target.of(view), since=self.now)
        self.journal.append((before, self.row))
        if self.row.phase is Phase.RETIRED:
            self.tables_taken_at = self.row.epoch

    # What always holds.

    @invariant()
    def each_move_is_one_epoch_and_one_line(self) -> None:
        assert self.row.epoch == 1 + len(self.journal)
        for before, after in self.journal[-1:]:
            assert after.epoch == before.epoch + 1
            apart = abs(ORDER.index(after.phase) - ORDER.index(before.phase))
            assert apart <= 1

    @invariant()
    def the_percent_grows_until_it_is_back_in_observe(self) -> None:
        for before, after in self.journal[-1:]:
            assert after.percent >= before.percent or after.phase is Phase.OBSERVE
        assert self.row.phase is not Phase.OBSERVE or self.row.percent == 0

    @invariant()
    def there_is_a_way_back_from_everywhere_but_the_ends(self) -> None:
        if self.row.phase in {Phase.OBSERVE, Phase.RETIRED}:
            with pytest.raises(Stopped):
                rollout.back(self.row)
            return
        target = rollout.back(self.row)
        assert not target.gated
        assert target.phase is back_of(self.row.phase)

    @invariant()
    def from_everywhere_but_retired_rollbacks_alone_lead_to_observe(self) -> None:
        stands, steps = self.row, 0
        if stands.phase is Phase.RETIRED:
            return
        while stands.phase is not Phase.OBSERVE:
            stands, steps = rollout.back(stands).of(stands), steps + 1
        assert steps <= 3
        assert not stands.exceptions

    @invariant()
    def nothing_is_destroyed_but_by_retire_after_its_commit(self) -> None:
        assert (self.tables_taken_at is not None) == (self.row.phase is Phase.RETIRED)

    @invariant()
    def exceptions_stand_beside_drain_and_cutover_alone(self) -> None:
        other = {Phase.DRAIN: Phase.CUTOVER, Phase.CUTOVER: Phase.DRAIN}.get(self.row.phase)
        assert {one.phase for one in self.row.exceptions} <= {other}

    @invariant()
    def living_nodes_are_safe_side_by_side(self) -> None:
        if not self.patient:
            return
        acted = {each.acts.epoch: each.acts for each in self.living()}
        for one, other in product(acted.values(), repeat=2):
            assert safe(one, other), (one, other)
        assert len(acted) <= 2

    @invariant()
    def a_session_is_handed_out_only_where_everybody_admits_one(self) -> None:
        """Accept before emit: a node that lives has the tables of `observe` or later."""
        assert all(each.acts.phase in RULES for each in self.living())

    @invariant()
    def where_the_fleet_has_not_come_along_no_gate_says_so(self) -> None:
        facts = cast("Evidence", SimpleNamespace(fleet=self.fleet()))
        says = fleet_gates.nodes_acked(facts).result
        assert (says == "pass") == (self.in_effect() and len(self.living()) == len(NODES))


class Hasty(Machine):
    """Operators who go back again before the first way back was in effect."""

    patient = False

    @invariant()
    def only_a_way_back_leaves_nodes_far_apart_and_only_jwts_are_hurt(self) -> None:
        acted = {each.acts.epoch: each.acts for each in self.living()}
        for one, other in product(acted.values(), repeat=2):
            if safe(one, other):
                continue
            # Both are there because of rollbacks alone: nothing forward starts from a fleet that
            # is not of one mind.
            early, late = sorted((one, other), key=lambda each: each.epoch)
            between = self.journal[early.epoch - 1 : late.epoch - 1]
            assert all(ORDER.index(b.phase) < ORDER.index(a.phase) for a, b in between)
            assert len(between) >= 2


TestMachine = Machine.TestCase
TestMachine.settings = settings(max_examples=100, stateful_step_count=40, deadline=None)
TestHasty = Hasty.TestCase
TestHasty.settings = settings(max_examples=40, stateful_step_count=40, deadline=None)


@pytest.mark.full
class TestMachineAtLength(Machine.TestCase):  # type: ignore[valid-type, misc] # made at runtime
    settings = settings(max_examples=3000, stateful_step_count=80, deadline=None)


# ---- the same, by the command line -------------------------------------------------------------


@dataclass(frozen=True)
class Typed:
    """A command, and what `control.rollout` makes of it."""

    args: tuple[str, ...]
    decide: Decide


def _typed() -> dict[str, Typed]:
    found = {
        f"swap {percent}": Typed(
            ("advance", "swap", "--percent", str(percent)), partial(rollout.swap, percent=percent)
        )
        for percent in (0, 50, 100)
    }
    found |= {
        "drain": Typed(("advance", "drain"), rollout.drain),
        "cutover": Typed(("cutover", "--all"), rollout.cut_over),
        "rollback": Typed(("rollback",), rollout.back),
        "retire": Typed(("retire",), rollout.retire),
    }
    for segment in (Segment(by="client", value="ios"), Segment(by="cohort", value="30")):
        found[f"only {segment}"] = Typed(
            ("cutover", "--segment", str(segment), "--unseen"),
            partial(rollout.cut_over_segments, segments=[segment]),
        )
        found[f"all but {segment}"] = Typed(
            ("cutover", "--all", "--except", str(segment), "--unseen"),
            partial(rollout.cut_over, leaving=[segment]),
        )
    return found


TYPED = _typed()
FORWARD = ("swap 50", "swap 100", "drain", "cutover", "retire")
# Somewhere on the way, then anything: most sequences of anything never leave `swap`.
scripts = st.builds(
    lambda steps, anything: [*FORWARD[:steps], *anything],
    st.integers(0, 4),
    st.lists(st.sampled_from(sorted(TYPED)), min_size=1, max_size=5),
)

_AN_HOUR_PASSES = """
UPDATE migrator.rollout SET since = since - interval '1 hour',
  drain_since = drain_since - interval '1 hour';
UPDATE migrator.rollout_log SET at = at - interval '1 hour', detail = CASE
  WHEN detail ? 'in_effect_at' THEN detail || jsonb_build_object('in_effect_at',
    (detail ->> 'in_effect_at')::timestamptz - interval '1 hour') ELSE detail END;
UPDATE migrator.nodes SET acked_at = acked_at - interval '1 hour'
"""


class Typist:
    """Types commands at a real database, and holds each to what the decisions alone say."""

    def __init__(self, place: Deployment) -> None:
        self.place = place
        self.epochs_moved = 0

    def stands(self) -> Rollout:
        """The row, but for the announcement: whoever looks brings that into step."""
        return replace(flip.read(self.place.settings)[0], sunset_at=None)

    def type(self, name: str) -> None:
        typed, before = TYPED[name], self.stands()
        self.place.execute(_AN_HOUR_PASSES)
        self.place.beat("n1", "n2")
        before = self.stands()
        rows = self.rows()
        confirm = () if name == "rollback" else ("--confirm", "staging")
        wanted, code = self._wanted(typed.decide, before)
        there = self.place.value("SELECT to_regclass('migrator.legacy_tokens') IS NOT NULL")
        found = self.place.json(*typed.args, *confirm, "--wait", "0", code=code)
        after = self.stands()
        if wanted is None:
            # Said again, `retire` takes away the tables that it had not waited for.
            assert found["changed"] is (code == 0 and name == "retire" and there)
            assert (after, self.rows()) == (before, rows), f"{name} changed something"
            return
        assert found["changed"] is True
        assert found["epoch"] == after.epoch == before.epoch + 1
        assert (after.phase, after.percent, after.exceptions) == (
            wanted.phase,
            wanted.percent,
            wanted.exceptions,
        )
        journal, fed = self.rows()
        assert journal[:-1] == rows[0]
        assert journal[-1][1:] == (before.phase, after.phase, after.epoch)
        assert fed[:-1] == rows[1]
        assert fed[-1] == f"epoch:{after.epoch}"

    def _wanted(self, decide: Decide, before: Rollout) -> tuple[Target | None, int]:
        try:
            target = decide(before)
        except Stopped as stopped:
            return None, int(stopped.exit_code)
        incomplete = target is not None and target.phase is Phase.DRAIN and before.percent < 100
        spared = target is not None and target.phase is Phase.RETIRED and before.exceptions
        if target is not None and target.gated and (incomplete or spared):
            return None, int(Exit.GATE_FAILED)
        return target, 0

    def rows(self) -> tuple[list[tuple[object, ...]], list[str]]:
        """Moves in the journal, and epochs in the feed."""
        moved = self.place.execute(
            "SELECT id, from_phase, to_phase, epoch FROM migrator.rollout_log"
            " WHERE command <> 'in effect' ORDER BY id"
        )
        fed = self.place.execute(
            "SELECT key FROM migrator.feed WHERE key LIKE 'epoch:%' ORDER BY id"
        )
        return moved, [key for (key,) in fed]

    def all_the_way_back(self) -> None:
        while (stands := self.stands()).phase not in {Phase.OBSERVE, Phase.RETIRED}:
            self.type("rollback")
            assert self.stands().phase is back_of(stands.phase)


def _scripted(names: list[str], server: DatabaseServer, template: str, directory: Path) -> None:
    database = "scripted_moves"
    try:
        typist = Typist(Deployment(server.create_database(database, template), directory))
        for name in names:
            typist.type(name)
            again = TYPED[name].decide
            if name != "rollback" and typist._wanted(again, typist.stands()) == (None, 0):
                typist.type(name)  # sent twice: the second changes nothing
        typist.all_the_way_back()
    finally:
        server.drop_database(database)


_FIXTURES_STAY = (HealthCheck.function_scoped_fixture, HealthCheck.too_slow)
# A failing script is short already, and each try costs seconds: none is made shorter.
_STAGES = (Stage.explicit, Stage.reuse, Stage.generate)


@given(names=scripts)
@settings(max_examples=6, deadline=None, phases=_STAGES, suppress_health_check=_FIXTURES_STAY)
def test_p9_commands_in_any_order_do_what_the_decisions_say_and_nothing_else(
    names: list[str], postgres: DatabaseServer, migrated_template: str, tmp_path: Path
) -> None:
    _scripted(names, postgres, migrated_template, tmp_path)


@pytest.mark.full
@given(names=scripts)
@settings(max_examples=200, deadline=None, phases=_STAGES, suppress_health_check=_FIXTURES_STAY)
def test_p9_commands_in_any_order_at_length(
    names: list[str], postgres: DatabaseServer, migrated_template: str, tmp_path: Path
) -> None:
    _scripted(names, postgres, migrated_template, tmp_path)
