"""What the house promises, as a model: who comes in by what, and until when. Pure, and all of it.

Time is a number of seconds. Nothing here knows stores, caches, memories or races: that the real
house, with all of these, never answers anything else is the claim (G6).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

Said = Literal["in", "out", "app"]  # admitted, refused, or passed on for the app to decide
ORDER = ("observe", "swap", "drain", "cutover")
LEEWAY, MIN_REMAINING, SKEW, IDLE, ABSOLUTE, KEEP_ENDED = 30, 600, 5, 1890, 7230, 1210


@dataclass(eq=False)
class Session:
    """`token` is whatever names it now: another one, and the old one names nothing."""

    subject: str
    ends_at: int
    seen_at: int
    idles: bool
    family: tuple[str, str] | None = None
    token: object = None
    ended_at: int | None = None
    swept: bool = False


@dataclass(eq=False)
class Jwt:
    """A legacy token, and what became of it."""

    issuer: str
    kid: str
    subject: str
    family: tuple[str, str] | None
    iat: int
    exp: int
    refresh: bool
    denied: bool = False
    superseded: bool = False
    session: Session | None = None


@dataclass
class Model:
    """One deployment; `buckets` says which hundredth each subject belongs to."""

    buckets: dict[str, int]
    now: int = 0
    phase: str = "observe"
    percent: int = 0
    sessions: list[Session] = field(default_factory=list)
    jwts: list[Jwt] = field(default_factory=list)
    families: set[tuple[str, str]] = field(default_factory=set)
    keys: set[tuple[str, str | None]] = field(default_factory=set)
    subjects: list[tuple[str, int]] = field(default_factory=list)

    def lives(self, it: Session) -> bool:
        return self.held(it) and not (it.idles and self.now >= it.seen_at + IDLE)

    def held(self, it: Session) -> bool:
        return it.ended_at is None and not it.swept and self.now < it.ends_at

    def of_token(self, it: Session, token: object) -> Said:
        return "in" if it.token is token and self.lives(it) else "out"

    def includes(self, phase: str, percent: int, subject: str) -> bool:
        return phase in ("drain", "cutover") or (
            phase == "swap" and self.buckets[subject] < percent
        )

    def bars(self, it: Jwt) -> bool:
        cut = any(who == it.subject and it.iat - SKEW <= at for who, at in self.subjects)
        keys = {(it.issuer, None), (it.issuer, it.kid)} & self.keys
        return it.denied or it.family in self.families or cut or bool(keys)

    def of_jwt(self, it: Jwt, phase: str, percent: int) -> tuple[Said, bool]:
        """What a node of that phase says of it, and whether it gives a session for it."""
        if self.now >= it.exp + LEEWAY:
            late = phase == "observe" if it.refresh else phase != "cutover"
            return ("app" if late else "out"), False
        if phase == "cutover":
            return "out", False
        was = it.session
        over = was is not None and not self.lives(was)
        if self.bars(it) or it.superseded or (was and (was.swept or was.ended_at is not None)):
            return "out", False
        if over:
            return ("app" if phase == "observe" else "out"), False
        long = it.refresh or it.exp - self.now >= MIN_REMAINING
        return "in", long and self.includes(phase, percent, it.subject)

    def swap(self, it: Jwt, token: object) -> Session:
        if it.session is None:
            ends_at = min(it.exp, self.now + ABSOLUTE)
            it.session = Session(it.subject, ends_at, self.now, False, it.family, token)
            self.sessions.append(it.session)
        return it.session

    def login(self, subject: str, token: object) -> Session:
        made = Session(subject, self.now + ABSOLUTE, self.now, True, token=token)
        self.sessions.append(made)
        return made

    def end(self, *ended: Session) -> None:
        for it in ended:
            it.ended_at = self.now if it.ended_at is None else it.ended_at

    def end_family(self, it: Session) -> None:
        if not it.swept:
            self.families |= {it.family} if it.family else set()
            self.end(it, *(one for one in self.sessions if it.family and one.family == it.family))

    def deny(self, it: Jwt) -> None:
        if self.now < it.exp + LEEWAY:
            it.denied = True
            self.families |= {it.family} if it.family else set()
            kin = [one for one in self.sessions if it.family and one.family == it.family]
            self.end(*kin, *([it.session] if it.session else []))

    def end_subject(self, subject: str, keep: Session | None = None) -> None:
        self.subjects.append((subject, self.now))
        self.end(*(one for one in self.sessions if one.subject == subject and one is not keep))

    def cut_jwts(self, hit: list[Jwt]) -> None:
        self.end(*(it.session for it in hit if it.session))

    def regenerate(self, it: Session, token: object) -> None:
        it.token, it.idles, it.seen_at = token, True, self.now
        for one in self.jwts:
            one.superseded |= one.session is it

    def sweep(self) -> None:
        for it in self.sessions:
            over = min(it.ends_at, it.ends_at if it.ended_at is None else it.ended_at)
            it.swept |= over < self.now - KEEP_ENDED
        for one in self.jwts:  # what is over, and what it was part of, is forgotten
            if one.session and one.exp + LEEWAY + SKEW < self.now and not self.held(one.session):
                one.session.family = None
