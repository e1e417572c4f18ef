"""A revoked token shown as another issuer's, whose key is the same, would be a new one."""

from __future__ import annotations

from typing import Any

import pytest

from migrator.core.errors import BadSettings
from tests.rig import ISSUER, Rig

TWIN = {**ISSUER, "id": "b1", "name": "twin", "transport": [{"cookie": "access_token"}]}


def build(twin: dict[str, Any]) -> None:
    main = {**ISSUER, "realm": "users"}
    Rig("postgresql://nobody@localhost/none").settings(issuers=[main, {"realm": "staff", **twin}])


@pytest.mark.parametrize("changes", [{}, {"issuer": "*"}, {"realm": "users"}])
def test_two_issuers_that_one_token_fits_are_no_settings(changes: dict[str, Any]) -> None:
    with pytest.raises(BadSettings) as refused:
        build({**TWIN, **changes})
    assert [problem.id for problem in refused.value.problems] == ["settings.twin-issuers"]


@pytest.mark.parametrize(
    "changes",
    [
        {"issuer": "https://staff.example"},
        {"audience": ["staff"]},
        {"purpose": {"require": {"token_type": "staff"}}},
        {"keys": ["another secret of the tests, long enough too"]},
    ],
)
def test_issuers_that_their_tokens_tell_apart_may_share_a_secret(changes: dict[str, Any]) -> None:
    build({**TWIN, **changes})
