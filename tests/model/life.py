"""A state machine of whatever an app, its users and its operator do, played on house and model.

Whatever is presented must be answered by the house as the model says: on the node that acted at
once, on the other after one poll of its feed, or once what it remembers is no longer trusted.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar

from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)

from migrator.core.phases import bucket_of
from tests.model.house import Answer, House, mirrored
from tests.model.model import ORDER, Jwt, Model, Said, Session

# One on either side of every size a cohort takes here.
SUBJECTS = {"in": "ann", "out": "bob"}
PERCENTS = (0, 50, 100)
MOST = 7  # credentials of a kind: a few that live through much say more than many
SPELLINGS = (b"=", b"==", b"%3D")
SIGNERS = {("ES256", "k1"), ("ES256", "k2"), ("HS256", "h1")}

picks = st.integers(0, 59)
nodes = st.integers(0, 1)
SIGNED = st.tuples(
    st.sampled_from(sorted(SUBJECTS)),
    st.sampled_from(sorted(SIGNERS)),
    st.sampled_from([None, "f1", "f1"]),
    st.sampled_from([900, 1500, 4500, 9300]),
    st.sampled_from([False, False, True]),
)


@dataclass
class View:
    """What a node knows, as far as the model has to: where it stands, and since when."""

    phase: str = "observe"
    percent: int = 0
    polled_at: int = 0
    behind: bool = False  # something was ended elsewhere since, and it trusts its memory
    deaf: bool = False  # its feed is lost
    used: set[Session] = field(default_factory=set)
    queried: set[Jwt] = field(default_factory=set)


class Life(RuleBasedStateMachine):
    """What may happen, in any order."""

    house: ClassVar[House]
    counts: ClassVar[dict[str, int]]

    def __init__(self) -> None:
        super().__init__()
        self.house.begin()
        self.model = Model({one: bucket_of(one, "users") for one in SUBJECTS.values()})
        self.views = [View(), View()]
        self.jwts: list[tuple[Jwt, bytes]] = []
        self.tokens: list[tuple[Session, bytes]] = []
        self.watched = False
        self.counts["lives"] += 1

    def teardown(self) -> None:
        try:
            for number in range(2):
                self.poll(number)
                self.show_everything(number)
        finally:
            self.house.end()

    # ---- what is compared ----------------------------------------------------------------------

    def stands(self, number: int) -> View:
        """Where a node stands when it judges a legacy token: one that is deaf asks."""
        view = self.views[number]
        if view.polled_at < self.model.now:
            view.phase, view.percent = self.model.phase, self.model.percent
        return view

    def hold(self, number: int, expected: Said, answer: Answer, what: object) -> None:
        """The claim; a node that has not heard of an ending may still answer as before it."""
        self.counts["answers"] += 1
        if not self.views[number].behind:
            assert answer.said == expected, (number, expected, answer.why, what, self.model.now)

    def note(self, jwt: Jwt, token: bytes) -> None:
        """A session for a legacy token: the first one, or the same again."""
        known = jwt.session
        made = self.model.swap(jwt, token)
        assert made.token == token, "two tokens for one legacy token"
        if known is None:
            self.tokens.append((made, token))

    def present(self, number: int, jwt: Jwt, value: bytes, **how: Any) -> None:
        view = self.stands(number)
        said, gives = self.model.of_jwt(jwt, view.phase, view.percent)
        answer = self.house.nodes[number].show(value, **how)
        self.hold(number, said, answer, (jwt, how))
        if answer.said == "in":
            assert answer.subject == jwt.subject
            view.used |= {jwt.session} if jwt.session and answer.has_session else set()
        if how.get("query"):
            view.queried.add(jwt)
        elif answer.said == said == "in" and jwt not in view.queried:
            assert (answer.token is not None) == gives
        if said == "in" and answer.token is not None and not how.get("query"):
            self.note(jwt, answer.token)

    def present_token(self, number: int, session: Session, value: bytes) -> None:
        said = self.model.of_token(session, value)
        answer = self.house.nodes[number].show(value)
        self.hold(number, said, answer, session)
        if answer.said == "in":
            assert answer.subject == session.subject
            self.views[number].used.add(session)

    def ended_by(self, number: int | None) -> None:
        """Somebody ended something: whoever it was knows, nobody else does."""
        for other, view in enumerate(self.views):
            if other != number:
                view.behind = True

    # ---- credentials come ----------------------------------------------------------------------

    @initialize(
        given=st.lists(SIGNED, min_size=3, max_size=4),
        at=st.sampled_from(ORDER),
        percent=st.sampled_from(PERCENTS),
        watched=st.booleans(),
    )
    def begin(self, given: list[Any], at: str, percent: int, *, watched: bool) -> None:
        """Half of the lives are watched at every step; watching warms every memory."""
        self.watched = watched
        self.model.phase, self.model.percent = at, percent
        self.house.move(at, percent)
        for number in range(2):
            self.poll(number)
        for each in given:
            self.sign(each)
        self.login(0, "in")

    @invariant()
    def is_watched(self) -> None:
        if self.watched:
            for number in range(2):
                self.show_everything(number)

    @precondition(lambda self: len(self.jwts) < MOST)
    @rule(signed=SIGNED)
    def sign_another(self, signed: Any) -> None:
        self.sign(signed)

    def sign(self, signed: tuple[str, tuple[str, str], str | None, int, bool]) -> None:
        who, (alg, kid), family, lasts, refresh = signed
        issuer, iss = ("a1", "one") if alg == "ES256" else ("a2", "two")
        now, subject = self.model.now, SUBJECTS[who]
        claims: dict[str, object] = {"sub": subject, "iss": iss, "jti": str(len(self.jwts))}
        claims |= {"sid": family} if family else {}
        claims |= {"token_type": "refresh"} if refresh else {}
        value = self.house.sign(iat=now, exp=now + lasts, kid=kid, alg=alg, **claims)
        of = (issuer, f"{family}") if family else None
        jwt = Jwt(issuer, kid, subject, of, now, now + lasts, refresh)
        self.model.jwts.append(jwt)
        self.jwts.append((jwt, value))

    @precondition(lambda self: len(self.tokens) < MOST)
    @rule(number=nodes, who=st.sampled_from(sorted(SUBJECTS)))
    def login(self, number: int, who: str) -> None:
        view, subject = self.stands(number), SUBJECTS[who]
        token = self.house.nodes[number].login(subject)
        assert (token is not None) == self.model.includes(view.phase, view.percent, subject)
        if token is not None:
            self.tokens.append((self.model.login(subject, token), token))

    # ---- credentials are presented -------------------------------------------------------------

    def access(self) -> list[tuple[Jwt, bytes]]:
        return [each for each in self.jwts if not each[0].refresh]

    @precondition(lambda self: self.access())
    @rule(number=nodes, pick=picks, scheme=st.sampled_from([b"Bearer", b"bearer", b"BEARER"]))
    def replay(self, number: int, pick: int, scheme: bytes) -> None:
        jwt, value = self.access()[pick % len(self.access())]
        self.present(number, jwt, value, scheme=scheme)

    @precondition(lambda self: self.access())
    @rule(number=nodes, pick=picks)
    def replay_in_query(self, number: int, pick: int) -> None:
        self.present(number, *self.access()[pick % len(self.access())], query=True)

    @precondition(lambda self: self.access())
    @rule(number=nodes, pick=picks, spelling=st.sampled_from(SPELLINGS))
    def respell(self, number: int, pick: int, spelling: bytes) -> None:
        jwt, value = self.access()[pick % len(self.access())]
        if jwt.issuer == "a1" and spelling == SPELLINGS[0]:
            self.present(number, jwt, mirrored(value))
            return
        view = self.stands(number)
        said, _ = self.model.of_jwt(jwt, "observe", 0)
        expected: Said = "app" if view.phase == "observe" and said != "out" else "out"
        found = self.house.nodes[number].show(value + spelling)
        self.hold(number, expected, found, (jwt, spelling))

    @precondition(lambda self: self.tokens)
    @rule(number=nodes, pick=picks)
    def show(self, number: int, pick: int) -> None:
        self.present_token(number, *self.tokens[pick % len(self.tokens)])

    @rule(number=nodes)
    def show_everything(self, number: int) -> None:
        for session, token in list(self.tokens):
            self.present_token(number, session, token)
        for jwt, value in self.access():
            self.present(number, jwt, value)

    @precondition(lambda self: len(self.access()) < len(self.jwts))
    @rule(number=nodes, pick=picks)
    def exchange(self, number: int, pick: int) -> None:
        refreshes = [each for each in self.jwts if each[0].refresh]
        jwt, value = refreshes[pick % len(refreshes)]
        view = self.stands(number)
        said, gives = self.model.of_jwt(jwt, view.phase, view.percent)
        answer = self.house.nodes[number].exchange(value)
        self.counts["answers"] += 1
        # Never from memory: here a node that has not heard of an ending answers right, too.
        assert answer.said == ("app" if said == "in" and not gives else said), jwt
        if answer.token is not None:
            self.note(jwt, answer.token)

    # ---- things end ----------------------------------------------------------------------------

    @precondition(lambda self: self.tokens)
    @rule(number=nodes, pick=picks)
    def log_out(self, number: int, pick: int) -> None:
        session, token = self.tokens[pick % len(self.tokens)]
        self.house.nodes[number].end(token)
        if session.token == token:
            self.model.end_family(session)
        self.ended_by(number)

    @precondition(lambda self: self.jwts)
    @rule(number=nodes, pick=picks)
    def log_out_by_jwt(self, number: int, pick: int) -> None:
        jwt, value = self.jwts[pick % len(self.jwts)]
        self.house.nodes[number].end(value)
        self.model.deny(jwt)
        self.ended_by(number)

    @rule(number=nodes, who=st.sampled_from(sorted(SUBJECTS)))
    def end_all(self, number: int, who: str) -> None:
        self.house.nodes[number].end_all(SUBJECTS[who])
        self.model.end_subject(SUBJECTS[who])
        self.ended_by(number)

    @precondition(lambda self: self.tokens)
    @rule(number=nodes, pick=picks)
    def end_others(self, number: int, pick: int) -> None:
        session, token = self.tokens[pick % len(self.tokens)]
        may = session.token == token and session.ended_at is None and not session.swept
        assert self.house.nodes[number].end_others(token) == may
        if may:
            self.model.end_subject(session.subject, keep=session)
            self.ended_by(number)

    @rule(by=st.sampled_from([("a1", "k2"), ("a2", "h1"), ("a2", None)]))
    def cut_off_signer(self, by: tuple[str, str | None]) -> None:
        issuer, kid = by
        self.house.cut_issuer(issuer, kid)
        self.model.keys.add(by)
        self.model.cut_jwts(
            [it for it in self.model.jwts if it.issuer == issuer and kid in (None, it.kid)]
        )
        self.ended_by(None)

    @rule(who=st.sampled_from(sorted(SUBJECTS)))
    def cut_off_subject(self, who: str) -> None:
        subject = SUBJECTS[who]
        self.house.cut_subject(subject)
        self.model.subjects.append((subject, self.model.now))
        self.model.cut_jwts([it for it in self.model.jwts if it.subject == subject])
        self.ended_by(None)

    def held(self) -> list[Session]:
        return [it for it in self.model.sessions if self.model.held(it)]

    @precondition(lambda self: self.held())
    @rule(pick=picks)
    def expire(self, pick: int) -> None:
        session = self.held()[pick % len(self.held())]
        assert isinstance(session.token, bytes)
        self.house.expire(session.token)
        session.ends_at = self.model.now
        self.ended_by(None)

    @precondition(lambda self: self.held())
    @rule(pick=picks)
    def regenerate(self, pick: int) -> None:
        session = self.held()[pick % len(self.held())]
        assert isinstance(session.token, bytes)
        token = self.house.regenerate(session.token)
        self.model.regenerate(session, token)
        self.tokens.append((session, token))
        self.ended_by(None)

    @rule()
    def sweep(self) -> None:
        self.house.sweep()
        self.model.sweep()

    # ---- things are lost, and time goes by -----------------------------------------------------

    @rule()
    def lose_cache(self) -> None:
        self.house.forget()

    @rule(number=nodes)
    def poll(self, number: int) -> None:
        view = self.views[number]
        self.house.nodes[number].poll()
        if view.deaf:
            return
        view.phase, view.percent = self.model.phase, self.model.percent
        view.polled_at, view.behind = self.model.now, False
        for session in view.used:
            if session.ended_at is None and self.model.now - session.seen_at > 60:
                session.seen_at = self.model.now
        view.used = set()

    @rule(number=nodes)
    def lose_or_find_feed(self, number: int) -> None:
        view, node = self.views[number], self.house.nodes[number]
        (node.find_feed if view.deaf else node.lose_feed)()
        view.deaf = not view.deaf

    @rule(number=nodes)
    def restart(self, number: int) -> None:
        self.house.restart(number)
        self.views[number] = View(self.model.phase, self.model.percent, self.model.now)

    @rule(far=st.booleans(), heard=st.booleans())
    def step(self, far: bool, heard: bool) -> None:
        # Near steps keep memories warm, and stay clear of every end: those lie half-way.
        seconds = 600 if far or self.model.now % 600 >= 200 else 50
        if seconds == 600:
            self.house.forget()  # nothing in Redis lives that long
        self.house.step(seconds)
        self.model.now += seconds
        for view in self.views:
            view.behind = False  # what it remembers is trusted for less than a second
        for number in range(2 if heard else 0):
            self.poll(number)  # and now again

    @rule(by=st.sampled_from([1, 1, -1]), percent=st.sampled_from(PERCENTS))
    def move(self, by: int, percent: int) -> None:
        model = self.model
        at = min(max(ORDER.index(model.phase) + by, 0), len(ORDER) - 1)
        model.phase, model.percent = ORDER[at], percent
        self.house.move(model.phase, percent)
