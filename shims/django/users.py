"""Whom of a project's users a principal is, looked up when somebody asks and once a request.

A subject that is nobody, or whom the project's rule keeps out, is `AnonymousUser`: a principal
says who presented a credential, a user says whom the project lets in.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from hashlib import md5
from typing import Any, cast

from asgiref.sync import sync_to_async
from django.contrib.auth import get_user_model
from django.contrib.auth.models import AnonymousUser
from django.core.exceptions import ObjectDoesNotExist, ValidationError
from django.http import HttpRequest
from django.utils.crypto import constant_time_compare
from django.utils.functional import SimpleLazyObject

from migrator.core.verdicts import Principal
from shims.django.configuration import Configuration


class PrincipalRequest(HttpRequest):
    """What a request is to its views once the middleware has seen it; never constructed.

    `principal` None: there is none. `principal_user` is the principal's user, or AnonymousUser.
    """

    principal: Principal | None
    principal_user: Any
    auser: Callable[[], Awaitable[Any]]


@dataclass(slots=True)
class Lookup:
    """The user of one request; asked any number of times, it reads the database once."""

    principal: Principal
    configuration: Configuration
    found: list[Any] = field(default_factory=list)

    def get(self) -> Any:
        """The user, blocking."""
        if not self.found:
            self.found.append(user_of(self.principal, self.configuration))
        return self.found[0]

    async def aget(self) -> Any:
        """The user, for async views."""
        return self.found[0] if self.found else await sync_to_async(self.get)()


def user_of(principal: Principal, configuration: Configuration) -> Any:
    """The user a principal is, `AnonymousUser` where the project lets nobody of that name in."""
    manager = get_user_model()._default_manager  # noqa: SLF001 - Django's documented way
    try:
        user = manager.get(**{configuration.user_field: principal.subject})
    except (ObjectDoesNotExist, ValueError, OverflowError, ValidationError):
        return AnonymousUser()
    is_in = configuration.user_rule(user) and _has_password_of(principal, user, configuration)
    return user if is_in else AnonymousUser()


def attach(
    request: HttpRequest, principal: Principal | None, configuration: Configuration
) -> bool:
    """Let the request's views know the principal; whether its user became `request.user`."""
    known = cast("PrincipalRequest", request)
    known.principal = principal
    if principal is None:
        known.principal_user = AnonymousUser()
        return False
    lookup = Lookup(principal, configuration)
    known.principal_user = SimpleLazyObject(lookup.get)
    if configuration.user_from not in {"principal", principal.via}:
        return False
    known.user = known.principal_user
    known.auser = lookup.aget
    return True


def _has_password_of(principal: Principal, user: Any, configuration: Configuration) -> bool:
    """Whether the password is still that of the login, where simplejwt's tokens say which."""
    said = principal.claims.get(configuration.password_claim)
    if not configuration.password_claim or said is None:
        return True
    now = md5(str(user.password).encode(), usedforsecurity=False).hexdigest().upper()
    return constant_time_compare(str(said), now)
