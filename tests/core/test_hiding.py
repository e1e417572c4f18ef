"""What the app would read beside the credential that decided is hidden if it is dead."""

from __future__ import annotations

from typing import Any

from migrator.core.phases import Phase
from migrator.core.presented import Credential
from migrator.core.verdicts import Passed, Reason, Refused
from tests.core.deployment import ISSUERS, Deployment, jwt, subject_of


def test_a_dead_legacy_token_beside_a_living_one_is_hidden_from_the_app() -> None:
    world = Deployment(Phase.SWAP)
    dead = jwt("bob")
    world.sessions.end(dead)
    outcome = world.admit(jwt(), legacy=dead)
    assert subject_of(outcome.verdict) == "user-1"
    assert outcome.dead_legacy
    assert not world.admit(jwt(), legacy=jwt()).dead_legacy
    # Beside a session the app looks for no JWT.
    assert not world.admit(world.login(), legacy=dead).dead_legacy


def test_a_dead_one_among_the_places_that_never_decide_is_hidden_too() -> None:
    world = Deployment(Phase.SWAP)
    dead = jwt("bob")
    world.sessions.end(dead)
    elsewhere: list[dict[str, Any]] = [{"others": [dead]}, {"legacy_copies": [dead]}]
    for more in elsewhere:
        assert world.admit(jwt(), **more).dead_legacy
        assert world.admit(legacy=jwt(), **more).dead_legacy
    assert world.admit(others=[dead]).dead_legacy
    assert world.admit(foreign_header=True, others=[dead]).dead_legacy


def test_a_dead_token_in_a_body_is_refused_since_a_body_is_not_written_anew() -> None:
    world = Deployment(Phase.SWAP)
    dead = jwt("bob")
    world.sessions.end(dead)
    for header in (jwt(), b"opaque"):
        outcome = world.admit(header, legacy=Credential(dead, "body", ISSUERS))
        assert outcome.verdict == Refused(Reason.DENIED)
        assert outcome.place == "body"


def test_the_token_that_decided_is_not_judged_again_beside_itself() -> None:
    world = Deployment(Phase.SWAP)
    dead = jwt("bob")
    world.sessions.end(dead)
    world.counted()
    outcome = world.admit(b"opaque", others=[b"opaque"])
    assert world.counted() == {("", "", "foreign:credential"): 1}
    assert not outcome.dead_legacy


def test_where_a_credential_was_stripped_nothing_more_is_read() -> None:
    world = Deployment(Phase.SWAP)
    dead = jwt("bob")
    world.sessions.end(dead)
    outcome = world.admit(dead, route="login", others=[dead + b"x"])
    assert outcome.verdict == Passed(Reason.DENIED, strip=True)
    assert not outcome.dead_legacy


def test_a_fault_does_not_hide_what_is_dead() -> None:
    world = Deployment(Phase.OBSERVE)
    dead = jwt("bob")
    world.sessions.end(dead)
    outcome = world.admit(fault=Reason.REPEATED_CREDENTIAL, legacy=dead)
    assert outcome.verdict == Passed(Reason.REPEATED_CREDENTIAL)
    assert outcome.dead_legacy
