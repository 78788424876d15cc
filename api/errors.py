"""Errors as RFC 9457 problem documents, and the one map from exceptions to HTTP.

    raise Problem(409, "round-closed", "The round is closed", detail="round … is failed")

``type`` is a stable relative URI, ``errors`` names each field with the rule that it broke. A value
that was sent is never repeated: it may be a password.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from http import HTTPStatus
from typing import Any, Final

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from sqlalchemy.exc import DBAPIError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from starlette.exceptions import HTTPException

from api.auth.throttle import TooManyFailures
from api.prefect_api import PrefectRefused, PrefectUnavailable
from db.errors import (
    AlreadyExists,
    BlobMissing,
    Conflict,
    JoinCodeRefused,
    NotFound,
    RoundClosed,
    TooFewHospitals,
)
from privacy.errors import PlanError

_log = logging.getLogger(__name__)

PROBLEM_JSON: Final = "application/problem+json"
_LOCATIONS: Final = ("body", "query", "path", "header")


@dataclass(frozen=True, slots=True)
class FieldError:
    """One field, as a dotted path, with the rule it broke."""

    field: str
    rule: str
    detail: str


class Problem(HTTPException):
    """An answer that is a problem document.

    Args:
        status: the HTTP status.
        kind: last part of the type URI, ``/problems/<kind>``.
        title: what kind of problem, the same for all of the kind.
        detail: what happened this time.
        errors: fields and rules.
        headers: headers to send along.
    """

    def __init__(
        self,
        status: int,
        kind: str,
        title: str,
        *,
        detail: str,
        errors: Sequence[FieldError] = (),
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(status, detail, headers)
        self.kind = kind
        self.title = title
        self.errors = tuple(errors)


class ProblemResponse(JSONResponse):
    """A JSON response with the media type of a problem document."""

    media_type = PROBLEM_JSON


def problem_response(problem: Problem) -> ProblemResponse:
    """Returns the problem as a response."""
    content: dict[str, Any] = {
        "type": f"/problems/{problem.kind}",
        "title": problem.title,
        "status": problem.status_code,
        "detail": problem.detail,
        "errors": [asdict(error) for error in problem.errors],
    }
    return ProblemResponse(content, status_code=problem.status_code, headers=problem.headers)


def as_problem(error: Exception) -> Problem:
    """Maps an exception to its problem; what is not known becomes a 500 that says nothing."""
    match error:
        case Problem():
            return error
        case RequestValidationError():
            return _invalid_request(error)
        case HTTPException():
            phrase = HTTPStatus(error.status_code).phrase
            kind = phrase.lower().replace(" ", "-")
            return Problem(
                error.status_code, kind, phrase, detail=error.detail, headers=error.headers
            )
        case NotFound():
            return _about(404, f"unknown-{error.kind}", f"Unknown {error.kind}", error, "exists")
        case AlreadyExists():
            return _about(409, "already-exists", "It exists already", error, "unique")
        case RoundClosed():
            return Problem(410, "round-closed", "The round is closed", detail=error.detail)
        case Conflict():
            field = FieldError("", error.rule, error.detail)
            return Problem(
                409, "conflict", "A rule forbids it", detail=error.detail, errors=[field]
            )
        case JoinCodeRefused():
            return _join_code_refused(error)
        case TooFewHospitals():
            return too_few_hospitals(least=error.least, found=error.found)
        case BlobMissing():
            return Problem(404, "unknown-blob", "Unknown blob", detail=str(error))
        case PlanError():
            field = FieldError("privacy", "plan", str(error))
            return Problem(
                422, "privacy-plan", "No such privacy plan", detail=str(error), errors=[field]
            )
        case PrefectUnavailable():
            return Problem(503, "prefect-unavailable", "Prefect is away", detail=str(error))
        case PrefectRefused():
            return Problem(503, "prefect-refused", "Prefect refused", detail=str(error))
        case TooManyFailures():
            return Problem(
                429,
                "too-many-failures",
                "Too many failures",
                detail=str(error),
                headers={"Retry-After": str(error.retry_after_s)},
            )
        case OperationalError() | PoolTimeout():
            return _database_away()
        case DBAPIError() if error.connection_invalidated:
            return _database_away()
        case _:
            return Problem(
                500, "internal", "Internal error", detail="the server's log says what happened"
            )


def too_few_hospitals(*, least: int, found: int) -> Problem:
    """A training needs more hospitals than can be invited."""
    detail = (
        f"a round needs {least} hospitals that are active and have published their keys, "
        f"there are {found}"
    )
    return Problem(
        409,
        "too-few-hospitals",
        "Too few hospitals",
        detail=detail,
        errors=[FieldError("least_cohort", "least", detail)],
    )


def hospital_not_active(hospital_id: str, *, state: str) -> Problem:
    """A hospital that may not take part: suspended, or not, or no longer, one of the consortium."""
    if state == "left":
        return Problem(
            403,
            "hospital-left",
            "The hospital has left",
            detail=f"{hospital_id} has left the consortium; its operator may invite it again",
        )
    return Problem(
        403,
        "hospital-suspended",
        "The hospital may not take part",
        detail=f"{hospital_id} is {state}: ask the consortium's operator",
    )


def _about(
    status: int, kind: str, title: str, error: NotFound | AlreadyExists, rule: str
) -> Problem:
    field = FieldError(error.kind, rule, str(error))
    return Problem(status, kind, title, detail=str(error), errors=[field])


def _join_code_refused(error: JoinCodeRefused) -> Problem:
    """One answer for all: it must not tell which codes there are."""
    return Problem(
        410,
        "join-code-refused",
        "The join code cannot be used",
        detail=f"{error}; ask the consortium's operator for a new one "
        "(`fedmed hospital invite NAME --again`)",
    )


def _database_away() -> Problem:
    return Problem(
        503,
        "database-unavailable",
        "The database is away",
        detail="the coordinator's database does not answer; try again",
        headers={"Retry-After": "2"},
    )


def _invalid_request(error: RequestValidationError) -> Problem:
    errors = [_field_error(item) for item in error.errors()]
    named = ", ".join(sorted({item.field for item in errors}))
    return Problem(
        422, "invalid-request", "The request is not valid", detail=f"see {named}", errors=errors
    )


def _field_error(item: Mapping[str, Any]) -> FieldError:
    # For a body that is no JSON, the location is a position in its text.
    field = "body" if item["type"] == "json_invalid" else _dotted(item["loc"])
    return FieldError(field, item["type"], item["msg"])


def _dotted(location: Sequence[str | int]) -> str:
    """A dotted path without its first part, where that only says body, query, path or header."""
    parts = [str(part) for part in location]
    if len(parts) > 1 and parts[0] in _LOCATIONS:
        parts = parts[1:]
    return ".".join(parts)


async def _answer(request: Request, error: Exception) -> ProblemResponse:
    problem = as_problem(error)
    if problem.status_code >= HTTPStatus.INTERNAL_SERVER_ERROR:
        _log.error("%s %s: %s", request.method, request.url.path, problem.kind, exc_info=error)
    return problem_response(problem)


def install_error_map(app: FastAPI) -> None:
    """Makes every exception of the app a problem document."""
    mapped: tuple[type[Exception], ...] = (
        HTTPException,
        RequestValidationError,
        NotFound,
        AlreadyExists,
        Conflict,
        JoinCodeRefused,
        TooFewHospitals,
        BlobMissing,
        PlanError,
        PrefectUnavailable,
        PrefectRefused,
        TooManyFailures,
        DBAPIError,
        PoolTimeout,
        Exception,
    )
    for kind in mapped:
        app.add_exception_handler(kind, _answer)


def problem_schema() -> dict[str, Any]:
    """The OpenAPI description of a problem document."""
    field = _object("field", "rule", "detail")
    schema = _object("type", "title", "status", "detail", "errors")
    schema["properties"]["status"] = {"type": "integer"}
    schema["properties"]["errors"] = {"type": "array", "items": field}
    return {PROBLEM_JSON: {"schema": schema}}


def _object(*names: str) -> dict[str, Any]:
    properties = {name: {"type": "string"} for name in names}
    return {"type": "object", "properties": properties, "required": list(names)}
