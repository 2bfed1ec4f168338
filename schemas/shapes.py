"""Whether JSON has the shape of a struct: all its wrong fields, and keys that repeat. Pure.

msgspec stops at the first wrong field and takes the last of two equal keys without a word. Whoever
writes a definition by hand wants to know all of them, at once.
"""

import json
from collections.abc import Iterator
from typing import Any, get_args, get_origin

import msgspec

from schemas.definitions import FieldError

ERRORS_MAX = 100


class RepeatedKeyError(ValueError):
    """An object has two equal keys; ``key`` says which."""

    def __init__(self, key: str) -> None:
        super().__init__(f"key {key[:128]!r} stands there twice, must stand there once")
        self.key = key


def check_keys(raw: bytes) -> None:
    """Check that no object in ``raw``, which is JSON, has two equal keys.

    Raises:
        RepeatedKeyError: If one has.
        RecursionError: If it nests too deep to be looked at.
    """
    json.loads(raw.decode(), object_pairs_hook=_unique, parse_int=float)


def shape_errors(value: Any, shape: Any, where: str = "") -> Iterator[FieldError]:
    """Yield what keeps ``value``, decoded JSON, from being a ``shape``: every field, not one.

    Args:
        value: What was decoded.
        shape: A struct, a list of one, or what else ``msgspec.convert`` knows.
        where: Path of the value.
    """
    alternatives = get_args(shape) if get_origin(shape) is not list else ()
    for candidate in alternatives or (shape,):
        if isinstance(value, dict) and _is_struct(candidate):
            yield from _object_errors(value, candidate, where)
            return
        if isinstance(value, list) and get_origin(candidate) is list:
            (kind,) = get_args(candidate)
            for index, one in enumerate(value):
                yield from shape_errors(one, kind, f"{where}[{index}]")
            return
    try:
        msgspec.convert(value, shape)
    except msgspec.ValidationError as error:
        message, _, path = str(error).partition(" - at `$")
        yield FieldError((where + path.rstrip("`")).removeprefix("."), message)


def _object_errors(value: dict[str, Any], shape: Any, where: str) -> Iterator[FieldError]:
    prefix = f"{where}." if where else ""
    fields = {field.encode_name: field for field in msgspec.structs.fields(shape)}
    for name, field in fields.items():
        if name in value:
            yield from shape_errors(value[name], field.type, f"{prefix}{name}")
        elif field.required:
            yield FieldError(f"{prefix}{name}", "is missing, must be there")
    if shape.__struct_config__.forbid_unknown_fields:
        for name in value.keys() - fields.keys():
            known = ", ".join(sorted(fields))
            yield FieldError(f"{prefix}{name}"[:300], f"unknown field, must be one of {known}")


def _is_struct(shape: Any) -> bool:
    return isinstance(shape, type) and issubclass(shape, msgspec.Struct)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        raise RepeatedKeyError(next(name for name in names if names.count(name) > 1))
    return found
