"""Times and durations at the border: RFC 3339 and "72h" outside, integer milliseconds inside."""

import re
from datetime import UTC, date, datetime, timedelta

TIMESTAMP_MS_MIN = 0
"""1970-01-01, and the last millisecond of 9999: what RFC 3339 can write."""

TIMESTAMP_MS_MAX = 253_402_300_799_999

_EPOCH_DAY = date(1970, 1, 1)
_DAY = re.compile(r"\d{4}-\d\d-\d\d", re.ASCII)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)
_RFC_3339 = re.compile(
    r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d(\.\d{1,9})?([Zz]|[+-]\d\d:[0-5]\d)", re.ASCII
)
_DURATION = re.compile(r"(\d{1,9})(ms|s|m|h|d)", re.ASCII)
_UNIT_MS = {"ms": 1, "s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}


def parse_time_ms(text: str) -> int:
    """Return the epoch milliseconds of an RFC 3339 time with offset; finer digits are cut off.

    Raises:
        ValueError: If ``text`` is not such a time, or lies outside 1970 to 9999.
    """
    if not _RFC_3339.fullmatch(text):
        raise ValueError(f"{text!r}, must be RFC 3339 with an offset, as 2026-11-21T18:00:00Z")
    moment = datetime.fromisoformat(text.upper())
    milliseconds = (moment - _EPOCH) // _MILLISECOND
    if not TIMESTAMP_MS_MIN <= milliseconds <= TIMESTAMP_MS_MAX:
        raise ValueError(f"{text!r}, must lie between 1970 and 9999")
    return milliseconds


def format_time_ms(milliseconds: int) -> str:
    """Return RFC 3339 in UTC with milliseconds: ``2026-11-21T18:00:00.123Z``."""
    moment = _EPOCH + timedelta(milliseconds=milliseconds)
    return moment.strftime("%Y-%m-%dT%H:%M:%S.") + f"{milliseconds % 1000:03d}Z"


def parse_day(text: str) -> int:
    """Return the days since 1970-01-01 of a UTC day such as ``2026-11-20``.

    Raises:
        ValueError: If ``text`` is not such a day, or lies before 1970.
    """
    if not _DAY.fullmatch(text):
        raise ValueError(f"{text!r}, must be a day, as 2026-11-20")
    try:
        days = (date.fromisoformat(text) - _EPOCH_DAY).days
    except ValueError as error:
        raise ValueError(f"{text!r}, must be a day that exists: {error}") from error
    if days < 0:
        raise ValueError(f"{text!r}, must not be before 1970")
    return days


def format_day(days: int) -> str:
    """Return a day, given in days since 1970-01-01, as ``2026-11-20``."""
    return (_EPOCH_DAY + timedelta(days=days)).isoformat()


def parse_duration_ms(text: str) -> int:
    """Return the milliseconds of a duration such as ``72h``, ``30m``, ``45s``.

    Raises:
        ValueError: If ``text`` is not a positive whole number and one of ms, s, m, h, d.
    """
    found = _DURATION.fullmatch(text)
    if not found or not int(found[1]):
        raise ValueError(f"{text!r}, must be a whole number above 0 and a unit, as 72h, 30m, 45s")
    return int(found[1]) * _UNIT_MS[found[2]]


def format_duration_ms(milliseconds: int) -> str:
    """Return a duration in the largest of h, m, s, ms that holds it without a rest."""
    for unit in ("h", "m", "s"):
        if milliseconds % _UNIT_MS[unit] == 0:
            return f"{milliseconds // _UNIT_MS[unit]}{unit}"
    return f"{milliseconds}ms"
