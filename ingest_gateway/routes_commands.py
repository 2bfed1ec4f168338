"""What routes of operators share: an answer in JSON, the id of a command."""

import hashlib

import msgspec
from fastapi import Request, Response

from ingest_gateway.routes_problems import invalid_fields
from ingest_gateway.routes_request import Parts
from schemas.definitions import FieldError
from schemas.identifiers import is_external_id


def json_answer(
    content: object, status: int = 200, headers: dict[str, str] | None = None
) -> Response:
    """Return an answer in JSON."""
    return Response(msgspec.json.encode(content), status, headers, "application/json")


def command_id(request: Request, parts: Parts, subject: str) -> str:
    """Return the id of a command; the same ``Idempotency-Key`` and subject give the same."""
    key = request.headers.get("idempotency-key")
    if key is None:
        return parts.new_id()
    if not is_external_id(key):
        message = "must be 1 to 256 bytes without control characters"
        raise invalid_fields([FieldError("Idempotency-Key", message, "id_invalid")])
    return hashlib.blake2b(f"{subject}\n{key}".encode(), digest_size=16).hexdigest()
