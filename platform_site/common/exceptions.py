"""Every error in one shape: ``{"code", "detail", "errors": [{"message", "code", "node", "field"}]}``.

``exception_handler`` is for the views of the REST API; ``not_found`` and its like are Django's own handlers, which answer
in the same shape below ``/api/`` and with a page elsewhere.
"""

from __future__ import annotations

import errno
import logging
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence

from django.core.exceptions import PermissionDenied, RequestDataTooBig, TooManyFilesSent
from django.db import DatabaseError, InterfaceError, OperationalError
from django.http import Http404, HttpRequest, HttpResponse, JsonResponse
from django.views import defaults
from rest_framework import exceptions as rest
from rest_framework.response import Response
from rest_framework.views import set_rollback

from platform_site.common.errors import DomainError, InvalidInput, Problem, StorageFull, TooLarge, Unavailable

logger = logging.getLogger(__name__)

ErrorBody = dict[str, object]
_CODES = {400: "invalid", 401: "not_authenticated", 403: "permission_denied", 404: "not_found", 500: "server_error"}
_DISK_FULL = "53100"


def error_body(code: str, detail: str, errors: Sequence[Problem] = ()) -> ErrorBody:
    """Return the one shape."""
    return {"code": code, "detail": detail, "errors": [problem.as_json() for problem in errors]}


def exception_handler(error: Exception, _context: Mapping[str, object]) -> Response | None:
    """Answer an exception of a REST view; None leaves it to Django, which logs it and answers 500."""
    domain_error = as_domain_error(error)
    if domain_error is not None:
        set_rollback()
        body = error_body(domain_error.error_code, domain_error.detail, domain_error.errors)
        return Response(body, status=domain_error.status, headers=getattr(domain_error, "headers", None))
    if isinstance(error, Http404):
        error = rest.NotFound()
    elif isinstance(error, PermissionDenied):
        error = rest.PermissionDenied()
    if not isinstance(error, rest.APIException):
        return None
    set_rollback()
    response = Response(_rest_body(error), status=error.status_code)
    if header := getattr(error, "auth_header", None):
        response["WWW-Authenticate"] = header
    if wait := getattr(error, "wait", None):
        response["Retry-After"] = f"{wait:.0f}"
    return response


def as_domain_error(error: BaseException | None) -> DomainError | None:
    """Translate what Python, Django and PostgreSQL raise when a limit is hit or a service is away."""
    if isinstance(error, DomainError):
        return error
    if isinstance(error, RequestDataTooBig | TooManyFilesSent):
        return TooLarge(str(error))
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return StorageFull("There is no room left on the disk; nothing was stored.")
    if isinstance(error, DatabaseError | InterfaceError):
        return _database_error(error)
    return None


def _database_error(error: DatabaseError | InterfaceError) -> DomainError | None:
    if getattr(error.__cause__, "sqlstate", None) == _DISK_FULL:
        return StorageFull("The database has no room left on its disk; nothing was stored.")
    if isinstance(error, OperationalError | InterfaceError):
        logger.error("database.unavailable: %s", error)
        return Unavailable("The database cannot be reached; try again in a moment.")
    return None


def _rest_body(error: rest.APIException) -> ErrorBody:
    if isinstance(error, rest.ValidationError):
        problems = list(_problems(error.detail, error.get_full_details(), path=""))
        detail = problems[0].message if len(problems) == 1 else f"{len(problems)} values break a rule."
        return error_body(InvalidInput.code, _with_field(problems[0], detail) if len(problems) == 1 else detail, problems)
    codes = error.get_codes()
    return error_body(codes if isinstance(codes, str) else str(error.default_code), str(error.detail))


def _with_field(problem: Problem, detail: str) -> str:
    return f"{problem.field}: {detail}" if problem.field else detail


def _problems(detail: object, full: object, *, path: str) -> Iterator[Problem]:
    """Flatten nested messages to one problem per message, with its path: ``nodes.0.agent_name``."""
    if isinstance(full, Mapping) and set(full) == {"message", "code"} and not isinstance(detail, Mapping):
        yield Problem(message=str(full["message"]), code=str(full["code"]), field=path or None)
    elif isinstance(full, Mapping) and isinstance(detail, Mapping):
        for key, item in full.items():
            below = path if key == "non_field_errors" else f"{path}.{key}".lstrip(".")
            yield from _problems(detail[key], item, path=below)
    elif isinstance(full, Sequence) and isinstance(detail, Sequence):
        for index, (inner, item) in enumerate(zip(detail, full, strict=True)):
            is_message = not isinstance(inner, Mapping | list)
            yield from _problems(inner, item, path=path if is_message else f"{path}.{index}".lstrip("."))


def _handler(status: int, page: Callable[..., HttpResponse]) -> Callable[..., HttpResponse]:
    def handle(request: HttpRequest, exception: Exception | None = None) -> HttpResponse:
        domain_error = as_domain_error(exception or sys.exc_info()[1])
        if domain_error is None and not request.path.startswith("/api/"):
            return page(request) if exception is None else page(request, exception)
        if domain_error is None:
            detail = _DETAILS[status]
            return JsonResponse(error_body(_CODES[status], detail), status=status)
        return JsonResponse(error_body(domain_error.error_code, domain_error.detail), status=domain_error.status)

    return handle


_DETAILS = {
    400: "The request is malformed.",
    403: "This is not permitted.",
    404: "There is nothing at this address.",
    500: "Something went wrong here; it has been logged.",
}

bad_request = _handler(400, defaults.bad_request)
permission_denied = _handler(403, defaults.permission_denied)
not_found = _handler(404, defaults.page_not_found)
server_error = _handler(500, defaults.server_error)


def csrf_failure(request: HttpRequest, reason: str = "") -> HttpResponse:
    """Answer a request without its CSRF token."""
    from django.views.csrf import csrf_failure as page

    if request.path.startswith("/api/"):
        return JsonResponse(error_body("csrf_failed", f"The CSRF check failed: {reason}"), status=403)
    return page(request, reason)
