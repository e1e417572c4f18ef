"""The Node app's own tests pass bare, and through each proxy at every stage of the migration.

Only configuration differs: the app and its tests know nothing of us.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.system.proxies.conftest import TRANSPORTS, Ground, environ, reach
from tests.system.proxies.node_app import own_tests
from tests.system.proxies.standing import Site

pytestmark = [pytest.mark.system, pytest.mark.timeout(300)]

# In swap at 0 % the app issues JWTs, at 100 % its clients hold session tokens only.
STAGES = [
    ("observe", 0),
    ("swap", 0),
    ("swap", 100),
    ("drain", 100),
    ("cutover", 100),
    ("retired", 100),
]


@pytest.fixture(scope="module")
def standing(kind: str, transport: str, ground: Ground) -> Iterator[Site]:
    with ground.whole(kind, transport) as made:
        yield made


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.xdist_group("nginx")
def test_the_apps_own_tests_pass_bare(app: Path, transport: str, ground: Ground) -> None:
    with ground.running_app(transport) as port:
        assert "pass 15" in own_tests(app, f"http://127.0.0.1:{port}", environ(transport))


@pytest.mark.parametrize(("phase", "percent"), STAGES, ids=str)
def test_the_apps_own_tests_pass_behind_a_proxy(
    app: Path, standing: Site, transport: str, phase: str, percent: int
) -> None:
    reach(standing, phase, percent)
    assert "pass 15" in own_tests(app, standing.url, environ(transport))
