"""What a project's own code calls: revocations that wait for its transaction."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from asgiref.sync import async_to_sync
from django.contrib.auth.models import User
from django.db import transaction
from django.test import AsyncClient, Client
from django.test.utils import override_settings
from rest_framework.test import APIClient
from rest_framework_simplejwt.tokens import AccessToken

from shims.django.sessions import end_all_on_commit, end_on_commit, sessions, subject_of
from tests.apps.django_simplejwt.running import dropped_in
from tests.rig import Rig
from tests.shims.django.test_project import TABLES


@pytest.fixture
def rig(desk_url: str) -> Iterator[Rig]:
    """The desk while it drains, its views behind the bridge."""
    rig = Rig(desk_url)
    rig.move("drain")
    with override_settings(**dropped_in(SETTINGS=TABLES, BRIDGE=True)):
        yield rig


@pytest.fixture
def ann(rig: Rig) -> User:
    return User.objects.create_user("ann", password="ann's password")


def _token(user: User) -> str:
    issued = sessions().login(subject_of(user), legacy=lambda: "")
    assert issued.kind == "session"
    return str(issued.token)


def _status(token: object) -> int:
    client = APIClient()
    client.credentials(HTTP_AUTHORIZATION=f"Bearer {token}")
    return int(client.get("/").status_code)


def test_views_may_keep_what_they_call(desk_url: str) -> None:
    """Their module is imported by reading the URLs, of which the settings are made."""
    Rig(desk_url).move("drain")
    with override_settings(
        **dropped_in(SETTINGS=TABLES), ROOT_URLCONF="tests.shims.django.keeping_site"
    ):
        assert Client().post("/enter").content.startswith(b"sess_")
        answer = async_to_sync(AsyncClient().post)("/aenter")
        assert answer.content.startswith(b"sess_")


def test_everything_of_a_user_ends_when_the_transaction_commits(ann: User) -> None:
    token, jwt = _token(ann), AccessToken.for_user(ann)
    with transaction.atomic():
        ann.set_password("better")
        ann.save()
        end_all_on_commit(ann)
        assert _status(token) == 200
    assert (_status(token), _status(jwt)) == (401, 401)


def test_nothing_ends_when_the_transaction_is_rolled_back(ann: User) -> None:
    token = _token(ann)
    with transaction.atomic():
        end_all_on_commit(ann)
        end_on_commit(token)
        transaction.set_rollback(True)
    assert _status(token) == 200


def test_one_session_ends_when_the_transaction_commits(ann: User) -> None:
    token, other = _token(ann), _token(ann)
    with transaction.atomic():
        end_on_commit(token)
    assert (_status(token), _status(other)) == (401, 200)


def test_deleted_user_is_logged_out_too(ann: User) -> None:
    token = _token(ann)
    with transaction.atomic():
        end_all_on_commit(ann)
        ann.delete()
    assert _status(token) == 401


def test_subject_is_the_field_that_the_project_names(ann: User) -> None:
    assert subject_of(ann) == str(ann.pk)
    with override_settings(MIGRATOR={"SETTINGS": TABLES, "USER_FIELD": "username"}):
        assert subject_of(ann) == "ann"
