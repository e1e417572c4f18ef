"""Who counts as logged out: decided from what a client held, sent and got."""

from __future__ import annotations

import pytest

from migrator.cli.demo.judge import Grant, Loss, Scores, Stolen
from migrator.cli.demo.table import Outcome


@pytest.mark.parametrize(
    ("grant", "loss"),
    [
        (Grant("eyJ.a.b", ends_at=100.0), Loss.UNINTENDED),
        (Grant("sess_x", ends_at=float("inf")), Loss.UNINTENDED),
        (Grant("eyJ.a.b", ends_at=50.0), Loss.EXPIRED),
        (Grant("eyJ.a.b", ends_at=100.0, revoking=True), Loss.REVOKED),
    ],
)
def test_a_refusal_is_judged_by_the_grants_own_end_and_the_scripts_hand(
    grant: Grant, loss: Loss
) -> None:
    scores = Scores()
    assert scores.judge(grant, got_at=60.0, client="a phone", where="/me") is loss
    assert scores.losses == {loss: 1}


def test_evidence_names_the_client_and_never_the_credential() -> None:
    scores = Scores()
    scores.judge(Grant("sess_secret", 100.0), got_at=60.0, client="a phone", where="/me")
    assert scores.victims == {"a phone"}
    assert "a phone" in scores.evidence[0]
    assert "secret" not in scores.evidence[0]
    assert "secret" not in repr(Grant("sess_secret", 100.0))
    assert "secret" not in repr(Stolen("a JWT", "sess_secret"))


def test_a_revoked_credential_may_be_admitted_within_the_bound_and_not_after() -> None:
    stolen = Stolen("a JWT", "token")
    assert not stolen.answered(status=200, worker=1, sent_at=5.0, got_at=5.1)
    stolen.acknowledged_at = 10.0
    assert not stolen.answered(status=200, worker=1, sent_at=10.9, got_at=11.2)
    assert stolen.answered(status=200, worker=1, sent_at=11.1, got_at=11.2)
    assert not stolen.answered(status=401, worker=2, sent_at=10.2, got_at=10.5)
    assert stolen.died_in == {2: pytest.approx(0.5)}


def outcome(scores: Scores, *, adopted: int = 3, ended_early: str | None = None) -> Outcome:
    return Outcome(
        scores=scores,
        users=10,
        seconds=45.0,
        adopted=adopted,
        stragglers=["report-bot/1.0"],
        probed=[],
        ended_early=ended_early,
    )


def busy() -> Scores:
    scores = Scores(requests=100, swaps=5, exchanges=4)
    scores.losses.update({Loss.EXPIRED: 2, Loss.REVOKED: 1})
    return scores


def test_all_zeros_and_all_deeds_are_no_fault() -> None:
    assert outcome(busy()).faults() == []
    assert outcome(busy()).as_json()["ok"] is True


@pytest.mark.parametrize("zero", ["wrong_user", "past_bound"])
def test_a_zero_that_is_not_zero_is_a_fault(zero: str) -> None:
    scores = busy()
    setattr(scores, zero, 1)
    assert len(outcome(scores).faults()) == 1


def test_p12_one_user_logged_out_is_a_fault() -> None:
    scores = busy()
    scores.judge(Grant("eyJ.a.b", 100.0), got_at=60.0, client="a phone", where="/me")
    assert outcome(scores).faults() == ["logged out unintentionally: 1"]


@pytest.mark.parametrize("deed", ["swaps", "exchanges", "requests"])
def test_a_rehearsal_that_did_nothing_is_a_fault(deed: str) -> None:
    scores = busy()
    setattr(scores, deed, 0)
    assert len(outcome(scores).faults()) == 1
    assert outcome(busy(), adopted=0).faults() == ["no adopted backfilled rows"]


def test_a_rehearsal_done_wrong_fails_by_whom_it_logged_out_alone() -> None:
    wrong = Outcome(
        scores=Scores(), users=1, seconds=1, adopted=0, stragglers=[], probed=[], is_whole=False
    )
    assert wrong.faults() == []
    wrong.scores.judge(Grant("eyJ.a.b", 100.0), got_at=60.0, client="a phone", where="/me")
    assert wrong.faults() == ["logged out unintentionally: 1"]


def test_a_rehearsal_that_ended_early_is_a_fault() -> None:
    assert outcome(busy(), ended_early="the app did not start").faults() == [
        "the app did not start"
    ]
