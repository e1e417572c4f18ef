"""Django: both credentials on the same routes, in an app's own settings and in its own words.

    INSTALLED_APPS = [..., "shims.django"]
    MIDDLEWARE = [..., "django.contrib.auth.middleware.AuthenticationMiddleware",
                  "shims.django.middleware.DualAcceptMiddleware", ...]
    MIGRATOR = {"SIMPLEJWT": True}

`configuration.py` says what `MIGRATOR` may hold, `checks.py` what `manage.py check` tells of it.
Nothing is imported here: Django loads apps before it loads settings of theirs.
"""
