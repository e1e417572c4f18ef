"""What an app hands on from a request body or header: garbage is refused, and breaks nothing."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest

from migrator import wiring
from migrator.core.app import Sessions
from migrator.core.errors import Refused
from tests.rig import Rig, sign_refresh

GARBAGE: list[Any] = [
    *(None, 5, 1.5, True, [], ["a"], {}, {"a": 1}, object(), bytearray(b"sess_")),
    *(
        "",
        " ",
        "\0",
        "\ud800",
        "sess_",
        "sess_\0",
        "pat_" + "a" * 49,
        "a.b.c",
        "..",
        "x" * 200_000,
    ),
    *(b"", b"\xff\xfe", b"sess_\xff", b"{}", "0" * 36, "{" + "0" * 34 + "}", "-" * 36),
    *(sign_refresh("ann") + "=", "Bearer " + sign_refresh("ann"), sign_refresh("a\0nn")),
    *(sign_refresh("ann", sid="\0"), sign_refresh("ann", sid=["a"]), sign_refresh("a" * 5000)),
]


@pytest.fixture
def rig(migrated: str, redis_url: str) -> Iterator[Rig]:
    yield Rig(migrated, redis_url)
    wiring.stop()


@pytest.fixture(params=["swap", "cutover", "retired"])  # in observe the app decides
def sessions(rig: Rig, request: pytest.FixtureRequest) -> Sessions:
    rig.move(request.param)
    return wiring.sessions(rig.settings())


def test_garbage_is_exchanged_for_nothing_and_ends_nothing(sessions: Sessions) -> None:
    kept = sessions.create_api_token("ann", label="kept").token
    for garbage in GARBAGE:
        with pytest.raises(Refused):
            sessions.exchange(garbage, legacy=lambda: "jwt")
        with pytest.raises(Refused):
            sessions.end_others(garbage)
        assert sessions.end(garbage) == 0
    assert [one.label for one in sessions.list("ann")] == ["kept"]
    assert sessions.end(str(kept)) == 1


@pytest.mark.parametrize("subject", ["", "\0", "a\0b", "\ud800", "a" * 100_000, "a\nb"])
def test_nobody_has_a_name_that_no_row_can_hold(rig: Rig, subject: str) -> None:
    rig.move("drain")
    sessions = wiring.sessions(rig.settings())
    with pytest.raises(ValueError, match="subject"):
        sessions.login(subject, legacy=lambda: "jwt")
    with pytest.raises(ValueError, match="subject"):
        sessions.create_api_token(subject, label="x")
    assert sessions.end_all(subject) == 0
    assert list(sessions.list(subject)) == []


def test_claims_that_no_row_can_hold_are_the_app_s_fault_not_an_outage(rig: Rig) -> None:
    rig.move("drain")
    sessions = wiring.sessions(rig.settings())
    for claims in ({"name": "\0"}, {"name": ["\ud800"]}, {"\0": 1}):
        with pytest.raises(ValueError, match="claims"):
            sessions.login("ann", claims=claims, legacy=lambda: "jwt")


def test_a_monstrous_client_name_does_not_stop_the_counting(rig: Rig) -> None:
    """One line that no index takes would hold up the whole flush, and with it every gate."""
    rig.move("drain")
    sessions = wiring.sessions(rig.settings())
    monster = "".join(chr(0x4E00 + number) for number in range(8000))
    sessions.login("ann", client=monster, legacy=lambda: "jwt")
    sessions.login("bob", client="\0\ud800", legacy=lambda: "jwt")
    deadline = time.monotonic() + 10
    while not rig.count("legacy_usage", "outcome = 'issued:session'"):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert sessions.create_api_token("ann", label="a\0\ud800b").kind == "session"
    assert {one.label for one in sessions.list("ann")} == {None, "ab"}
