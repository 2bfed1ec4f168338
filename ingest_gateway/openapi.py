"""What OpenAPI says of bodies that FastAPI does not decode: made from the types that do."""

from typing import Any

from schemas.json_schema import schema_of


def body_of(body_type: type[Any], *, example: dict[str, Any] | None = None) -> dict[str, Any]:
    """Return ``openapi_extra`` of a route that takes JSON of a type; empty bodies are ``{}``.

    Args:
        body_type: What the body is decoded as.
        example: A body to try.
    """
    content: dict[str, Any] = {"schema": schema_of(body_type)}
    if example is not None:
        content["example"] = example
    is_required = bool(content["schema"].get("required"))
    return {"requestBody": {"required": is_required, "content": {"application/json": content}}}
