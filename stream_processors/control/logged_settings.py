"""Settings that are part of the log, as commands change them. Pure."""

import re
from collections.abc import Iterable
from typing import Any

import msgspec
from msgspec import UNSET, UnsetType

from schemas.control import Settings
from schemas.definitions import FieldError
from stream_processors.control.refusals import invalid, shaped

LATENESS_MS_MIN = 1_000
LATENESS_MS_MAX = 30 * 86_400_000
STRIDE_MAX = 100_000
SOURCES_MAX = 256

_SOURCE = re.compile(r"[A-Za-z0-9._-]{1,249}/\d{1,6}", re.ASCII)


class SettingsBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What to change; ``sources`` names all of them, the last two only those concerned."""

    lateness_ms: int | UnsetType = UNSET
    stride: int | UnsetType | None = UNSET
    sources: list[str] | UnsetType = UNSET
    retire_sources: list[str] = []
    add_sources: list[str] = []


def changed_settings(current: Settings, body: dict[str, Any], now_ms: int) -> Settings | None:
    """Return the settings as ``body`` changes them; None if nothing changes.

    Raises:
        RefusedError: 422 with what is wrong with each field.
    """
    posted = shaped(body, SettingsBody)
    sources = current.sources if posted.sources is UNSET else posted.sources
    errors = list(_source_errors(sources, posted))
    sources = [one for one in sources if one not in posted.retire_sources] + posted.add_sources
    lateness_ms = current.lateness_ms if posted.lateness_ms is UNSET else posted.lateness_ms
    settings = msgspec.structs.replace(
        current.with_lateness(lateness_ms, now_ms),
        stride=current.stride if posted.stride is UNSET else posted.stride,
        sources=sources,
    )
    errors += _errors_of(settings)
    if errors:
        raise invalid(errors)
    return None if settings == current else settings


def _source_errors(sources: list[str], posted: SettingsBody) -> Iterable[FieldError]:
    for source in posted.retire_sources:
        if source not in sources:
            message = f"{source[:300]!r} is no source, must be one of {', '.join(sources)}"
            yield FieldError("retire_sources", message, "unknown_source")
    for source in posted.add_sources:
        if source in sources:
            yield FieldError("add_sources", f"{source[:300]!r} is a source already")


def _errors_of(settings: Settings) -> Iterable[FieldError]:
    if not LATENESS_MS_MIN <= settings.lateness_ms <= LATENESS_MS_MAX:
        message = f"{settings.lateness_ms}, must be {LATENESS_MS_MIN} to {LATENESS_MS_MAX}"
        yield FieldError("lateness_ms", message)
    if settings.stride is not None and not 1 <= settings.stride <= STRIDE_MAX:
        yield FieldError("stride", f"{settings.stride}, must be null or 1 to {STRIDE_MAX}")
    if len(settings.sources) > SOURCES_MAX:
        yield FieldError("sources", f"{len(settings.sources)}, must be {SOURCES_MAX} at most")
    for source in settings.sources:
        if not _SOURCE.fullmatch(source):
            yield FieldError("sources", f"{source[:300]!r}, must be topic/partition")
    if len(set(settings.sources)) < len(settings.sources):
        yield FieldError("sources", "one stands there twice, they must differ")
