"""The Node app's servers, and sites with a database of their own before them."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from migrator.control import schema
from tests.conftest import DatabaseServer
from tests.system.proxies.node_app import installed
from tests.system.proxies.standing import (
    ACCESS_SECRET,
    REFRESH_SECRET,
    Settings,
    Site,
    free_port,
    running,
    site,
)

# Each worker of xdist has one kind of proxy, so that sites are started once.
KINDS = [pytest.param(kind, marks=pytest.mark.xdist_group(kind)) for kind in ("nginx", "caddy")]
TRANSPORTS = ("header", "cookie")


def environ(transport: str, **more: str) -> dict[str, str]:
    """What the app is deployed with, and its own tests are told."""
    return {
        "JWT_ACCESS_SECRET": ACCESS_SECRET,
        "JWT_REFRESH_SECRET": REFRESH_SECRET,
        "TOKEN_TRANSPORT": transport,
        **more,
    }


@pytest.fixture(scope="session")
def app(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Node app, with its packages."""
    return installed(tmp_path_factory.mktemp("node"))


@pytest.fixture(scope="module", params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    """Which proxy."""
    return str(request.param)


@pytest.fixture(scope="module", params=TRANSPORTS)
def transport(request: pytest.FixtureRequest) -> str:
    """How the app's clients send their JWTs."""
    return str(request.param)


@dataclass(frozen=True, slots=True)
class Ground:
    """Where sites are built."""

    app: Path
    postgres: DatabaseServer
    template: str
    folders: pytest.TempPathFactory

    @contextmanager
    def running_app(self, transport: str, **more: str) -> Iterator[int]:
        """The port of the Node app, deployed with more variables."""
        port = free_port()
        with running(
            *("node", "src/server.js"),
            port=port,
            log=self.folders.mktemp("log") / "app.log",
            environ={**environ(transport, **more), "PORT": str(port)},
            cwd=self.app,
        ):
            yield port

    @contextmanager
    def site(self, kind: str, app_port: int, **more: object) -> Iterator[Site]:
        """A site with a database of its own, its settings changed by more variables."""
        with (
            _database(self.postgres, self.template) as database,
            site(kind, Settings(self.folders.mktemp(kind), database, more=more), app_port) as made,
        ):
            yield made

    @contextmanager
    def whole(self, kind: str, transport: str, **more: str) -> Iterator[Site]:
        """The app and a site before it."""
        with self.running_app(transport, **more) as port, self.site(kind, port) as made:
            yield made


@pytest.fixture(scope="session")
def ground(
    app: Path,
    postgres: DatabaseServer,
    migrated_template: str,
    tmp_path_factory: pytest.TempPathFactory,
) -> Ground:
    """The ground that every site stands on."""
    return Ground(app, postgres, migrated_template, tmp_path_factory)


@contextmanager
def _database(postgres: DatabaseServer, template: str) -> Iterator[str]:
    name = f"site_{uuid.uuid4().hex}"
    yield postgres.create_database(name, template)
    postgres.drop_database(name)


def reach(site: Site, phase: str, percent: int = 100) -> None:
    """Bring the rollout where committed moves would have left it; `retired` for good."""
    site.move(phase, percent)
    if phase == "retired":
        site.settings.rig.execute("UPDATE migrator.rollout SET legacy_removed_at = now()")
        schema.contract(site.settings.database)
