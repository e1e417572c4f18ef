"""A fleet in one process: real gates, pulses and sessions, each node with a memory of its own.

Nothing is imitated but the rhythm: a `Heart` beats the pulses instead of their own threads, with a
lag for each and none for who is frozen. Crowds send requests to random nodes and hold every answer
to an oracle: what the phase table says of an epoch that the node acted under meanwhile, never one
before the epoch that was said to be in effect when the request began.
"""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from migrator import wiring
from migrator.core.app import Sessions
from migrator.core.errors import Refused as RefusedError
from migrator.core.gate import Gate
from migrator.core.phases import RULES, Phase, Rollout, bucket_of
from migrator.core.presented import Credential, Presented
from migrator.core.recent import SECOND_NS
from migrator.core.verdicts import Admitted, Reason, Refused
from migrator.settings import Settings
from tests.rig import sign, sign_refresh

ISSUER = frozenset({"a1"})
REALM = "users"
# A revocation binds on other nodes within a second (design section 8), here with room for a
# machine that does other things too.
REVOKED_WITHIN_S = 1.5


class SimNode:
    """A process of the fleet, as far as it matters: one house of `wiring`."""

    def __init__(self, settings: Settings, name: str) -> None:
        self.house = wiring._House(settings)
        assert self.house.pulse is not None
        self.pulse = self.house.pulse
        self.pulse.id = self.house.node.id = name
        self.house.node.wake = lambda: None
        self.gate = self.house.flow(Gate, blocks=True, resolve=None)
        self.sessions = self.house.flow(Sessions, blocks=True, resolve=None)
        self.lag_s = 0.0
        self.frozen = False
        self.next_at = 0.0
        self.pulse.beat()

    @property
    def name(self) -> str:
        return self.pulse.id

    @property
    def acts(self) -> Rollout:
        """What it acts under."""
        found = self.house.node.rollout
        assert found is not None
        return found

    def go_deaf(self) -> None:
        """As if the time of its lease had gone by."""
        node = self.house.node
        assert node.heard_until is not None
        node.heard_until -= 10 * SECOND_NS
        node.recent.trusted_until = node.recent.informed_until = 0

    def close(self) -> None:
        self.pulse._feed.close()
        self.house.stop()


class Heart:
    """Beats every node that is not frozen, each in its own time."""

    def __init__(self, nodes: list[SimNode]) -> None:
        self.nodes = nodes
        self._over = threading.Event()
        self._at_work = threading.Lock()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self._over.wait(0.01):
            for node in list(self.nodes):
                now = time.monotonic()
                if node.frozen or now < node.next_at:
                    continue
                with self._at_work:
                    if not node.frozen:
                        node.pulse.beat()
                node.next_at = now + 0.2 + node.lag_s

    def freeze(self, node: SimNode) -> None:
        with self._at_work:
            node.frozen = True

    def stop(self) -> None:
        self._over.set()
        self._thread.join()


@dataclass
class Person:
    """A client that does what clients do: present what it has, adopt, log in when refused."""

    subject: str
    client: str
    adopts: bool
    straggles: bool
    credential: str
    refresh: str
    is_session: bool = False

    @property
    def bucket(self) -> int:
        return bucket_of(self.subject, REALM)


@dataclass
class World:
    """What is true: every epoch there was, which is in effect, what was revoked when."""

    rollouts: dict[int, Rollout] = field(default_factory=dict)
    floor: int = 1
    revoked: dict[str, float] = field(default_factory=dict)
    wrong: list[str] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)

    def between(self, first: int, last: int) -> list[Rollout]:
        return [self.rollouts[epoch] for epoch in range(first, last + 1) if epoch in self.rollouts]


class Crowd:
    """Sends requests until told to stop, and says what was wrong with an answer."""

    def __init__(
        self, world: World, nodes: list[SimNode], people: list[Person], *, seed: int
    ) -> None:
        self.world = world
        self.nodes = nodes
        self.people = people
        self._random = random.Random(seed)
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._over.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._over.is_set():
            try:
                self._one()
            except Exception as error:  # noqa: BLE001 - the test shows it
                self.world.wrong.append(f"{type(error).__name__}: {error}")
                return

    def _one(self) -> None:
        person, node = self._random.choice(self.people), self._random.choice(self.nodes)
        what = self._random.choices(
            (self._show, self._refreshes, self._logs_in, self._forges, self._logs_out),
            (80, 6, 6, 4, 4),
        )[0]
        if person.straggles and what != self._forges:
            what = self._show
        what(person, node)
        self.world.counts["requests"] += 1
        self._over.wait(0.002)

    # What a request is held to.

    def _legal(self, node: SimNode, began: tuple[int, int], what: str) -> list[Rollout]:
        """The rollouts an answer may be judged by; that there is one is a claim of its own."""
        floor, first = began
        last = node.acts.epoch
        if last < floor:
            self._wrong(f"{what}: {node.name} acted under {last}, in effect was {floor}")
        return self.world.between(max(first, min(floor, last)), last)

    def _began(self, node: SimNode) -> tuple[int, int]:
        return self.world.floor, node.acts.epoch

    def _wrong(self, text: str) -> None:
        self.world.wrong.append(text)

    # What people do.

    def _show(self, person: Person, node: SimNode) -> None:
        began, token = self._began(node), person.credential
        asked_at = time.monotonic()
        header = Credential(token.encode(), "header", ISSUER)
        presented = Presented(header=header, user_agent=person.client)
        outcome = node.gate.peek(presented) or node.gate.admit(presented)
        verdict = outcome.verdict
        if token in self.world.revoked:
            late = asked_at - self.world.revoked[token] > REVOKED_WITHIN_S
            if isinstance(verdict, Admitted) and late:
                self._wrong(f"revoked and admitted by {node.name}: {person.subject}")
            return
        if person.is_session:
            self.world.counts["session"] += 1
            if not isinstance(verdict, Admitted):
                self._wrong(f"a living session got {verdict} from {node.name}")
            return
        self.world.counts["legacy"] += 1
        legal = self._legal(node, began, "a JWT")
        retired = verdict == Refused(Reason.LEGACY_RETIRED)
        if not isinstance(verdict, Admitted) and not retired:
            self._wrong(f"a good JWT got {verdict} from {node.name}")
            return
        readings = {self._rule(each, person) for each in legal}
        if retired and "verify_then_refuse" not in readings:
            self._wrong(f"wrongly refused by {node.name} at {node.acts.phase}: {readings}")
        if not retired and readings == {"verify_then_refuse"}:
            self._wrong(f"wrongly admitted by {node.name} at {node.acts.phase}: {began}")
        if retired:
            self.world.counts["refused"] += 1
            if not person.straggles:
                self._logs_in(person, node)
        elif isinstance(verdict, Admitted) and verdict.hand_out is not None:
            if not any(self._swaps(each, person) for each in legal):
                self._wrong(f"a session was handed out by {node.name} at {node.acts.phase}")
            self.world.counts["handed out"] += 1
            if person.adopts:
                person.credential, person.is_session = verdict.hand_out.decode(), True

    def _rule(self, stands: Rollout, person: Person) -> str:
        return RULES[self._phase(stands, person)].legacy

    def _phase(self, stands: Rollout, person: Person) -> Phase:
        return stands.phase_for(issuer="a1", client=person.client, bucket=person.bucket)

    def _swaps(self, stands: Rollout, person: Person) -> bool:
        return stands.includes(RULES[self._phase(stands, person)].swap, person.bucket)

    def _issues_session(self, stands: Rollout, person: Person, issuer: str | None) -> bool:
        phase = stands.phase_for(issuer=issuer, client=person.client, bucket=person.bucket)
        return stands.includes(RULES[phase].issue, person.bucket)

    def _jwt(self, person: Person) -> str:
        return access(person.subject)

    def _takes(self, person: Person, kind: str, token: object) -> None:
        assert isinstance(token, str)
        person.credential, person.is_session = token, kind == "session"
        self.world.counts[f"issued {kind}"] += 1

    def _logs_in(self, person: Person, node: SimNode) -> None:
        began = self._began(node)
        issued = node.sessions.login(
            person.subject, client=person.client, legacy=lambda: self._jwt(person)
        )
        legal = self._legal(node, began, "a login")
        if (issued.kind == "session") not in {
            self._issues_session(each, person, None) for each in legal
        }:
            self._wrong(f"{node.name} issued a {issued.kind} token at {node.acts.phase}")
        person.refresh = sign_refresh(person.subject)  # what the old one became may be ended
        self._takes(person, issued.kind, issued.token)

    def _refreshes(self, person: Person, node: SimNode) -> None:
        if person.is_session or person.credential in self.world.revoked:
            return
        began = self._began(node)
        try:
            issued = node.sessions.exchange(person.refresh, legacy=lambda: self._jwt(person))
        except RefusedError as refused:
            legal = self._legal(node, began, "a refresh")
            known = {self._rule(each, person) for each in legal}
            if refused.reason is not Reason.LEGACY_RETIRED or "verify_then_refuse" not in known:
                self._wrong(f"a refresh was refused by {node.name}: {refused.reason} {known}")
            return
        legal = self._legal(node, began, "a refresh")
        if (issued.kind == "session") not in {
            self._issues_session(each, person, "a1") for each in legal
        }:
            self._wrong(f"{node.name} refreshed to a {issued.kind} token")
        self._takes(person, issued.kind, issued.token)

    def _forges(self, person: Person, node: SimNode) -> None:
        forged = sign(
            person.subject,
            claims={"token_type": "access"},
            secret="another secret that is long enough to sign with",
        )
        header = Credential(forged.encode(), "header", ISSUER)
        verdict = node.gate.admit(Presented(header=header)).verdict
        if isinstance(verdict, Admitted):
            self._wrong(f"a forged JWT was admitted by {node.name}")
        self.world.counts["forged"] += 1

    def _logs_out(self, person: Person, node: SimNode) -> None:
        """Ends what it has, goes on presenting it for a while, then logs in again."""
        token = person.credential
        if person.is_session and token not in self.world.revoked:
            assert node.sessions.end(token) >= 1
            self.world.revoked[token] = time.monotonic()
            self.world.counts["ended"] += 1
        elif token in self.world.revoked:
            self._logs_in(person, node)


def access(subject: str) -> str:
    """A JWT as the old app issues it, good for a while."""
    return sign(subject, claims={"token_type": "access"})


def people(count: int) -> list[Person]:
    """One in four never adopts, one in six never does anything but show its first JWT."""
    return [
        Person(
            subject=f"user-{number}",
            client="bot" if number % 4 == 3 else f"ios/7.{number % 3}",
            adopts=number % 4 != 0 and number % 6 != 1,
            straggles=number % 6 == 1,
            credential=access(f"user-{number}"),
            refresh=sign_refresh(f"user-{number}"),
        )
        for number in range(count)
    ]


@contextmanager
def fleet(settings: list[Settings]) -> Iterator[tuple[list[SimNode], Heart]]:
    """Nodes that beat."""
    nodes = [SimNode(each, f"n{number:02}") for number, each in enumerate(settings, 1)]
    heart = Heart(nodes)
    try:
        yield nodes, heart
    finally:
        heart.stop()
        for node in nodes:
            node.close()
