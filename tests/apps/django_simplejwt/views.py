"""The desk's views."""

from __future__ import annotations

from typing import Any

from django.db.models import QuerySet
from rest_framework import mixins, viewsets
from rest_framework.permissions import AllowAny, IsAdminUser
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.serializers import BaseSerializer
from rest_framework.views import APIView

from tests.apps.django_simplejwt.models import Order
from tests.apps.django_simplejwt.serializers import OrderSerializer


class Front(APIView):
    """What everybody may see."""

    permission_classes = (AllowAny,)

    def get(self, request: Request) -> Response:
        """How much is going on."""
        return Response({"orders": Order.objects.count(), "known": request.user.is_authenticated})


class Profile(APIView):
    """Who asks."""

    def get(self, request: Request) -> Response:
        """The user, with the team that the token says."""
        token: Any = request.auth
        return Response({"username": request.user.get_username(), "team": token["team"]})


class Report(APIView):
    """What staff alone may see."""

    permission_classes = (IsAdminUser,)

    def get(self, request: Request) -> Response:
        """Everybody's orders."""
        return Response({"orders": Order.objects.count(), "for": request.user.get_username()})


class Password(APIView):
    """A new password."""

    def post(self, request: Request) -> Response:
        """Take it, if the old one is right."""
        data: Any = request.data
        if not request.user.check_password(data.get("old", "")):
            return Response({"old": ["Wrong password."]}, status=400)
        request.user.set_password(data["new"])
        request.user.save()
        return Response(status=204)


class Orders(
    mixins.CreateModelMixin,
    mixins.DestroyModelMixin,
    mixins.ListModelMixin,
    mixins.RetrieveModelMixin,
    viewsets.GenericViewSet[Order],
):
    """One's own orders."""

    serializer_class = OrderSerializer

    def get_queryset(self) -> QuerySet[Order]:
        """Those of the user who asks."""
        owner: Any = self.request.user
        return Order.objects.filter(owner=owner).order_by("id")

    def perform_create(self, serializer: BaseSerializer[Order]) -> None:
        """Make it the user's own."""
        serializer.save(owner=self.request.user)
