"""Starts the desk in this process, bare or as a deployment's settings say.

Django takes its settings once a process; what a stage changes lies over them while it runs.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import django
import pytest
from django.conf import settings

from migrator.stores.drivers import conninfo
from tests.conftest import CacheServer, DatabaseServer
from tests.rig import SWAP_KEY

Deploy = Callable[[str | None], None]
OURS = "shims.django.middleware.DualAcceptMiddleware"


def configure() -> None:
    """Give Django the desk's settings; once, before anything of its is imported."""
    from tests.apps.django_simplejwt import settings as desk  # noqa: PLC0415 - a module of values

    if not settings.configured:
        settings.configure(
            **{name: getattr(desk, name) for name in vars(desk) if name.isupper()},
        )
        django.setup()


def make_tables() -> None:
    """The app's own tables, as its migrations leave them."""
    from django.apps import apps  # noqa: PLC0415 - after configure()
    from django.core.management import call_command  # noqa: PLC0415 - as above
    from django.test.utils import override_settings  # noqa: PLC0415 - as above

    unmigrated = {each.label: None for each in apps.get_app_configs()}  # all tables at once
    with override_settings(MIGRATION_MODULES=unmigrated):
        call_command("migrate", verbosity=0, run_syncdb=True)


@pytest.fixture(scope="session")
def desk_template(postgres: DatabaseServer, migrated_template: str) -> Iterator[str]:
    """The name of a database with the desk's tables and ours."""
    name = f"desk_{uuid.uuid4().hex}"
    with running(postgres.create_database(name, migrated_template)):
        make_tables()
    yield name
    postgres.drop_database(name)


@contextmanager
def running(url: str, **changes: Any) -> Iterator[None]:
    """The desk over the database at `url`, its settings changed as given."""
    from django.db import connections  # noqa: PLC0415 - after configure()
    from django.test.utils import override_settings  # noqa: PLC0415 - as above

    parts = conninfo(url)
    names = {"NAME": "dbname", "USER": "user", "PASSWORD": "password", "HOST": "host"}
    where = {key: str(parts.get(name) or "") for key, name in names.items()}
    where["PORT"] = str(parts.get("port") or "")
    connections["default"].close()
    connections.settings["default"].update(where)
    with ExitStack() as stack:
        stack.callback(connections["default"].close)
        stack.enter_context(override_settings(**changes))
        yield


def dropped_in(**migrator: Any) -> dict[str, Any]:
    """All that a project adds to its settings."""
    return {
        "INSTALLED_APPS": [*settings.INSTALLED_APPS, "shims.django"],
        "MIDDLEWARE": [*settings.MIDDLEWARE, OURS],
        "MIGRATOR": {"SIMPLEJWT": True, **migrator},
    }


def tables(redis: CacheServer) -> dict[str, object]:
    """All that the desk's operator writes; the rest follows from the desk's own settings."""
    return {
        "environment": "test",
        "app": "desk",
        "expected_nodes": 1,
        "redis": {"url": redis.url},
        "memory": {"poll_ms": 100},
        "swap": {"keys": [{"id": "k1", "secret": SWAP_KEY}]},
    }
