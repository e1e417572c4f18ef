"""When a legacy cookie that was left over is cleared."""

from __future__ import annotations

from migrator.core.phases import Exemption, Phase, bucket_of
from migrator.core.presented import Sent
from tests.core.deployment import Deployment, forged, jwt, presented

LEFT = Sent(leftovers=frozenset({b"old"}))


def test_leftovers_are_kept_until_the_session_cookie_came_back_past_the_cutover() -> None:
    world = Deployment()
    token = world.login()
    before = world.admit(session_cookie=token, sent=LEFT)
    assert (before.sent, before.settled) == (LEFT, False)
    world.move(Phase.CUTOVER)
    after = world.admit(session_cookie=token, sent=LEFT)
    assert (after.sent, after.settled) == (LEFT, True)
    hit = world.gate.peek(presented(session_cookie=token, sent=LEFT))
    assert hit is not None
    assert hit.settled
    assert not world.admit(session_cookie=token, sent=Sent()).settled
    assert world.admit(session_cookie=token).sent is None
    assert not world.admit(token, sent=LEFT).settled
    assert not world.admit(legacy=token, sent=LEFT).settled
    assert not world.admit(token, "cookie", session_cookie=b"junk", sent=LEFT).settled


def test_leftovers_of_a_segment_that_is_not_over_are_kept() -> None:
    world = Deployment()
    token = world.login(client="ios")
    held = (Exemption("client", "ios", Phase.DRAIN),)
    world.move(Phase.CUTOVER, exceptions=held)
    assert not world.admit(session_cookie=token, sent=LEFT).settled
    world.move(Phase.DRAIN, exceptions=(Exemption("client", "ios", Phase.CUTOVER),))
    assert world.admit(session_cookie=token, sent=LEFT).settled
    assert not world.admit(session_cookie=world.login(), sent=LEFT).settled


def test_leftovers_of_a_share_of_subjects_go_by_the_subject_and_its_realm() -> None:
    world = Deployment()
    names = [f"u{number}" for number in range(20)]
    world.move(Phase.DRAIN, exceptions=(Exemption("cohort", "50", Phase.CUTOVER),))
    for name in names:
        settled = world.admit(session_cookie=world.login(name), sent=LEFT).settled
        assert settled == (bucket_of(name, "users") < 50)


def test_what_was_revoked_for_good_leaves_no_leftover_in_any_phase() -> None:
    world = Deployment(Phase.SWAP)
    dead = jwt()
    world.sessions.end(dead)
    assert world.admit(legacy=dead, sent=LEFT).settled
    assert not world.admit(legacy=forged(jwt()), sent=LEFT).settled
    assert not world.admit(legacy=jwt(), sent=LEFT).settled
    assert not world.admit(dead, sent=LEFT).settled


def test_nothing_is_settled_before_the_rollout_is_known() -> None:
    world = Deployment(Phase.CUTOVER)
    request = presented(session_cookie=world.login(), sent=LEFT)
    assert world.gate.admit(request).settled
    world.node.rollout = None
    hit = world.gate.peek(request)
    assert hit is not None
    assert not hit.settled
