"""The test of the test: histories that must be objected to, each for what is wrong with it alone.

Each begins with a good one, so that the checker is seen to be content with that as well.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.soak import history
from tests.soak.checker import Zero, check
from tests.soak.history import (
    Credential,
    Ending,
    Fault,
    Kind,
    Login,
    Move,
    Read,
    Record,
    Rows,
    Sort,
)

DRAIN = Move(phase="drain", percent=100, began=0.0, ended=0.1)


def credential(name: str = "S1", sort: Sort = "session", **facts: Any) -> Credential:
    usual = {"subject": "ann", "family": "ann-f", "issued_at": 1.0, "made_at": 1.1}
    return Credential(name=name, sort=sort, **{**usual, **facts})


def read(at: float, kind: Kind = "admitted", name: str = "S1", **facts: Any) -> Read:
    usual: dict[str, Any] = {"worker": "w1", "verb": "show", "ended": at + 0.01, "pid": 11}
    if kind == "admitted":
        usual["subject"] = "ann"
    if kind == "refused":
        usual["reason"] = "revoked"
    return Read(credential=name, began=at, kind=kind, **{**usual, **facts})


def logout(at: float = 10.0, kind: Kind = "admitted", **facts: Any) -> Ending:
    usual: dict[str, Any] = {"worker": "w2", "verb": "logout", "ended": at + 0.02, "pid": 22}
    return Ending(began=at, kind=kind, **{"family": "ann-f", **usual, **facts})


def away(store: history.Store, began: float, ended: float, **facts: Any) -> Fault:
    return Fault(what="it was away", store=store, began=began, ended=ended, **facts)


ANN = credential()
JWT = credential("L1", "access")
EVE = credential("S10", subject="eve", family="eve-f")
SWAPPED = credential("S2", came_of="L1")
GOOD: list[Record] = [
    DRAIN,
    ANN,
    JWT,
    SWAPPED,
    read(2.0),
    read(3.0, name="L1", handed="S2"),
    read(3.1, name="L1", handed="S2", worker="w2", pid=22),
    read(4.0, name="S2"),
    logout(),
    read(10.3),
    read(10.5, "refused"),
    read(12.0, "refused", name="L1"),
    read(12.1, "refused", name="S2"),
    Login(worker="w1", subject="ann", began=13.0, ended=13.1, kind="admitted"),
    credential("S9", family="login-1", issued_at=13.0, made_at=13.1),
    read(14.0, name="S9"),
    Rows(alive=("S9",), strays=()),
]


def test_the_good_history_is_good_and_its_bound_is_measured() -> None:
    report = check(GOOD)
    assert report.findings == []
    assert report.bounds == {"everything up": [pytest.approx(0.28)]}
    assert report.answers.total() == 11


BAD: dict[str, tuple[Zero, list[Record]]] = {
    "alive past the bound": ("wrong accepts", [read(11.1)]),
    "alive at once in the process that ended it": (
        "wrong accepts",
        [read(10.03, worker="w2", pid=22)],
    ),
    "the JWT of an ended session": ("wrong accepts", [read(11.2, name="L1")]),
    "the session of an ended JWT": ("wrong accepts", [read(11.2, name="S2")]),
    "alive a minute after everybody was cut off": (
        "wrong accepts",
        [away("postgres", 9.0, 80.0), away("redis", 9.0, 80.0), read(75.0)],
    ),
    "cut off, and the tombstone not believed": (
        "wrong accepts",
        [away("postgres", 10.5, 30.0, workers=("w1",)), read(12.0)],
    ),
    "nobody's token": (
        "wrong accepts",
        [credential("G1", "garbage", subject=""), read(5.0, name="G1", subject=None)],
    ),
    "over by itself": (
        "wrong accepts",
        [credential("S3", ends_at=20.0, family="other"), read(24.0, name="S3")],
    ),
    "refused once, and let in again": (
        "wrong accepts",
        [
            credential("S4", family="b-f"),
            logout(5.0, "lost", family="b-f"),
            away("worker", 4.9, 5.1, workers=("w2",)),
            read(6.0, "refused", name="S4"),
            read(9.0, name="S4"),
        ],
    ),
    "a JWT while they are refused": (
        "wrong accepts",
        [
            Move(phase="cutover", percent=100, began=5.0, ended=5.1),
            Move(phase="drain", percent=100, began=9.0, ended=9.1),
            read(8.0, name="L1", handed="S2"),
        ],
    ),
    "another subject's name": ("cross-user answers", [read(5.0, subject="bob")]),
    "the living turned away": ("false 401", [EVE, read(5.0, "refused", name="S10")]),
    "the living taken for nobody": ("false 401", [read(5.0, "passed")]),
    "turned away before its ending began": (
        "false 401",
        [read(9.9, "refused", ended=9.95)],
    ),
    "an outage taken for a logout": (
        "false 401",
        [EVE, away("postgres", 4.0, 6.0), read(5.0, "refused", name="S10")],
    ),
    "turned away by somebody else's ending": (
        "false 401",
        [
            credential("S5", subject="bob", family="b-f"),
            read(11.0, "refused", name="S5", subject=None),
        ],
    ),
    "the spared session ended with the others": (
        "false 401",
        [
            credential("S6", family="c-f", subject="cem"),
            Ending(
                worker="w1",
                verb="end others",
                began=5.0,
                ended=5.1,
                kind="admitted",
                subject="cem",
                keeps="S6",
            ),
            read(6.0, "refused", name="S6"),
        ],
    ),
    "a login after everything was ended": (
        "false 401",
        [
            Ending(
                worker="w1", verb="all", began=13.5, ended=13.6, kind="admitted", subject="dia"
            ),
            credential("S7", subject="dia", family="l-2", issued_at=14.0, made_at=14.1),
            read(15.0, "refused", name="S7"),
        ],
    ),
    "retired where nothing was cut over": (
        "false 401",
        [read(5.0, "refused", name="L1", reason="legacy_retired")],
    ),
    "alive again when all was up": (
        "acknowledged revokes lost",
        [read(200.0, audit=True)],
    ),
    "its row is alive": ("acknowledged revokes lost", [Rows(alive=("S2",), strays=())]),
    "nothing was ended, and it lived": (
        "acknowledged revokes lost",
        [logout(5.0, "passed", presented="S1")],
    ),
    "two sessions for one JWT": (
        "duplicate sessions",
        [credential("S8", came_of="L1"), read(5.0, name="L1", handed="S8")],
    ),
    "one session for two JWTs": (
        "duplicate sessions",
        [credential("L2", "access"), read(5.0, name="L2", handed="S2")],
    ),
    "a session that became another": (
        "duplicate sessions",
        [read(5.0, name="S1", verb="exchange", handed="S2")],
    ),
    "a session of no JWT": ("duplicate sessions", [Rows(alive=(), strays=("an-id",))]),
    "503 with everything up": ("503 outside of faults", [read(5.0, "unavailable")]),
    "503 for want of Redis": (
        "503 outside of faults",
        [away("redis", 4.0, 6.0), read(5.0, "unavailable")],
    ),
    "alive past the bound on a busy machine": (
        "wrong accepts",
        [away("machine", 9.0, 20.0), read(11.1)],
    ),
    "503 for what only others felt": (
        "503 outside of faults",
        [away("postgres", 4.0, 6.0, workers=("w2",)), read(5.0, "unavailable")],
    ),
    "503 long after": (
        "503 outside of faults",
        [away("postgres", 4.0, 5.0), read(7.1, "unavailable")],
    ),
    "a login that is not possible": (
        "503 outside of faults",
        [Login(worker="w1", subject="ann", began=5.0, ended=5.1, kind="unavailable")],
    ),
    "no answer": ("requests without an answer outside of faults", [read(5.0, "lost")]),
}


@pytest.mark.parametrize("wrong", list(BAD))
def test_the_checker_objects_to(wrong: str) -> None:
    zero, more = BAD[wrong]
    report = check([*more, *GOOD])
    assert {finding.zero for finding in report.findings} == {zero}, report.findings


FINE: dict[str, list[Record]] = {
    "alive for as long as a cache's entry, cut off from both who could tell": [
        away("postgres", 9.0, 80.0, workers=("w1",)),
        away("redis", 9.0, 11.0),
        replace(read(10.4), began=60.0, ended=60.1),
    ],
    "not known for want of time": [away("machine", 4.0, 6.0), read(5.0, "unavailable")],
    "not known, and not said": [away("postgres", 4.0, 6.0), read(7.9, "unavailable")],
    "refused by an ending that nobody was told of": [
        credential("S4", family="b-f"),
        away("worker", 4.9, 5.1, workers=("w2",)),
        logout(5.0, "lost", family="b-f"),
        read(6.0, "refused", name="S4"),
    ],
    "or not refused by it": [
        credential("S4", family="b-f"),
        away("worker", 4.9, 5.1, workers=("w2",)),
        logout(5.0, "lost", family="b-f"),
        read(60.0, name="S4"),
    ],
    "expired": [
        credential("S3", ends_at=20.0, family="other"),
        read(20.5, "refused", name="S3", reason="expired"),
    ],
    "cut over, and back": [
        Move(phase="cutover", percent=100, began=5.0, ended=5.1),
        Move(phase="drain", percent=100, began=8.0, ended=8.1),
        read(6.0, "refused", name="L1", reason="legacy_retired"),
        read(8.6, "refused", name="L1", reason="legacy_retired"),
        read(9.5, name="L1", handed="S2"),
    ],
}


@pytest.mark.parametrize("right", list(FINE))
def test_the_checker_is_content_with(right: str) -> None:
    assert check([*FINE[right], *GOOD]).findings == []


def test_a_kept_history_is_judged_alike(tmp_path: Path) -> None:
    kept = tmp_path / "history.jsonl"
    records = [*BAD["alive past the bound"][1], away("redis", 1.0, 2.0, workers=("w9",)), *GOOD]
    history.write(records, kept)
    assert list(history.read(kept)) == records
    assert check(history.read(kept)).zeros() == check(records).zeros()
