"""What Django loads of us as an app: the checks and the command, and no model."""

from __future__ import annotations

from django.apps import AppConfig
from django.core import checks
from django.core.signals import setting_changed


class MigratorConfig(AppConfig):
    """`shims.django` in INSTALLED_APPS."""

    name = "shims.django"
    label = "migrator"
    verbose_name = "From JWTs to sessions"

    def ready(self) -> None:
        """Register the checks; tests that override a setting are read anew."""
        from shims.django.checks import check  # noqa: PLC0415 - needs the apps, as its imports do
        from shims.django.configuration import forget  # noqa: PLC0415 - as above

        checks.register(check)
        setting_changed.connect(forget, dispatch_uid="shims.django")
