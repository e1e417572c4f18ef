"""A site whose logins are dj-rest-auth's cookies, which ask for no CSRF token."""

from __future__ import annotations

from dj_rest_auth.jwt_auth import JWTCookieAuthentication  # type: ignore[import-untyped]
from django.urls import include, path
from rest_framework.permissions import IsAuthenticated
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView


class Basket(APIView):
    """Something that a forged request would change."""

    authentication_classes = (JWTCookieAuthentication,)
    permission_classes = (IsAuthenticated,)

    def post(self, request: Request) -> Response:
        """Put something in."""
        return Response({"basket": request.user.get_username()})


urlpatterns = [
    path("auth/", include("dj_rest_auth.urls")),
    path("basket/", Basket.as_view()),
]
