"""G16 under libfaketime: the C library itself tells one worker a time that is two minutes off.

So nothing that asks for the time is spared: Python, libpq, OpenSSL. Another worker beside it has
the right clock, and both are asked the same.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from migrator import wiring
from tests.counts import counted
from tests.faults.nodes import Node, nodes
from tests.faults.standby import until
from tests.rig import ISSUER, Rig, sign

pytestmark = [pytest.mark.system, pytest.mark.xdist_group("faketime")]

LEEWAY_S = 5
LASTS_S = 4


@pytest.fixture(params=["-120s", "+120s"])
def skewed(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, migrated: str, redis_url: str
) -> Iterator[tuple[Rig, Node, Node]]:
    """A worker under libfaketime, and one with the machine's clock."""
    (library,) = Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1")
    rig = Rig(migrated, redis_url, issuers=[{**ISSUER, "leeway": f"{LEEWAY_S}s"}])
    rig.move("drain")
    with nodes(rig.settings()) as (right,):
        monkeypatch.setenv("LD_PRELOAD", os.fspath(library))
        monkeypatch.setenv("FAKETIME", request.param)
        with nodes(rig.settings()) as (wrong,):
            monkeypatch.undo()
            until(lambda: any(abs(skew) > 100 for skew in skews(rig)))  # as it says itself
            yield rig, wrong, right


def skews(rig: Rig) -> list[float]:
    """How far the nodes' clocks are off by their own account, in seconds."""
    rows = rig.execute("SELECT clock_skew_ms FROM migrator.nodes WHERE clock_skew_ms IS NOT NULL")
    return [skew_ms / 1000 for (skew_ms,) in rows]


def brief(rig: Rig, subject: str, lasts_s: float) -> bytes:
    """A session that ends so soon, known to nobody yet."""
    issued = wiring.operator(rig.settings()).create_api_token(subject, label="x")
    rig.execute(
        "UPDATE migrator.sessions SET expires_at = clock_timestamp() + %s * interval '1 s'"
        " WHERE subject = %s",
        lasts_s,
        subject,
    )
    return str(issued.token).encode()


def test_p4_g16_under_libfaketime_nothing_that_is_over_is_admitted_and_nobody_else_refused(
    skewed: tuple[Rig, Node, Node],
) -> None:
    rig, *both = skewed
    good = [sign(f"good-{lasts_s}", lasts_s=lasts_s).encode() for lasts_s in (60, 119, 3600)]
    over = [
        sign(f"over-{ago_s}", lasts_s=-ago_s, claims={"iat": int(time.time()) - 600}).encode()
        for ago_s in (LEEWAY_S + 2, 60, 119, 125)
    ]
    short = brief(rig, "short", LASTS_S)
    ends_at = time.time() + LASTS_S
    assert {node.show(short).kind for node in both} == {"admitted"}
    false_401 = wrong_accepts = checked = 0
    while time.time() < ends_at + 1:
        for node in both:
            swapped = [node.show(one) for one in good]
            false_401 += sum(one.kind != "admitted" for one in swapped)
            tokens = [one.token for one in swapped if one.token is not None]
            false_401 += sum(node.show(one).kind != "admitted" for one in tokens)
            wrong_accepts += sum(node.show(one).kind == "admitted" for one in over)
            began = time.time()
            is_admitted = node.show(short).kind == "admitted"
            wrong_accepts += is_admitted and began > ends_at + 0.05
            false_401 += not is_admitted and time.time() < ends_at - 0.5
            checked += len(swapped) + len(tokens) + len(over) + 1
        time.sleep(0.02)
    counted("G16", "answers under libfaketime", checked)
    counted("G16", "accepts past expiry and leeway", wrong_accepts)
    counted("G16", "false 401", false_401)
    assert (wrong_accepts, false_401) == (0, 0)


def test_p4_g16_frozen_over_an_expiry_a_skewed_worker_wakes_up_refusing(
    skewed: tuple[Rig, Node, Node],
) -> None:
    rig, wrong, _ = skewed
    token = brief(rig, "asleep", 1.5)
    ends_at = time.monotonic() + 1.5
    assert wrong.show(token).kind == "admitted"
    wrong.freeze()
    until(lambda: time.monotonic() > ends_at)
    wrong.thaw()
    assert wrong.show(token).kind == "refused"
