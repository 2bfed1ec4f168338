"""What OpenAPI says of bodies that FastAPI does not decode: made from the types that do."""

from typing import Any

import msgspec

_DEFINITIONS = "#/$defs/"


def body_of(body_type: type[Any], *, example: dict[str, Any] | None = None) -> dict[str, Any]:
    """Return ``openapi_extra`` of a route that takes JSON of a type; empty bodies are ``{}``.

    Args:
        body_type: What the body is decoded as.
        example: A body to try.
    """
    found = msgspec.json.schema(body_type)
    definitions = found.pop("$defs", {})
    content: dict[str, Any] = {"schema": _inlined(found, definitions)}
    if example is not None:
        content["example"] = example
    is_required = bool(content["schema"].get("required"))
    return {"requestBody": {"required": is_required, "content": {"application/json": content}}}


def _inlined(schema: Any, definitions: dict[str, Any]) -> Any:
    """Return a schema without references: those of JSON Schema mean another place in OpenAPI."""
    if isinstance(schema, list):
        return [_inlined(one, definitions) for one in schema]
    if not isinstance(schema, dict):
        return schema
    reference = schema.get("$ref")
    if reference is not None:
        return _inlined(definitions[reference.removeprefix(_DEFINITIONS)], definitions)
    return {name: _inlined(value, definitions) for name, value in schema.items()}
