"""G16: a node whose own clock is wrong admits nothing that is over, and refuses nobody who is not.

The database's clock decides. Here the node's wall clock is two minutes off, either way, from its
first moment, or jumps while it runs; a process under libfaketime is in tests/system.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import pytest
import redis

from migrator import wiring
from tests.counts import counted
from tests.faults.colours import COLOURS, Asked, asked
from tests.rig import ISSUER, Rig, sign

pytestmark = pytest.mark.xdist_group("faults-clocks")

SKEW_S = 120
LEEWAY_S = 30  # of the issuer, for the times in JWTs alone
SKEWS = (-SKEW_S, SKEW_S)
_real = time.time


@pytest.fixture
def rig(migrated: str, redis_url: str) -> Rig:
    rig = Rig(migrated, redis_url, issuers=[{**ISSUER, "leeway": f"{LEEWAY_S}s"}])
    rig.move("drain")
    return rig


@pytest.fixture
def step(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[float], None]]:
    """Set the wall clock of this process off by so much."""

    def to(seconds: float) -> None:
        monkeypatch.setattr(time, "time", lambda: _real() + seconds)
        monkeypatch.setattr(time, "time_ns", lambda: int((_real() + seconds) * 1e9))

    yield to
    monkeypatch.undo()


def legacy(subject: str, lasts_s: float) -> bytes:
    """A JWT of a signer whose clock is right, whatever ours says."""
    now = int(_real())
    claims = {"iat": now - 300, "exp": int(now + lasts_s)}
    return sign(subject, claims=claims).encode()


def judged(gate: Asked, rig: Rig) -> None:
    """What is over is refused, or goes on without a principal; what is not is admitted."""
    wrong_accepts = false_401 = checked = 0
    for lasts_s in (-SKEW_S - 5, -SKEW_S / 2, -LEEWAY_S - 3):
        wrong_accepts += gate.show(legacy(f"over-{lasts_s}", lasts_s)).kind == "admitted"
        checked += 1
    for lasts_s in (30, SKEW_S / 2, SKEW_S - 5, SKEW_S + 5, 3600):
        shown = legacy(f"good-{lasts_s}", lasts_s)
        first = gate.show(shown)
        false_401 += first.kind != "admitted"
        checked += 1
        if first.token is not None:
            gate.flush_memory()
            false_401 += gate.show(first.token).kind != "admitted"
            checked += 1
    operator = wiring.operator(rig.settings())
    for subject, lasts in (("short", "-1 s"), ("long", "60 s")):
        token = str(operator.create_api_token(subject, label="x").token).encode()
        rig.execute(
            "UPDATE migrator.sessions SET created_at = now() - interval '1 h',"
            f" expires_at = now() + interval '{lasts}' WHERE subject = '{subject}'"
        )
        kind = gate.show(token).kind
        checked += 1
        wrong_accepts += subject == "short" and kind == "admitted"
        false_401 += subject == "long" and kind != "admitted"
    counted("G16", "answers by a skewed node", checked)
    counted("G16", "accepts past expiry and leeway", wrong_accepts)
    counted("G16", "false 401", false_401)
    assert (wrong_accepts, false_401) == (0, 0)


@pytest.mark.parametrize("colour", COLOURS)
@pytest.mark.parametrize("skew_s", SKEWS)
def test_p4_g16_a_node_that_starts_with_a_wrong_clock_judges_by_the_databases(
    rig: Rig, step: Callable[[float], None], skew_s: float, colour: str
) -> None:
    step(skew_s)
    with asked(colour, rig.settings()) as gate:
        judged(gate, rig)


@pytest.mark.parametrize("colour", COLOURS)
def test_p4_g16_a_clock_that_jumps_while_the_node_runs_changes_nothing(
    rig: Rig, step: Callable[[float], None], colour: str
) -> None:
    with asked(colour, rig.settings()) as gate:
        for skew_s in (0, *SKEWS, 0):
            step(skew_s)
            judged(gate, rig)


def test_g16_a_session_ends_on_time_on_a_node_whose_clock_is_slow(
    rig: Rig, step: Callable[[float], None]
) -> None:
    """Remembered and cached as it is: what is kept of it ends when it does."""
    step(-SKEW_S)
    with asked("blocking", rig.settings()) as gate:
        token = gate.show(legacy("brief", 3600)).token
        assert token is not None
        rig.execute("UPDATE migrator.sessions SET expires_at = now() + interval '1.5 s'")
        ends_at = _real() + 1.5
        gate.flush_memory()
        with_redis_empty(rig)
        assert gate.show(token).kind == "admitted"
        admitted_at = 0.0
        while _real() < ends_at + 0.5:
            began = _real()
            if gate.show(token).kind == "admitted":
                admitted_at = began
            time.sleep(0.005)
    assert ends_at - 0.5 <= admitted_at <= ends_at + 0.05


def with_redis_empty(rig: Rig) -> None:

    assert rig.redis_url is not None
    with redis.Redis.from_url(rig.redis_url) as hand:
        hand.flushdb()
