"""The load: users who do everything that can be done with a credential, from many threads at once.

What a user does next is drawn by the run's seed from what the user is believed to have; whether an
answer was right is not decided here. Whoever ends something has it presented everywhere from that
moment on (`Probes`), so that what races with an ending is asked, and how long it is let in.
"""

from __future__ import annotations

import heapq
import itertools
import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from migrator.core import tokens
from migrator.core.errors import Refused, Unavailable
from tests.rig import sign
from tests.soak.history import Credential, Ending, Login, Read
from tests.soak.recording import Recording
from tests.soak.stage import OPERATOR, Stage
from tests.soak.workers import Said, Server, Worker

# When the dead are shown again, in seconds from the moment their ending began and was told.
_DURING_S: Final = (0.0, 0.002, 0.005)
_AFTER_S: Final = (0.0, 0.003, 0.01, 0.02, 0.04, 0.08, 0.2, 0.4, 0.7, 0.95, 1.1, 1.5, 4.0, 15.0)
_SHORT_S: Final = (5, 25)
_LONG_S: Final = 7200
_FORGET: Final = 4_000  # users that are still picked; older ones go on living, unasked


@dataclass(slots=True)
class User:
    """One subject, and what it has, as far as can be known."""

    subject: str
    has: list[Credential] = field(default_factory=list)
    dead: list[Credential] = field(default_factory=list)


@dataclass(order=True, slots=True)
class _Due:
    at: float
    number: int
    credential: Credential = field(compare=False)
    worker: Worker = field(compare=False)


class Probes:
    """Credentials to present at given moments, by threads that do nothing else."""

    def __init__(self) -> None:
        self._due: list[_Due] = []
        self._numbers = itertools.count()
        self._changed = threading.Condition()
        self._over = False

    def add(self, at: float, credential: Credential, worker: Worker) -> None:
        """Have it presented then."""
        with self._changed:
            heapq.heappush(self._due, _Due(at, next(self._numbers), credential, worker))
            self._changed.notify()

    def next(self) -> _Due | None:
        """The next one, when it is due; None: it is over."""
        with self._changed:
            while not self._over:
                if self._due and (rest := self._due[0].at - time.monotonic()) <= 0:
                    return heapq.heappop(self._due)
                self._changed.wait(rest if self._due else None)
        return None

    def end(self) -> None:
        """No more."""
        with self._changed:
            self._over = True
            self._changed.notify_all()


class Crowd:
    """Everybody who uses a stage.

    Args:
        rate: users' own requests a second; the probes come on top, about as many again.
    """

    def __init__(self, stage: Stage, recording: Recording, *, seed: int, rate: float) -> None:
        self._stage = stage
        self._recording = recording
        self._seed = seed
        self._rate = rate
        self._users: list[User] = []
        self._lock = threading.Lock()
        self._probes = Probes()
        self._numbers = itertools.count(1)
        self._over = threading.Event()
        self._errors: list[BaseException] = []

    def run(self, until: float, *, threads: int = 10, probing: int = 10) -> None:
        """Use the stage until then."""
        users = [
            threading.Thread(target=self._guarded, args=(self._use, number, threads, until))
            for number in range(threads)
        ]
        probers = [
            threading.Thread(target=self._guarded, args=(self._probe,)) for _ in range(probing)
        ]
        for thread in (*users, *probers):
            thread.start()
        for thread in users:
            thread.join()
        self._probes.end()
        for thread in probers:
            thread.join()
        if self._errors:
            raise self._errors[0]

    @property
    def users(self) -> int:
        """How many there were."""
        return next(self._numbers) - 1

    def _guarded(self, work: Callable[..., None], *arguments: object) -> None:
        try:
            work(*arguments)
        except BaseException as error:  # noqa: BLE001 - raised again where the run ends
            self._errors.append(error)

    def _use(self, number: int, of: int, until: float) -> None:
        drawn = random.Random(f"user {self._seed} {number}")
        weights = [weight for weight, _ in _VERBS]
        acts = [act for _, act in _VERBS]
        due = time.monotonic()
        while (now := time.monotonic()) < until:
            due += of / self._rate
            if due > now:
                time.sleep(due - now)
            else:
                due = now  # nobody makes up for what an outage cost
            drawn.choices(acts, weights)[0](self, drawn)

    def _probe(self) -> None:
        while (due := self._probes.next()) is not None:
            self.present(due.worker, due.credential)

    # What is asked.

    def present(self, worker: Worker, one: Credential, *, audit: bool = False) -> Said:
        """Present a credential where its kind belongs, and write down what became of it."""
        verb = worker.exchange if one.sort == "refresh" else worker.show
        token = self._recording.tokens[one.name]
        began = time.monotonic()
        said = verb(token)
        ended = time.monotonic()
        handed = None
        if said.token is not None:
            handed = (
                self._recording.handed(said.token, one).name
                if one.sort != "session"
                else self._recording.known(
                    said.token, "session", subject=one.subject, family="", issued_at=began
                ).name
            )
        self._recording.add(
            Read(
                worker=worker.name,
                verb="exchange" if one.sort == "refresh" else "show",
                credential=one.name,
                began=began,
                ended=ended,
                kind=said.kind,
                pid=said.pid,
                reason=said.reason,
                subject=said.subject,
                handed=handed,
                audit=audit,
            )
        )
        return said

    def _end(
        self,
        worker: str,
        verb: str,
        act: Callable[[], Said],
        doomed: list[Credential],
        drawn: random.Random,
        *,
        family: str | None = None,
        subject: str | None = None,
        presented: Credential | None = None,
        keeps: Credential | None = None,
    ) -> None:
        began = time.monotonic()
        self._show_dead(doomed, began, _DURING_S, drawn)
        said = act()
        ended = time.monotonic()
        if said.kind == "refused":
            return  # there was nothing left to end
        self._recording.add(
            Ending(
                worker=worker,
                verb=verb,
                began=began,
                ended=ended,
                kind=said.kind,
                pid=said.pid,
                family=family,
                subject=subject,
                presented=None if presented is None else presented.name,
                keeps=None if keeps is None else keeps.name,
            )
        )
        self._show_dead(doomed, ended, _AFTER_S, drawn)

    def _show_dead(
        self,
        doomed: list[Credential],
        since: float,
        offsets: tuple[float, ...],
        drawn: random.Random,
    ) -> None:
        for offset in offsets if doomed else ():
            worker = drawn.choice(self._stage.workers)
            self._probes.add(since + offset, drawn.choice(doomed), worker)

    # Who does it.

    def _new(self) -> User:
        user = User(f"user-{next(self._numbers)}")
        with self._lock:
            self._users.append(user)
            del self._users[: max(0, len(self._users) - _FORGET)]
        return user

    def _one_of(self, drawn: random.Random) -> tuple[User, Credential] | None:
        with self._lock:
            if not self._users:
                return None
            # The newest are picked most: what was just made or ended is what races.
            span = len(self._users) if drawn.random() < 0.4 else min(len(self._users), 60)
            user = self._users[-drawn.randint(1, span)]
            has = list(user.has)
        return (user, drawn.choice(has)) if has else None

    def _take_away(self, user: User, doomed: list[Credential]) -> None:
        with self._lock:
            gone = {one.name for one in doomed}
            user.has = [one for one in user.has if one.name not in gone]
            user.dead += doomed

    def _give(self, user: User, one: Credential) -> None:
        with self._lock:
            if all(one.name != each.name for each in (*user.has, *user.dead)):
                user.has.append(one)

    # What is done.

    def arrive(self, drawn: random.Random) -> None:
        """A user of old comes with a JWT, on several nodes at once."""
        user = self._new()
        family = f"{user.subject}-f"
        lasts = drawn.randint(*_SHORT_S) if drawn.random() < 0.15 else _LONG_S
        issued_at = time.monotonic()
        jwt = sign(user.subject, lasts_s=lasts, claims={"sid": family}, secret=self._stage.secret)
        ends_at = issued_at + lasts if lasts != _LONG_S else None
        access = self._recording.known(
            jwt,
            "access",
            subject=user.subject,
            family=family,
            issued_at=issued_at,
            ends_at=ends_at,
        )
        self._give(user, access)
        if drawn.random() < 0.4:
            refresh = sign(
                user.subject,
                lasts_s=_LONG_S,
                claims={"token_type": "refresh", "sid": family},
                secret=self._stage.secret,
            )
            self._give(
                user,
                self._recording.known(
                    refresh,
                    "refresh",
                    subject=user.subject,
                    family=family,
                    issued_at=issued_at,
                ),
            )
        if drawn.random() < 0.15:
            return  # stays unseen, until it is perhaps denied
        now = time.monotonic()
        for worker in drawn.sample(self._stage.workers, 2):
            self._probes.add(now, access, worker)
        self._shown(user, access, drawn)

    def _shown(self, user: User, one: Credential, drawn: random.Random) -> None:
        said = self.present(drawn.choice(self._stage.workers), one)
        if said.token is not None and one.sort != "session":
            self._give(user, self._recording.handed(said.token, one))

    def use(self, drawn: random.Random) -> None:
        """Somebody presents what they have."""
        if (picked := self._one_of(drawn)) is not None:
            self._shown(*picked, drawn)

    def login(self, drawn: random.Random) -> None:
        """Somebody logs in, perhaps again after everything was ended."""
        picked = self._one_of(drawn)
        user = picked[0] if picked is not None and drawn.random() < 0.5 else self._new()
        server = drawn.choice(self._stage.servers)
        began = time.monotonic()
        said = server.login(user.subject)
        self._recording.add(
            Login(
                worker=server.name,
                subject=user.subject,
                began=began,
                ended=time.monotonic(),
                kind=said.kind,
            )
        )
        if said.token is None:
            return
        if said.sort == "legacy":
            one = self._recording.issued(said.token, user.subject, began)
        else:
            one = self._recording.known(
                said.token,
                "session",
                subject=user.subject,
                family=f"login-{next(self._numbers)}",
                issued_at=began,
            )
        self._give(user, one)
        self._shown(user, one, drawn)

    def refresh_session(self, drawn: random.Random) -> None:
        """A session token is presented at the refresh route: it is answered with itself."""
        picked = self._one_of(drawn)
        if picked is None or picked[1].sort != "session":
            return
        worker = drawn.choice(self._stage.workers)
        began = time.monotonic()
        said = worker.exchange(self._recording.tokens[picked[1].name])
        handed = None
        if said.token is not None:
            handed = self._recording.handed(said.token, picked[1]).name
        self._recording.add(
            Read(
                worker=worker.name,
                verb="exchange",
                credential=picked[1].name,
                began=began,
                ended=time.monotonic(),
                kind=said.kind,
                pid=said.pid,
                reason=said.reason,
                handed=handed,
            )
        )

    def logout(self, drawn: random.Random) -> None:
        """Somebody logs out, or an operator ends what they present, swapped already or not."""
        if (picked := self._one_of(drawn)) is None:
            return
        user, one = picked
        doomed = [each for each in user.has if each.family == one.family]
        self._take_away(user, doomed)
        token = self._recording.tokens[one.name]
        by_operator = one.sort == "refresh" or drawn.random() < 0.4
        server = drawn.choice(self._stage.servers)
        self._end(
            OPERATOR if by_operator else server.name,
            f"{'revoke' if by_operator else 'logout'} by {one.sort}",
            (lambda: self._operate(lambda: self._stage.operator.end(token)))
            if by_operator
            else (lambda: server.logout(token)),
            doomed,
            drawn,
            family=one.family,
            presented=one,
        )

    def end_others(self, drawn: random.Random) -> None:
        """Somebody logs out everywhere else."""
        picked = self._one_of(drawn)
        if picked is None or picked[1].sort != "session":
            return
        user, one = picked
        doomed = [each for each in user.has if each.name != one.name]
        self._take_away(user, doomed)
        server, token = drawn.choice(self._stage.servers), self._recording.tokens[one.name]
        self._end(
            server.name,
            "end others",
            lambda: server.end_others(token),
            [*doomed, one],
            drawn,
            subject=user.subject,
            keeps=one,
        )

    def end_all(self, drawn: random.Random) -> None:
        """Everything of a subject is ended, by the app or by an operator."""
        if (picked := self._one_of(drawn)) is None:
            return
        user, doomed = picked[0], list(picked[0].has)
        self._take_away(user, doomed)
        server: Server = drawn.choice(self._stage.servers)
        by_operator = drawn.random() < 0.4
        self._end(
            OPERATOR if by_operator else server.name,
            "revoke subject" if by_operator else "end all",
            (lambda: self._operate(lambda: 1 + self._stage.operator.end_all(user.subject)))
            if by_operator
            else (lambda: server.end_all(user.subject)),
            doomed,
            drawn,
            subject=user.subject,
        )

    def _operate(self, act: Callable[[], int]) -> Said:
        try:
            ended = act()
        except Unavailable:
            return Said("unavailable")
        except Refused:
            return Said("refused")
        return Said("admitted" if ended else "passed")

    def replay(self, drawn: random.Random) -> None:
        """What was ended long ago is presented again."""
        with self._lock:
            user = drawn.choice(self._users) if self._users else None
            dead = list(user.dead) if user is not None else []
        if dead:
            self.present(drawn.choice(self._stage.workers), drawn.choice(dead))

    def garbage(self, drawn: random.Random) -> None:
        """What nobody issued: forged, re-spelt, well formed and unknown."""
        subject = f"nobody-{next(self._numbers)}"
        made = drawn.choice((_forged, _respelt, _unknown, _noise))(subject, drawn, self._stage)
        one = self._recording.known(
            made, "garbage", subject="", family=subject, issued_at=time.monotonic()
        )
        self.present(drawn.choice(self._stage.workers), one)


def _forged(subject: str, drawn: random.Random, stage: Stage) -> str:
    return sign(subject, secret="another secret, which is long enough as well")


def _respelt(subject: str, drawn: random.Random, stage: Stage) -> str:
    return sign(subject, secret=stage.secret) + "="


def _unknown(subject: str, drawn: random.Random, stage: Stage) -> str:
    return tokens.mint("sess", drawn.randbytes(32)).decode()


def _noise(subject: str, drawn: random.Random, stage: Stage) -> str:
    return "sess_" + drawn.randbytes(drawn.randint(1, 400)).hex()


_VERBS: Final[tuple[tuple[int, Callable[[Crowd, random.Random], None]], ...]] = (
    (14, Crowd.arrive),
    (45, Crowd.use),
    (8, Crowd.login),
    (6, Crowd.refresh_session),
    (9, Crowd.logout),
    (3, Crowd.end_others),
    (3, Crowd.end_all),
    (7, Crowd.replay),
    (5, Crowd.garbage),
)
