"""A Django site over a database of its own, in this process, with any settings laid over it."""

from __future__ import annotations

import uuid
from collections.abc import Iterator

import pytest

from migrator import wiring
from tests.apps.django_simplejwt.running import configure, running
from tests.apps.django_simplejwt.running import desk_template as desk_template
from tests.conftest import DatabaseServer

configure()


@pytest.fixture
def desk_url(postgres: DatabaseServer, desk_template: str) -> Iterator[str]:
    """The URL of a database with the tables of a project and ours, which the project uses."""
    name = f"site_{uuid.uuid4().hex}"
    url = postgres.create_database(name, desk_template)
    with running(url):
        yield url
    wiring.stop()
    postgres.drop_database(name)
