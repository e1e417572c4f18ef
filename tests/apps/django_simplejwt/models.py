"""What the desk keeps."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.db import models


class Order(models.Model):
    """One order, of the user who made it."""

    owner: Any = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE)
    item: Any = models.CharField(max_length=80)

    def __str__(self) -> str:
        return str(self.item)
