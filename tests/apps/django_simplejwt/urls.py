"""The desk's addresses."""

from __future__ import annotations

from django.urls import include, path
from rest_framework.routers import SimpleRouter
from rest_framework_simplejwt import views as jwt

from tests.apps.django_simplejwt import views

router = SimpleRouter()
router.register("orders", views.Orders, basename="order")

urlpatterns = [
    path("", views.Front.as_view()),
    path(
        "api/",
        include(
            [
                path("token/", jwt.TokenObtainPairView.as_view()),
                path("token/refresh/", jwt.TokenRefreshView.as_view()),
                path("token/blacklist/", jwt.TokenBlacklistView.as_view()),
                path("me/", views.Profile.as_view()),
                path("report/", views.Report.as_view()),
                path("password/", views.Password.as_view()),
                path("", include(router.urls)),
            ]
        ),
    ),
]
