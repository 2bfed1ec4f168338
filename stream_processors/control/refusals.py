"""Why a command is not done, as it is answered. Pure."""

import itertools
from collections.abc import Iterable, Sequence
from typing import Any, TypeVar

import msgspec

from schemas.control import CatalogueEntry, Import
from schemas.definitions import FieldError
from schemas.shapes import ERRORS_MAX, shape_errors

Body = TypeVar("Body")


class RefusedError(Exception):
    """A command is not done.

    Attributes:
        status: HTTP status of the answer.
        code: Stable code.
        detail: The refusal for a person.
        errors: What is wrong with each field.
        entry: The catalogue entry as it stands, if that is why.
        declared: The import as it stands, if that is why.
    """

    def __init__(
        self,
        status: int,
        code: str,
        detail: str,
        errors: Iterable[FieldError] = (),
        *,
        entry: CatalogueEntry | None = None,
        declared: Import | None = None,
    ) -> None:
        self.status = status
        self.code = code
        self.detail = detail
        self.errors = list(errors)
        self.entry = entry
        self.declared = declared
        super().__init__(detail)


def invalid(errors: Sequence[FieldError]) -> RefusedError:
    """Return the refusal of fields that break rules; one code if they all have it."""
    codes = {error.code for error in errors}
    detail = "; ".join(f"{error.field}: {error.message}" for error in errors)
    return RefusedError(422, codes.pop() if len(codes) == 1 else "invalid", detail, errors)


def shaped(body: dict[str, Any], shape: type[Body]) -> Body:
    """Return ``body`` as ``shape``.

    Raises:
        RefusedError: 422 with every field that is of another type, missing or unknown.
    """
    try:
        return msgspec.convert(body, shape)
    except msgspec.ValidationError as error:
        errors = list(itertools.islice(shape_errors(body, shape), ERRORS_MAX))
        raise RefusedError(422, "invalid", str(error), errors) from error
