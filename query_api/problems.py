"""Errors as the contract shows them: problem+json (RFC 9457), rendered here and nowhere else."""

from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

MEDIA_TYPE = "application/problem+json"
RETRY_AFTER_S = 1


class ProblemError(Exception):
    """A request that cannot be answered as asked.

    Attributes:
        status: HTTP status of the answer.
        code: Stable, for programs; the message is for people.
        errors: What is wrong with each field: ``field``, ``message``, ``code``.
    """

    def __init__(
        self, status: int, code: str, detail: str, errors: Sequence[Mapping[str, str]] = ()
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.code = code
        self.errors = list(errors)


def unknown_experiment(experiment_id: str) -> ProblemError:
    """Return the answer to a request for an experiment that does not exist."""
    return ProblemError(404, "unknown_experiment", f"no experiment {experiment_id!r}")


def look_not_found(experiment_id: str) -> ProblemError:
    """Return the answer to a request for a moment before an experiment's first look."""
    detail = f"{experiment_id!r} had no look yet at that moment"
    return ProblemError(404, "look_not_found", detail)


def look_not_yet(detail: str) -> ProblemError:
    """Return the answer to a request for a moment that is not over."""
    return ProblemError(404, "look_not_yet", detail)


def invalid_parameter(name: str, message: str, code: str = "invalid") -> ProblemError:
    """Return the answer to a query parameter that breaks a rule."""
    error = {"field": name, "message": message, "code": code}
    top_code = "invalid_parameter" if code == "invalid" else code
    return ProblemError(422, top_code, f"{name}: {message}", [error])


def problem(
    status: int,
    code: str,
    detail: str,
    *,
    errors: Sequence[Mapping[str, str]] = (),
    headers: Mapping[str, str] | None = None,
) -> JSONResponse:
    """Return the answer that describes a problem."""
    body: dict[str, Any] = {
        "type": "about:blank",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": detail,
        "code": code,
    }
    if errors:
        body["errors"] = list(errors)
    extra = {"Retry-After": str(RETRY_AFTER_S)} if status == HTTPStatus.SERVICE_UNAVAILABLE else {}
    return JSONResponse(body, status, headers={**extra, **(headers or {})}, media_type=MEDIA_TYPE)


def render_problem(error: ProblemError) -> JSONResponse:
    """Return the answer of a ``ProblemError``."""
    return problem(error.status, error.code, str(error), errors=error.errors)


def add_problem_handlers(app: FastAPI) -> None:
    """Make every error of ``app`` an answer in problem+json."""

    async def on_problem(_request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, ProblemError)
        return render_problem(error)

    async def on_invalid(_request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, RequestValidationError)
        errors = [
            {"field": str(one["loc"][-1]), "message": str(one["msg"]), "code": "invalid"}
            for one in error.errors()
        ]
        detail = "; ".join(f"{one['field']}: {one['message']}" for one in errors)
        return problem(422, "invalid_parameter", detail, errors=errors)

    async def on_http(_request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, HTTPException)
        code = HTTPStatus(error.status_code).name.lower()
        return problem(error.status_code, code, error.detail, headers=error.headers)

    async def on_bug(_request: Request, _error: Exception) -> JSONResponse:
        return problem(500, "internal", "the query API failed; its log says why")

    app.add_exception_handler(ProblemError, on_problem)
    app.add_exception_handler(RequestValidationError, on_invalid)
    app.add_exception_handler(HTTPException, on_http)
    app.add_exception_handler(Exception, on_bug)
