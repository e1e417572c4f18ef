"""Who holds a leaked key writes every header at will; cutting the key off binds all the same."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from migrator import wiring
from migrator.core.gate import Gate
from migrator.core.presented import Credential, Presented
from migrator.core.verdicts import Admitted, Reason, Refused, Verdict
from tests.rig import ISSUER, SECRET, Rig, sign

LEAKED = "the secret that came with a public image, 2023"
KEYS = [
    {"key": LEAKED, "kid": "2023", "alg": "HS256"},
    {"key": SECRET, "kid": "2025", "alg": "HS256"},
]


@pytest.fixture
def rig(migrated: str) -> Iterator[Rig]:
    yield Rig(migrated, issuers=[{**ISSUER, "keys": KEYS}])
    wiring.stop()


def show(gate: Gate, token: str) -> Verdict:
    header = Credential(token.encode(), "header", frozenset({"a1"}))
    return gate.admit(Presented(header=header)).verdict


@pytest.mark.parametrize("headers", [{"kid": "2023"}, {}], ids=["named", "nameless"])
@pytest.mark.parametrize("phase", ["observe", "swap", "drain"])
def test_p2_a_key_cut_off_is_cut_off_whatever_kid_its_holder_writes(
    rig: Rig, phase: str, headers: dict[str, str]
) -> None:
    rig.move(phase)
    gate = wiring.gate(rig.settings())
    assert isinstance(show(gate, sign("ann", secret=LEAKED, headers=headers)), Admitted)
    rig.execute("INSERT INTO migrator.cutoffs (issuer, kid) VALUES ('a1', '2023')")
    assert show(gate, sign("ann", secret=LEAKED, headers=headers)) == Refused(Reason.CUT_OFF)
    assert isinstance(show(gate, sign("ann", headers={"kid": "2025"})), Admitted)
    assert isinstance(show(gate, sign("ann")), Admitted)


def test_a_kid_that_names_another_key_does_not_verify(rig: Rig) -> None:
    rig.move("swap")
    gate = wiring.gate(rig.settings())
    for kid in ("2025", "2024"):
        verdict = show(gate, sign("ann", secret=LEAKED, headers={"kid": kid}))
        assert isinstance(verdict, Refused)
