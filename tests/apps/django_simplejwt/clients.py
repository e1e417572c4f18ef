"""How the desk's own tests talk to it."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from django.contrib.auth.models import User
from rest_framework.test import APIClient


def someone(*, is_staff: bool = False) -> User:
    name = f"user-{uuid.uuid4().hex}"
    return User.objects.create_user(name, password=f"{name}'s password", is_staff=is_staff)


def log_in(user: User) -> dict[str, str]:
    body = {"username": user.username, "password": f"{user.username}'s password"}
    answer = APIClient().post("/api/token/", body)
    assert answer.status_code == 200
    pair: dict[str, str] = answer.json()
    return pair


def as_(token: object, *, scheme: str = "Bearer") -> APIClient:
    client = APIClient()
    client.credentials(HTTP_AUTHORIZATION=f"{scheme} {token}")
    return client


def logged_in(user: User) -> APIClient:
    return as_(log_in(user)["access"])


def refreshed(refresh: object) -> Any:
    return APIClient().post("/api/token/refresh/", {"refresh": str(refresh)})


def until(holds: Callable[[], bool], within_s: float = 10) -> None:
    """Wait for something that another process or thread brings about."""
    deadline = time.monotonic() + within_s
    while not holds():
        assert time.monotonic() < deadline, "it did not come about"
        time.sleep(0.05)


@dataclass
class Device:
    """Stores `access` and `refresh`, refreshes on 401, decodes nothing."""

    user: User
    access: str
    refresh: str

    @classmethod
    def logged_in(cls) -> Device:
        user = someone()
        return cls(user, **log_in(user))

    def ask(self) -> bool:
        """Whether the desk knows its user, after a refresh if need be."""
        answer = as_(self.access).get("/api/me/")
        if answer.status_code == 401:
            self.renew()
            answer = as_(self.access).get("/api/me/")
        said: Any = answer.json()
        assert "eyJ" not in answer.content.decode()
        return bool(said == {"username": self.user.username, "team": "south"})

    def renew(self) -> None:
        pair = refreshed(self.refresh).json()
        self.access, self.refresh = pair["access"], pair["refresh"]
