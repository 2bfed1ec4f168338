"""From units to days: a ramp of traffic, then the window in which the last unit matures."""

import math
from collections.abc import Sequence


def days_to_enter(units: float, *, units_per_day: float, ramp: Sequence[float]) -> float:
    """Return after how many days that many units have entered.

    Args:
        units: Units of all variants, >= 0.
        units_per_day: New units a day at full coverage, > 0. Units that come back are not new,
            so of a fixed population this rate falls: give the rate of the later days.
        ramp: Shares of that traffic, one per day, each in (0, 1]; from the last on it stays.
    """
    left = units
    for day, share in enumerate(ramp[:-1]):
        entering = share * units_per_day
        if left <= entering:
            return day + left / entering
        left -= entering
    return len(ramp) - 1 + left / (ramp[-1] * units_per_day)


def days_to_mature(
    units: float, *, units_per_day: float, ramp: Sequence[float], window_days: float
) -> float:
    """Return after how many days that many units have entered and their totals are complete."""
    return days_to_enter(units, units_per_day=units_per_day, ramp=ramp) + window_days


def units_entered(days: float, *, units_per_day: float, ramp: Sequence[float]) -> float:
    """Return how many units have entered after so many days: the inverse of ``days_to_enter``."""
    whole = min(math.floor(days), len(ramp) - 1)
    entered = math.fsum(share * units_per_day for share in ramp[:whole])
    return entered + (days - whole) * ramp[whole] * units_per_day
