"""Refusals as the project itself words them: its clients are keyed to statuses, codes and bodies.

The middleware answers before any view is asked. Where the project has simplejwt, what is said is
that library's exception for a credential like this one, and the project's own exception handler,
renderers and language make the answer of it. `http.refusal` of the settings wins over this, and
whatever goes wrong here ends in the plain answer.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, NoReturn, cast

from django.http import HttpRequest
from django.utils.translation import gettext as _
from rest_framework.exceptions import APIException
from rest_framework.request import Request
from rest_framework_simplejwt.authentication import JWTAuthentication
from rest_framework_simplejwt.exceptions import InvalidToken
from rest_framework_simplejwt.settings import api_settings
from rest_framework_simplejwt.views import TokenViewBase

from migrator.core.presented import Route
from migrator.core.reasons import Word
from migrator.core.verdicts import Reason, status, word
from migrator.redacting import logger
from shims.answers import Answer

_log = logger("migrator.django")
_UNAUTHORIZED: Final = 401
# Keys of the library's own catalogues. A token that is on its list is what it knows as revoked.
_MESSAGES: Final[Mapping[Word, str]] = {
    "invalid": "Token is invalid",
    "expired": "Token is expired",
    "revoked": "Token is blacklisted",
    "legacy_retired": "Token is invalid",
}
_WRONG_TYPE: Final = "Token has wrong type"
_NOT_VALID: Final = "Given token not valid for any token type"
_BY_TOKEN: Final[frozenset[Route | None]] = frozenset({"refresh", "logout"})


class Refusing(TokenViewBase):
    """A view of the library's that does nothing but raise what it was made with."""

    error: Exception | None = None

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> NoReturn:  # noqa: ARG002 - DRF's signature
        """Raise it where DRF asks who the user is.

        Raises:
            Exception: as it was made to.
        """
        assert self.error is not None  # `answer` makes no other
        raise self.error


def answer(request: HttpRequest, reason: Reason, route: Route | None) -> Answer | None:
    """The project's own answer to a refusal; None: it has no word of its own for that."""
    try:
        error = _error(request, reason, route)
        return None if error is None else _answer(request, error)
    except Exception as failed:  # noqa: BLE001 - a refusal must not fail by the project's own code
        why = type(failed).__name__  # and no more: its text may quote what was presented
        _log.warning("refusal.unworded", extra={"event": "refusal.unworded", "why": why})
        return None


def _error(request: HttpRequest, reason: Reason, route: Route | None) -> Exception | None:
    if reason is Reason.MALFORMED_REQUEST:
        return _of_the_header(request) if route is None else None
    if status(reason) != _UNAUTHORIZED:
        return None
    message = _WRONG_TYPE if reason is Reason.WRONG_PURPOSE else _MESSAGES[word(reason)]
    if route in _BY_TOKEN:  # these read one token of their body, and no header
        return InvalidToken(_(message))
    tried = [
        {"token_class": each.__name__, "token_type": each.token_type, "message": _(message)}
        for each in api_settings.AUTH_TOKEN_CLASSES
    ]
    return InvalidToken({"detail": _(_NOT_VALID), "messages": tried})


def _of_the_header(request: HttpRequest) -> Exception | None:
    """What the library has against the form of the header."""
    library = JWTAuthentication()
    header = library.get_header(cast("Request", request))  # it reads META alone
    try:
        library.get_raw_token(header or b"")
    except APIException as error:
        return error
    return None


def _answer(request: HttpRequest, error: Exception) -> Answer:
    view = Refusing(error=error)
    view.setup(request)
    response: Any = view.dispatch(request)
    response.render()
    del response["Allow"]  # of the view that never was
    response.setdefault("Cache-Control", "no-store")
    response["Content-Length"] = str(len(response.content))
    headers = tuple(
        (name.encode("latin-1"), value.encode("latin-1")) for name, value in response.items()
    )
    return Answer(response.status_code, headers, response.content)
