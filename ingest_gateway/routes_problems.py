"""Errors as the contract shows them: problem+json (RFC 9457), rendered here and nowhere else."""

from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any

import msgspec
from fastapi import FastAPI, Request, Response
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from ingest_gateway.errors import GatewayError, UnavailableError
from ingest_gateway.telemetry import report_refused_request
from schemas.definitions import FieldError

MEDIA_TYPE = "application/problem+json"


class ProblemError(Exception):
    """A request of an operator, or for a decision, that cannot be done as asked.

    Attributes:
        status: HTTP status of the answer.
        code: Stable, for programs; the message is for people.
        errors: What is wrong with each field.
        headers: Go along with the answer.
    """

    def __init__(
        self,
        status: int,
        code: str,
        detail: str,
        errors: Sequence[FieldError] = (),
        *,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.code = code
        self.errors = list(errors)
        self.headers = headers


def invalid_fields(errors: Sequence[FieldError]) -> ProblemError:
    """Return the answer to a body with fields that break rules."""
    detail = "; ".join(f"{error.field}: {error.message}" for error in errors)
    code = errors[0].code if len(errors) == 1 else "invalid"
    return ProblemError(422, code, detail, errors)


def unknown_experiment(experiment_id: str) -> ProblemError:
    """Return the answer to a request for an experiment that does not exist."""
    return ProblemError(404, "unknown_experiment", f"no experiment {experiment_id[:128]!r}")


def problem(
    status: int,
    code: str,
    detail: str,
    *,
    title: str | None = None,
    errors: Sequence[FieldError] = (),
    headers: Mapping[str, str] | None = None,
    more: Mapping[str, Any] | None = None,
) -> Response:
    """Return the answer that describes a problem; ``more`` are members of its own."""
    body: dict[str, Any] = {
        "type": "about:blank",
        "title": title or HTTPStatus(status).phrase,
        "status": status,
        "detail": detail,
        "code": code,
    }
    if errors:
        body["errors"] = errors
    body |= more or {}
    report_refused_request(code)
    content = msgspec.json.encode(body)
    return Response(content, status, headers=headers, media_type=MEDIA_TYPE)


def refusal(error: GatewayError) -> Response:
    """Return the answer to a request that is refused as a whole."""
    headers = {}
    if isinstance(error, UnavailableError):
        headers["Retry-After"] = str(error.retry_after_s)
    return problem(
        error.status,
        error.code,
        str(error),
        title=error.title,
        headers=headers,
        more={"rejected": error.rejected} if error.rejected else None,
    )


def add_problem_handlers(app: FastAPI) -> None:
    """Make every error of ``app`` an answer in problem+json."""

    async def on_refused(_request: Request, error: Exception) -> Response:
        assert isinstance(error, GatewayError)
        return refusal(error)

    async def on_problem(_request: Request, error: Exception) -> Response:
        assert isinstance(error, ProblemError)
        return problem(
            error.status, error.code, str(error), errors=error.errors, headers=error.headers
        )

    async def on_http(_request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        code = HTTPStatus(error.status_code).name.lower()
        return problem(error.status_code, code, error.detail, headers=error.headers)

    async def on_gone(_request: Request, _error: Exception) -> Response:
        return problem(400, "client_disconnected", "the client went before its body was read")

    async def on_bug(_request: Request, _error: Exception) -> Response:
        return problem(500, "internal", "the gateway failed; its log says why")

    app.add_exception_handler(GatewayError, on_refused)
    app.add_exception_handler(ProblemError, on_problem)
    app.add_exception_handler(HTTPException, on_http)
    app.add_exception_handler(ClientDisconnect, on_gone)
    app.add_exception_handler(Exception, on_bug)
