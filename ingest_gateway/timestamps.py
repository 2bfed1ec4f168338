"""RFC 3339 by the column: what ``schemas.times.parse_time_ms`` says, in one compiled pass."""

import numba
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from schemas.hashing import buffers_of
from schemas.times import TIMESTAMP_MS_MAX

NOT_A_TIME = -1
_NO_OFFSET = 1 << 20
_DAY_MS = 86_400_000


def parse_times_ms(texts: list[str]) -> NDArray[np.int64]:
    """Return the epoch milliseconds of every text, ``NOT_A_TIME`` where it is none."""
    octets, offsets = buffers_of(pa.array(texts, pa.string()))
    parsed: NDArray[np.int64] = _parse_times(octets, offsets)
    return parsed


@numba.njit(cache=True, nogil=True)
def _number(octets, start, digits):  # type: ignore[no-untyped-def]
    """Return the number that ``digits`` digits write, -1 if there is anything else."""
    value = np.int64(0)
    for position in range(start, start + digits):
        digit = np.int64(octets[position]) - 48
        if digit < 0 or digit > 9:
            return -1
        value = value * 10 + digit
    return value


@numba.njit(cache=True, nogil=True)
def _days_since_epoch(year, month, day):  # type: ignore[no-untyped-def]
    """Return the days from 1970-01-01, counting years from March (proleptic Gregorian)."""
    if month <= 2:
        year -= 1
    era = year // 400
    year_of_era = year - era * 400
    day_of_year = (153 * ((month + 9) % 12) + 2) // 5 + day - 1
    return (
        era * 146_097 + year_of_era * 365 + year_of_era // 4 - year_of_era // 100 + day_of_year
    ) - 719_468


@numba.njit(cache=True, nogil=True)
def _days_in(year, month):  # type: ignore[no-untyped-def]
    if month == 2:
        is_leap = (year % 4 == 0 and year % 100 != 0) or year % 400 == 0
        return 29 if is_leap else 28
    return 30 if month in (4, 6, 9, 11) else 31


@numba.njit(cache=True, nogil=True)
def _parse_time(octets, start, end):  # type: ignore[no-untyped-def]
    if end - start < 20:
        return NOT_A_TIME
    year = _number(octets, start, 4)
    month = _number(octets, start + 5, 2)
    day = _number(octets, start + 8, 2)
    hour = _number(octets, start + 11, 2)
    minute = _number(octets, start + 14, 2)
    second = _number(octets, start + 17, 2)
    separators = (
        octets[start + 4] == 45  # -
        and octets[start + 7] == 45
        and octets[start + 10] in (84, 116, 32)  # T, t, space
        and octets[start + 13] == 58  # :
        and octets[start + 16] == 58
    )
    if not separators or year < 1 or month < 1 or month > 12 or day < 1:
        return NOT_A_TIME
    if day > _days_in(year, month) or not (0 <= hour <= 23):
        return NOT_A_TIME
    if not (0 <= minute <= 59 and 0 <= second <= 59):
        return NOT_A_TIME
    position = start + 19
    millisecond, factor, digits = np.int64(0), 100, 0
    if octets[position] == 46:  # .
        position += 1
        while position < end and 48 <= octets[position] <= 57:
            millisecond += (np.int64(octets[position]) - 48) * factor
            factor //= 10
            digits += 1
            position += 1
        if not 1 <= digits <= 9:
            return NOT_A_TIME
    offset_minutes = _parse_offset(octets, position, end)
    if offset_minutes == _NO_OFFSET:
        return NOT_A_TIME
    seconds = hour * 3600 + (minute - offset_minutes) * 60 + second
    result = _days_since_epoch(year, month, day) * _DAY_MS + seconds * 1000 + millisecond
    return result if 0 <= result <= TIMESTAMP_MS_MAX else NOT_A_TIME


@numba.njit(cache=True, nogil=True)
def _parse_offset(octets, position, end):  # type: ignore[no-untyped-def]
    """Return the minutes that local time is ahead of UTC."""
    if end - position == 1:
        return 0 if octets[position] in (90, 122) else _NO_OFFSET  # Z, z
    if end - position != 6 or octets[position + 3] != 58:
        return _NO_OFFSET
    hours, minutes = _number(octets, position + 1, 2), _number(octets, position + 4, 2)
    if not (0 <= hours <= 23 and 0 <= minutes <= 59):
        return _NO_OFFSET
    if octets[position] == 43:  # +
        return hours * 60 + minutes
    return -hours * 60 - minutes if octets[position] == 45 else _NO_OFFSET


@numba.njit(cache=True, nogil=True)
def _parse_times(octets, offsets):  # type: ignore[no-untyped-def]
    result = np.empty(len(offsets) - 1, np.int64)
    for row in range(len(offsets) - 1):
        result[row] = _parse_time(octets, np.int64(offsets[row]), np.int64(offsets[row + 1]))
    return result
