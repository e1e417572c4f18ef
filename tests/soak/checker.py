"""The history checker: whether what was answered may have been answered, in Jepsen's sense.

Pure: records in, findings out. A session is a register. No read that starts after an acknowledged
revocation and the bound of its situation returns alive, no read of a living credential is refused,
no answer names somebody else, one legacy token leads to one session, and "not now" is said only
while what is needed was away. What was asked without an answer may have happened, or not: it
excuses a refusal and demands none, until somebody was refused because of it.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final, Literal, TypeAlias, get_args

from tests.soak.bounds import BOUND_S, Faults, Situation
from tests.soak.history import Credential, Ending, Fault, Login, Move, Read, Record, Rows

Zero: TypeAlias = Literal[
    "wrong accepts",
    "cross-user answers",
    "false 401",
    "acknowledged revokes lost",
    "duplicate sessions",
    "503 outside of faults",
    "requests without an answer outside of faults",
]
ZEROS: Final[tuple[Zero, ...]] = get_args(Zero)
# A JWT issued so soon after a cutoff may be refused by it: iat is whole seconds, less skew.
CUTOFF_BLUR_S: Final = 7.0
# Credentials end by the database's clock; a second each way, and the signer's leeway.
END_BLUR_S: Final = 2.0
LEEWAY_S: Final = 1.0
# No promise but the lease's: a phase is in effect once every node has said so.
MOVE_S: Final = 2.0
LEASE_S: Final = 12.0


@dataclass(frozen=True, slots=True)
class Finding:
    """One answer that may not have been given."""

    zero: Zero
    why: str
    record: Record


@dataclass(slots=True)
class Report:
    """What the checker found, and how much it looked at."""

    findings: list[Finding] = field(default_factory=list)
    answers: Counter[str] = field(default_factory=Counter)
    bounds: dict[Situation, list[float]] = field(default_factory=dict)

    def zeros(self) -> dict[Zero, int]:
        """How often each thing happened that never may."""
        seen = Counter(finding.zero for finding in self.findings)
        return {zero: seen[zero] for zero in ZEROS}

    @property
    def holds(self) -> bool:
        """Whether every zero is one."""
        return not self.findings


def check(records: Iterable[Record]) -> Report:
    """Judge a whole history."""
    return _Checker(list(records)).run()


class _Checker:
    def __init__(self, records: list[Record]) -> None:
        self._records = records
        self._known = {one.name: one for one in records if isinstance(one, Credential)}
        self._faults = Faults.of(one for one in records if isinstance(one, Fault))
        self._endings: dict[str, list[Ending]] = defaultdict(list)
        for one in records:
            if isinstance(one, Ending):
                key = f"f:{one.family}" if one.family is not None else f"s:{one.subject}"
                self._endings[key].append(one)
        self._cutovers = _cutovers(
            sorted((one for one in records if isinstance(one, Move)), key=lambda one: one.began)
        )
        self._first_refused = self._refusals()
        self._last: dict[tuple[int, Situation], float] = {}
        self._report = Report()

    def run(self) -> Report:
        for record in self._records:
            match record:
                case Read():
                    self._read(record)
                case Ending() | Login():
                    if isinstance(record, Ending) and record.kind == "passed":
                        self._ended_nothing(record)
                    self._report.answers[type(record).__name__.lower()] += 1
                    self._unanswered(record)
                case Rows():
                    self._rows(record)
                case _:
                    pass
        self._one_session()
        for (_, situation), seconds in self._last.items():
            self._report.bounds.setdefault(situation, []).append(seconds)
        return self._report

    def _find(self, zero: Zero, why: str, record: Record) -> None:
        self._report.findings.append(Finding(zero, why, record))

    # Reads.

    def _read(self, read: Read) -> None:
        self._report.answers[read.kind] += 1
        one = self._known[read.credential]
        match read.kind:
            case "admitted":
                self._admitted(read, one)
            case "refused" | "passed":
                self._refused(read, one)
            case _:
                self._unanswered(read)

    def _admitted(self, read: Read, one: Credential) -> None:
        if read.subject is not None and read.subject != one.subject and one.subject:
            self._find("cross-user answers", f"{one.subject} was called {read.subject}", read)
        if one.sort == "garbage":
            self._find("wrong accepts", "nobody ever issued it", read)
        if one.ends_at is not None and read.began > one.ends_at + LEEWAY_S + END_BLUR_S:
            self._find("wrong accepts", "it was over by itself", read)
        told = [each for each in self._of(one) if each.acknowledged and _surely(each, one)]
        for ending in told:
            self._after(ending, read)
        refused = self._first_refused.get(one.name)
        if not told and refused is not None and read.began > refused.ended:
            self._again(refused, read)
        if one.sort in {"access", "refresh"} and self._is_cut_over(read):
            self._find("wrong accepts", "legacy tokens were refused by then", read)

    def _after(self, ending: Ending, read: Read) -> None:
        """An answer to what was revoked."""
        age = read.began - ending.ended
        if age <= 0:
            return
        situation = self._faults.situation(ending, read)
        key = (id(ending), situation)
        self._last[key] = max(self._last.get(key, 0.0), age)
        if read.audit:
            self._find("acknowledged revokes lost", f"{ending.verb}, {age:.3f} s ago", read)
        elif age > BOUND_S[situation]:
            self._find("wrong accepts", f"{ending.verb} {age:.3f} s ago, {situation}", read)

    def _again(self, refused: Read, read: Read) -> None:
        """Once refused for good, refused for ever: an ending nobody was told of did happen."""
        noticed = Ending(
            worker="?",
            verb="refused",
            began=refused.began,
            ended=refused.ended,
            kind="admitted",
        )
        age = read.began - refused.ended
        situation = self._faults.situation(noticed, read)
        # Nobody knows how its tombstone went.
        bound = BOUND_S["cut off" if situation == "cut off, tombstone" else situation]
        if age > bound:
            self._find("wrong accepts", f"was refused {age:.3f} s ago, {situation}", read)

    def _refused(self, read: Read, one: Credential) -> None:
        if one.sort == "garbage":
            return
        endings = self._of(one)
        for ending in endings:
            if ending.acknowledged and read.began > ending.ended and _surely(ending, one):
                self._last.setdefault((id(ending), self._faults.situation(ending, read)), 0.0)
        excused = (
            any(ending.began < read.ended and _maybe(ending, one) for ending in endings)
            or (one.ends_at is not None and read.ended > one.ends_at - END_BLUR_S)
            or (
                one.sort in {"access", "refresh"}
                and read.reason == "legacy_retired"
                and self._may_be_cut_over(read)
            )
        )
        if not excused:
            self._find("false 401", f"{read.kind} ({read.reason}), and it is alive", read)

    def _ended_nothing(self, ending: Ending) -> None:
        one = self._known[ending.presented or ""]
        over = one.ends_at is not None and ending.ended > one.ends_at - END_BLUR_S
        before = any(
            other is not ending and other.began < ending.ended and _maybe(other, one)
            for other in self._of(one)
        )
        retired = one.sort in {"access", "refresh"} and self._may_be_cut_over(ending)
        if not (over or before or retired):
            self._find("acknowledged revokes lost", "it was alive, and nothing was ended", ending)

    def _unanswered(self, one: Read | Ending | Login) -> None:
        if one.kind == "unavailable" and not self._faults.excuse_503(
            one.worker, one.began, one.ended
        ):
            self._find("503 outside of faults", "everything that it needs was up", one)
        if one.kind == "lost" and not self._faults.hurt(
            one.worker, ("worker",), one.began, one.ended
        ):
            self._find("requests without an answer outside of faults", "no fault of its own", one)

    # What happened to a credential, and to the rollout.

    def _of(self, one: Credential) -> list[Ending]:
        return self._endings[f"f:{one.family}"] + self._endings[f"s:{one.subject}"]

    def _refusals(self) -> dict[str, Read]:
        first: dict[str, Read] = {}
        for read in self._records:
            if isinstance(read, Read) and read.kind == "refused" and read.reason == "revoked":
                before = first.get(read.credential)
                if before is None or read.ended < before.ended:
                    first[read.credential] = read
        return first

    def _is_cut_over(self, read: Read) -> bool:
        hurt = self._faults.hurt(
            read.worker, ("postgres", "worker"), read.began - LEASE_S, read.ended
        )
        late = LEASE_S if hurt else MOVE_S
        return any(
            into.ended + late < read.began and (out is None or out.began > read.ended)
            for into, out in self._cutovers
        )

    def _may_be_cut_over(self, read: Read | Ending) -> bool:
        return any(
            into.began <= read.ended
            and (
                out is None
                or read.began <= out.ended + MOVE_S
                or self._faults.hurt(read.worker, ("postgres", "worker"), out.began, read.ended)
            )
            for into, out in self._cutovers
        )

    # The whole.

    def _one_session(self) -> None:
        handed: dict[str, Read] = {}
        came_of: dict[str, str] = {}
        for read in self._records:
            if not isinstance(read, Read) or read.handed is None:
                continue
            if self._known[read.credential].sort == "session":
                if read.handed != read.credential:
                    self._find("duplicate sessions", "a session became another", read)
                continue
            first = handed.setdefault(read.credential, read)
            if first.handed != read.handed:
                self._find("duplicate sessions", f"{first.handed} was handed out before", read)
            owner = came_of.setdefault(read.handed, read.credential)
            if owner != read.credential:
                self._find("duplicate sessions", f"{owner} was given the same one", read)

    def _rows(self, rows: Rows) -> None:
        for name in rows.strays:
            self._find("duplicate sessions", f"no legacy token's row names session {name}", rows)
        for name in rows.alive:
            one = self._known.get(name)
            if one is None:
                continue
            for ending in self._of(one):
                if ending.acknowledged and _surely(ending, one):
                    self._find("acknowledged revokes lost", f"the row of {name} lives", ending)


def _surely(ending: Ending, one: Credential) -> bool:
    """Whether an ending that took place must have reached the credential."""
    if ending.keeps == one.name:
        return False
    if ending.family is not None:
        return one.made_at <= ending.began or one.is_legacy
    return (one.issued_at if one.is_legacy else one.made_at) <= ending.began


def _maybe(ending: Ending, one: Credential) -> bool:
    """Whether it can have reached it."""
    if ending.keeps == one.name:
        return False
    if ending.family is not None:
        return True
    return one.issued_at <= ending.ended + (CUTOFF_BLUR_S if one.is_legacy else 0.0)


def _cutovers(moves: list[Move]) -> list[tuple[Move, Move | None]]:
    """When legacy tokens were refused: from which move until which."""
    spans: list[tuple[Move, Move | None]] = []
    into: Move | None = None
    for move in moves:
        if move.phase == "cutover":
            into = into or move
        elif into is not None:
            spans.append((into, move))
            into = None
    return [*spans, (into, None)] if into is not None else spans
