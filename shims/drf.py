"""Django REST framework: the middleware's principal as authentication, its scopes as permission.

Every view of DRF asks its own authentication classes and not `request.user`:

    DEFAULT_AUTHENTICATION_CLASSES = ["shims.drf.DualAcceptAuthentication"]

stands in the place of the app's own class, for both kinds of credential. In front of it,

    DEFAULT_AUTHENTICATION_CLASSES = ["shims.drf.SessionTokenAuthentication",
                                      "rest_framework_simplejwt.authentication.JWTAuthentication"]

knows sessions and leaves JWTs to the app, `request.auth` included. CSRF is the middleware's.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, Final

from django.core.exceptions import ImproperlyConfigured
from rest_framework.authentication import BaseAuthentication
from rest_framework.exceptions import AuthenticationFailed
from rest_framework.permissions import BasePermission
from rest_framework.request import Request
from rest_framework.views import APIView

from migrator.core.verdicts import Principal

_REALM: Final = "api"
_PRINCIPAL: Final = "principal"
_USER: Final = "principal_user"


class DualAcceptAuthentication(BaseAuthentication):
    """Whom `shims.django.middleware` admitted, by a session or by a legacy token.

    `request.user` is the principal's user, `request.auth` the principal.
    """

    scheme = "Bearer"

    def authenticate(self, request: Request) -> tuple[Any, Principal] | None:
        """The user and the principal; None where the middleware found no credential.

        Raises:
            AuthenticationFailed: the project lets no such user in (401).
        """
        principal = principal_of(request)
        if principal is None or not self.knows(principal):
            return None
        user: Any = getattr(request._request, _USER)  # noqa: SLF001 - DRF's own way to Django's
        if not user.is_authenticated:
            raise AuthenticationFailed(code="user_not_found")
        return user, principal

    def authenticate_header(self, request: Request) -> str:  # noqa: ARG002 - DRF's signature
        """The challenge of a 401; without one DRF would answer 403."""
        return f'{self.scheme} realm="{_REALM}"'

    def knows(self, principal: Principal) -> bool:  # noqa: ARG002 - of any kind
        """Whether this class answers for such a principal."""
        return True


class SessionTokenAuthentication(DualAcceptAuthentication):
    """The same for sessions only: legacy tokens are left to the classes behind this one."""

    def knows(self, principal: Principal) -> bool:
        """Whether it came with a session token."""
        return principal.via == "session"


class HasScopes(BasePermission):
    """Whether somebody is logged in whose principal may do what `required_scopes` say.

    They are a list, or a dict of lists by method; a method that it does not name is forbidden.
    """

    def has_permission(self, request: Request, view: APIView) -> bool:
        """Whether every scope is there.

        Raises:
            ImproperlyConfigured: the view names none.
        """
        principal = principal_of(request)
        wanted = _required(view, request.method or "")
        if principal is None or wanted is None or not request.user.is_authenticated:
            return False
        return principal.scopes >= wanted


def principal_of(request: Request) -> Principal | None:
    """The principal of a request of DRF's; None where there is none, or no middleware."""
    principal: Principal | None = getattr(request._request, _PRINCIPAL, None)  # noqa: SLF001 - as above
    return principal


def _required(view: APIView, method: str) -> frozenset[str] | None:
    required: Mapping[str, Collection[str]] | Collection[str] | None
    required = getattr(view, "required_scopes", None)
    if required is None:
        raise ImproperlyConfigured(f"{type(view).__name__} has no required_scopes")
    if isinstance(required, Mapping):
        of_method = required.get("GET" if method in {"HEAD", "OPTIONS"} else method)
        return None if of_method is None else frozenset(of_method)
    return frozenset(required)
