"""JSON Schema of what is read and written, for OpenAPI and ``litmus topics describe``."""

from typing import Any

import msgspec

_DEFINITIONS = "#/$defs/"


def schema_of(type_: Any) -> dict[str, Any]:
    """Return the JSON Schema of a type, with its definitions put where they are referred to.

    Without references, because those of JSON Schema mean another place in OpenAPI.
    """
    found = msgspec.json.schema(type_)
    definitions = found.pop("$defs", {})
    inlined: dict[str, Any] = _inlined(found, definitions)
    return inlined


def _inlined(schema: Any, definitions: dict[str, Any]) -> Any:
    if isinstance(schema, list):
        return [_inlined(one, definitions) for one in schema]
    if not isinstance(schema, dict):
        return schema
    reference = schema.get("$ref")
    if reference is None:
        return {name: _inlined(value, definitions) for name, value in schema.items()}
    referred = _inlined(definitions[reference.removeprefix(_DEFINITIONS)], definitions)
    # What is said beside the reference is of the place, and closer than what the type says.
    return referred | {name: value for name, value in schema.items() if name != "$ref"}
