"""How the desk's tokens and orders look."""

from __future__ import annotations

from typing import Any

from rest_framework import serializers
from rest_framework_simplejwt.serializers import TokenObtainPairSerializer
from rest_framework_simplejwt.tokens import Token

from tests.apps.django_simplejwt.models import Order


class TeamTokenSerializer(TokenObtainPairSerializer):
    """Tokens that say which team their user was in at login."""

    @classmethod
    def get_token(cls, user: Any) -> Token:
        """A refresh token; its access tokens carry the same claim."""
        token = super().get_token(user)
        token["team"] = "north" if user.is_staff else "south"
        return token


class OrderSerializer(serializers.ModelSerializer[Order]):
    """An order."""

    class Meta:
        model = Order
        fields = ("id", "item")
