"""A rollout moved by commands while a real node serves: gates judge what it reports."""

from __future__ import annotations

import time
from pathlib import Path

from migrator import wiring
from migrator.core.presented import Credential, Presented
from migrator.core.verdicts import Admitted, Reason, Refused
from tests.cli.deployment import Deployment
from tests.rig import sign


def test_a_cutover_waits_for_the_token_a_node_handed_out(migrated: str, tmp_path: Path) -> None:
    place = Deployment(migrated, tmp_path, expected=1)
    settings = place.settings
    gate, sessions = wiring.gate(settings), wiring.sessions(settings)

    def show(jwt: str) -> object:
        header = Credential(jwt.encode(), "header", frozenset({"a1"}))
        return gate.admit(Presented(header=header)).verdict

    def jwt(lasts_s: float) -> str:
        return sign("ann", lasts_s=lasts_s, claims={"token_type": "access"})

    try:
        show(jwt(60))
        place.move("advance", "swap", "--percent", "0", "--wait-gates", "10")
        issued = sessions.login("ann", legacy=lambda: jwt(4))
        assert issued.kind == "legacy"
        assert isinstance(issued.token, str)
        assert isinstance(show(issued.token), Admitted)
        place.move("advance", "swap", "--percent", "100")
        place.move("advance", "drain")
        time.sleep(2.5)  # a heartbeat, with what it issued
        held = place.move("cutover", "--all", code=3)
        assert "drain-horizon" in held["error"]["what"]
        assert place.json("status")["drain"]["last_issued_at"] is not None
        place.execute("DELETE FROM migrator.legacy_subjects")  # the first one, that lives a minute
        place.execute("DELETE FROM migrator.legacy_tokens")
        place.move("cutover", "--all", "--wait-gates", "15")
        refused = show(jwt(60))
        assert refused == Refused(Reason.LEGACY_RETIRED)
        place.json("rollback")
        assert isinstance(show(jwt(60)), Admitted)
    finally:
        wiring.stop()
