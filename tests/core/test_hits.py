"""A hit: what a remembered credential costs, and where memory is not asked."""

from __future__ import annotations

from migrator.core.phases import Phase
from migrator.core.verdicts import Admitted, Reason
from tests.core.deployment import ISSUERS, Deployment, jwt, presented, subject_of


def test_p11_a_hit_asks_nobody() -> None:
    world = Deployment(Phase.SWAP)
    token, legacy = world.login(), jwt()
    requests = [
        presented(token),
        presented(session_cookie=token),
        presented(legacy, "header"),
    ]
    for request in requests:
        world.gate.admit(request)
    world.store.asked.clear()
    for request, place in zip(requests, ("header", "cookie", "header"), strict=True):
        hit = world.gate.peek(request)
        assert hit is not None
        assert subject_of(hit.verdict) == "user-1"
        assert hit.place == place
    assert isinstance(world.gate.peek_header(token, ISSUERS), Admitted)
    assert world.gate.peek_header(legacy, ISSUERS) is not None
    assert world.gate.peek_header(legacy, frozenset()) is None
    assert world.store.asked == []


def test_memory_is_not_asked_where_more_than_one_credential_speaks() -> None:
    world = Deployment(Phase.SWAP)
    token, legacy = world.login(), jwt()
    for each in (token, legacy):
        world.admit(each)
    peek = world.gate.peek
    assert peek(presented()) is None
    assert peek(presented(world.login())) is None
    assert peek(presented(token, session_cookie=token)) is None
    assert peek(presented(token, fault=Reason.CSRF)) is None
    assert peek(presented(session_cookie=token, session_copies=[token])) is None
    assert peek(presented(session_cookie=token, forged=True)) is None
    assert peek(presented(token, forged=True)) is not None
    assert peek(presented(legacy, others=[jwt()])) is None
    assert peek(presented(legacy, legacy_copies=[jwt()])) is None
    assert peek(presented(legacy, legacy=jwt())) is None
    assert peek(presented(legacy, legacy=legacy)) is not None
    assert peek(presented(token, legacy=jwt(), others=[jwt()])) is not None


def test_p11_a_hit_costs_the_pulse_one_comparison() -> None:
    world = Deployment()
    woken: list[int] = []
    world.node.wake = lambda: woken.append(1)
    world.node.sleep = lambda: woken.append(2)
    world.gate.wake()
    assert woken == [1]
    world.gate.close()
    assert woken == [1, 2]
