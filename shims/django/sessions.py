"""What a Django app calls: the toolkit's `Sessions`, and revocations that wait for the commit.

A revocation is seen everywhere at once, an uncommitted row nowhere: ended first, a login with the
old password could still come in between, and a rolled back transaction would have logged a user
out for nothing. What is left is a process that dies between the two: whoever must not leave even
that gap calls the method itself and commits afterwards.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast
from uuid import UUID

from django.db import transaction

from migrator import wiring
from migrator.core.app import AsyncSessions, Sessions
from migrator.settings import Settings
from shims.django.configuration import configuration


def sessions() -> Sessions:
    """What blocking views call at their login, refresh and logout routes.

    May be kept by a module of views: the project's settings are read when a method is called.
    """
    return cast("Sessions", _Later(wiring.sessions))


def async_sessions() -> AsyncSessions:
    """What async views call, kept or not as `sessions` is."""
    return cast("AsyncSessions", _Later(wiring.async_sessions))


def subject_of(user: Any) -> str:
    """The subject that a user is in our tables: its USER_FIELD."""
    field = configuration().user_field
    return str(user.pk if field == "pk" else getattr(user, field))


def end_on_commit(token_or_id: str | bytes | UUID, *, using: str | None = None) -> None:
    """`Sessions.end` once the open transaction is committed, at once where there is none.

    Args:
        token_or_id: as `Sessions.end` takes it.
        using: the database whose transaction that is.

    Raises:
        Unavailable: out of the commit: it holds, and the session still lives. Answer 503.
    """
    end = sessions().end
    transaction.on_commit(lambda: _call(end, token_or_id), using=using)


def end_all_on_commit(user: Any, *, realm: str | None = None, using: str | None = None) -> None:
    """Log `user` out everywhere once the open transaction is committed.

    For a new password, an account that is closed or one that was taken over. Hand the user who
    asked for it a session afterwards: this one ends too.

    Args:
        user: whose sessions and legacy tokens; read now, so that a deleted user still has a key.
        realm: as `Sessions.end_all` takes it.
        using: the database whose transaction that is.

    Raises:
        Unavailable: out of the commit: it holds, and the sessions still live. Answer 503.
    """
    end_all, subject = sessions().end_all, subject_of(user)
    transaction.on_commit(lambda: _call(end_all, subject, realm=realm), using=using)


class _Later:
    """An object that is made of the project's settings once somebody asks something of it.

    Views ask for theirs while the URLs are being imported, and the settings are made of those.
    """

    def __init__(self, make: Callable[[Settings], object]) -> None:
        self._make = make

    def __getattr__(self, name: str) -> Any:
        return getattr(self._make(configuration().settings), name)


def _call(end: Any, *arguments: Any, **options: Any) -> None:
    end(*arguments, **options)
