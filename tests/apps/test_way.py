"""What the way costs: a few lines of an app, and nobody's login."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from migrator import wiring
from tests.apps.conftest import KINDS, Answered, Shop, open_shop, reach
from tests.apps.deployment import Deployment

HERE = Path(__file__).parent


@pytest.mark.parametrize("app", ["fastapi", "flask"])
def test_dropping_in_changes_a_dozen_lines(app: str) -> None:
    before, after = (
        (HERE / f"{app}_{form}.py").read_text().splitlines() for form in ("bare", "dropped_in")
    )
    changed = [line for line in difflib.ndiff(before, after) if line[0] in "+-"]
    code = [line for line in changed if line[2:].startswith(" ")]  # not imports, not the title
    added = [line for line in code if line[0] == "+"]
    removed = [line for line in code if line[0] == "-"]
    assert len(added) <= 13
    assert len(removed) == 3, "login, refresh and logout: the app keeps its own check of JWTs"
    assert sum("DualAcceptMiddleware" in line for line in added) == 1


@pytest.fixture(params=KINDS)
def deploy(
    request: pytest.FixtureRequest,
    migrated: str,
    redis_url: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Callable[..., Shop]]:
    """Starts the shop anew, in a phase or bare."""
    deployment = Deployment(tmp_path, migrated, redis_url)
    for variable, value in deployment.environ().items():
        monkeypatch.setenv(variable, value)
    with ExitStack() as closing:

        def deployed(phase: str | None, percent: int = 100) -> Shop:
            closing.close()
            wiring.stop()
            if phase is not None:
                reach(deployment, phase, percent)
            return open_shop(request.param, bare=phase is None, closing=closing)

        yield deployed
    wiring.stop()


def me(shop: Shop, token: str) -> Answered:
    return shop.ask("GET", "/me", token=token)


ON_THE_WAY = [
    ("observe", 0),
    ("swap", 0),
    ("swap", 50),
    ("swap", 100),
    ("drain", 100),
    ("cutover", 100),
    ("drain", 100),
    ("swap", 100),
    ("drain", 100),
    ("cutover", 100),
    ("retired", 100),
]


@pytest.mark.parametrize("user", ["ann", "bob"], ids=["within half", "beyond half"])
def test_a_client_that_adopts_is_never_logged_out(deploy: Callable[..., Shop], user: str) -> None:
    token = deploy(None).log_in(user)["access"]
    for phase, percent in ON_THE_WAY:
        shop = deploy(phase, percent)
        for _ in range(2):
            answered = me(shop, token)
            assert answered.body == {"user": user}, phase
            token = answered.token or token


def test_a_client_that_only_refreshes_is_never_logged_out(deploy: Callable[..., Shop]) -> None:
    pair = deploy(None).log_in()
    for phase, percent in ON_THE_WAY:
        shop = deploy(phase, percent)
        answered = shop.ask("POST", "/refresh", json={"refresh": pair["refresh"]})
        assert answered.status == 200, phase
        pair = answered.body
        assert me(shop, pair["access"]).body == {"user": "ann"}, phase


def test_a_straggler_is_refused_at_cutover_and_comes_back_with_a_rollback(
    deploy: Callable[..., Shop],
) -> None:
    token = deploy(None).log_in()["access"]
    seen = {phase: me(deploy(phase, percent), token).status for phase, percent in ON_THE_WAY[:6]}
    assert seen == {"observe": 200, "swap": 200, "drain": 200, "cutover": 401}
    assert me(deploy("drain"), token).status == 200
    deploy("cutover")
    assert me(deploy("retired"), token).status == 401


def test_p5_logins_made_on_the_way_outlive_every_rollback(deploy: Callable[..., Shop]) -> None:
    token = deploy("drain").log_in()["access"]
    for phase, percent in [("swap", 100), ("swap", 0), ("observe", 0), ("drain", 100)]:
        assert me(deploy(phase, percent), token).body == {"user": "ann"}


@contextmanager
def _logged_out(shop: Shop, *tokens: str) -> Iterator[None]:
    yield
    for token in tokens:
        assert me(shop, token).status == 401


def test_a_logout_holds_in_every_phase_after_it(deploy: Callable[..., Shop]) -> None:
    jwt = deploy(None).log_in()["access"]
    shop = deploy("swap")
    token = me(shop, jwt).token
    assert token is not None
    with _logged_out(shop, token, jwt):
        assert shop.ask("POST", "/logout", token=token).status == 204
    for phase in ("observe", "swap", "drain", "cutover", "retired"):
        with _logged_out(deploy(phase), token, jwt):
            pass
