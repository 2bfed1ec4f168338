"""How far two variants are from what their comparison waits for, in words. Pure."""

from collections.abc import Iterator, Sequence
from typing import Any

from stream_processors.stats.edges import (
    BURN_IN_CONVERSIONS,
    BURN_IN_UNITS,
    SPARSE_UNITS_MAX,
)

Entry = dict[str, Any]


def fewest_units(pair: Sequence[Entry]) -> int:
    """Return the units of the smaller variant of a pair of ``metrics[].variants``."""
    return min(one["units"] for one in pair)


def so_far(wait: str, pair: Sequence[Entry]) -> str:
    """Return what has come of what is waited for, in brackets; empty where it cannot be counted.

    Args:
        wait: Of ``wording.wait_of``.
        pair: Control and treatment, of ``metrics[].variants``.
    """
    counts = [count for one in pair for count in _missing_of(wait, one)]
    if wait == "sparse":
        smaller = min(pair, key=lambda one: int(one["units"]))
        counts = [f"{smaller['units']:,} of {SPARSE_UNITS_MAX:,} units in {smaller['variant']}"]
    return f" ({', '.join(counts)} so far)" if counts else ""


def _missing_of(wait: str, one: Entry) -> Iterator[str]:
    """Yield the counts of one variant that are too small; of a rate the rarer outcome's."""
    variant, units = one["variant"], one["units"]
    if wait in ("warming_up", "warming_up_rate") and units < BURN_IN_UNITS:
        yield f"{units} of {BURN_IN_UNITS} units in {variant}"
    if wait not in ("warming_up_rate", "few_conversions"):
        return
    converted = one["total"]
    others = units - converted
    if min(converted, others) < BURN_IN_CONVERSIONS:
        outcome = "converted" if converted <= others else "not converted"
        yield f"{min(converted, others)} of {BURN_IN_CONVERSIONS} {outcome} in {variant}"
