"""What a bridged project's views and clients see of each other's credentials, in both colours."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.contrib.auth.models import User
from django.test import AsyncClient, Client
from django.test.utils import override_settings

from shims.django.sessions import sessions, subject_of
from tests.apps.django_simplejwt.running import dropped_in
from tests.rig import Rig
from tests.shims.django.site import EARLY
from tests.shims.django.test_project import TABLES


@pytest.fixture
def token(desk_url: str) -> Iterator[str]:
    """A session of a user of the site, which is draining behind the bridge."""
    Rig(desk_url).move("drain")
    routes = {"refresh": ["/told"], "logout": ["/"]}
    changes = dropped_in(SETTINGS={**TABLES, "routes": routes}, BRIDGE=True)
    changes["MIDDLEWARE"] = [EARLY, *changes["MIDDLEWARE"]]
    with override_settings(**changes, ROOT_URLCONF="tests.shims.django.site"):
        subject = subject_of(User.objects.create_user("ada"))
        yield str(sessions().login(subject, legacy=lambda: "").token)


def ask(token: str, path: str, method: str = "GET", **extra: Any) -> Any:
    headers = {"Authorization": f"Bearer {token}"}
    return Client().generic(method, path, headers=headers, **extra)


@async_to_sync
async def aask(token: str, path: str) -> tuple[Any, bytes]:
    answer: Any = await AsyncClient().get(path, headers={"Authorization": f"Bearer {token}"})
    if not answer.streaming:
        return answer, answer.content
    return answer, b"".join([part async for part in answer])


def test_view_reads_a_jwt_and_its_echo_is_the_clients_own_token(token: str) -> None:
    answer = ask(token, "/async")
    assert answer.json()["headers"]["Authorization"] == f"Bearer {token}"
    assert answer.json()["user"] == "ada"
    assert int(answer["Content-Length"]) == len(answer.content)
    answer, body = aask(token, "/async")
    assert answer.json()["headers"]["Authorization"] == f"Bearer {token}"
    assert b"eyJ" not in body, "not in the scope that the view reads either"


def test_echo_in_a_stream_is_replaced_as_it_passes(token: str) -> None:
    answer = ask(token, "/stream-echo")
    assert b"".join(answer.streaming_content) == f"Bearer {token}".encode()
    answer, body = aask(token, "/astream-echo")
    assert (answer.status_code, body) == (200, f"Bearer {token}".encode())


def test_refresh_with_a_body_that_is_too_long_to_read_is_refused(token: str) -> None:
    assert ask(token, "/told", "POST", data="x" * 70_000).status_code == 400
    with override_settings(DATA_UPLOAD_MAX_MEMORY_SIZE=100):
        assert ask(token, "/told", "POST", data="x" * 200).status_code == 400


def test_ended_session_is_refused_without_asking_the_view(token: str) -> None:
    sessions().end(token)
    assert ask(token, "/async").status_code == 401
    assert aask(token, "/async")[0].status_code == 401
