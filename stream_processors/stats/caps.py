"""Caps of unit totals (winsorising): a fixed one, or one chosen from a grid, blind to treatment.

Sums of capped totals cannot be capped anew when a percentile moves. So a metric with a percentile
cap keeps, for every cap of a grid, the exact sums of min(total, cap); a look picks the cap by the
totals of all arms together, and all arms get the same one.
"""

from collections.abc import Sequence
from fractions import Fraction
from typing import NamedTuple, Protocol

import numpy as np
from scipy import special

from stream_processors.stats.cap_grid import (
    CAP_COUNT,
    CAP_GRID,
    PRECISION_MAX,
    cap_grid,
    fixed_cap_q,
)
from stream_processors.stats.sums import Sums

__all__ = [
    "CAP_COUNT",
    "CAP_GRID",
    "DEFAULT_CAP_QUANTILE",
    "EXPECTED_UNITS_MIN",
    "PRECISION_MAX",
    "CapChoice",
    "CapImbalance",
    "CappedSums",
    "cap_grid",
    "choose_cap",
    "compare_capped_units",
    "fixed_cap_q",
    "sums_of_capped",
]

DEFAULT_CAP_QUANTILE = 0.999
"""Share of the units of all arms whose totals a cap must leave alone."""

EXPECTED_UNITS_MIN = 5
"""Capped units expected in every arm from which chi-square is used instead of an exact test."""


class CappedSums(Protocol):
    """Exact sums of min(total, cap) over the units of one variant (``sums.CapSums``)."""

    @property
    def capped_units(self) -> int:
        """Units whose total exceeds the cap."""

    @property
    def sum_q(self) -> int:
        """Sum of the capped totals, in quanta."""

    @property
    def sum_squares_q(self) -> int:
        """Sum of their squares."""


class CapChoice(NamedTuple):
    """Which cap of the grid a look uses.

    Attributes:
        status: ``ok``, ``no_units``, ``above_grid`` (more units than the quantile lets go exceed
            even the highest cap) or ``below_grid`` (the quantile is not above the lowest cap:
            nearly all totals are zero or negative, and a cap there would flatten the metric). If
            it is not ``ok``, totals are not capped, and the status says why.
        cap_index: Of the cap in the grid; None if none is used.
        cap_q: The cap in quanta; None if none is used.
    """

    status: str
    cap_index: int | None = None
    cap_q: int | None = None


class CapImbalance(NamedTuple):
    """Whether the cap hits the arms alike: if not, it hides a part of the effect.

    Attributes:
        status: ``ok``, or why there is no p-value: ``no_units`` (an arm is empty), ``none_capped``
            or ``insufficient`` (three arms or more with too few capped units for chi-square).
        test: ``fisher`` for two arms with few capped units, else ``chi_square``.
        p_value: Of equal shares of capped units in all arms.
    """

    status: str
    test: str | None = None
    p_value: float | None = None


def choose_cap(
    unit_counts: Sequence[int],
    capped_units: Sequence[Sequence[int]],
    *,
    precision: int,
    quantile: float = DEFAULT_CAP_QUANTILE,
) -> CapChoice:
    """Return the lowest cap of the grid that is not below the pooled quantile of unit totals.

    Args:
        unit_counts: Units of each arm, zeros included. All arms of the experiment.
        capped_units: By arm, then by cap of the grid: units whose total exceeds the cap.
        precision: Decimal digits kept when the values were quantised.
        quantile: Share of all units whose totals stay as they are, in (0, 1); read as the decimal
            number that it is written as, so 0.999 lets exactly one unit in 1,000 be capped.

    Raises:
        ValueError: If the quantile or a shape is wrong.

    Note:
        Which arm a unit is in does not enter, only sums over all arms do. A treatment can still
        move the pooled quantile itself, which is why ``compare_capped_units`` is shown beside it.
    """
    if not 0 < quantile < 1:
        raise ValueError(f"quantile == {quantile}, must be > 0 and < 1")
    if len(unit_counts) != len(capped_units):
        raise ValueError(f"len(capped_units) == {len(capped_units)}, must be {len(unit_counts)}")
    unit_count = sum(unit_counts)
    if unit_count == 0:
        return CapChoice("no_units")
    capped_max = unit_count - _ceiling(Fraction(str(float(quantile))) * unit_count)
    grid = cap_grid(precision)
    pooled = [sum(by_arm) for by_arm in zip(*capped_units, strict=True)]
    for index, (cap_q, capped) in enumerate(zip(grid, pooled, strict=True)):
        if capped <= capped_max:
            return CapChoice("ok", index, cap_q) if index else CapChoice("below_grid")
    return CapChoice("above_grid")


def sums_of_capped(unit_count: int, capped: CappedSums) -> Sums:
    """Return the sums of the capped totals in the form that every test takes."""
    return Sums(unit_count, capped.sum_q, capped.sum_squares_q)


def compare_capped_units(unit_counts: Sequence[int], capped_units: Sequence[int]) -> CapImbalance:
    """Test whether the same share of units is capped in every arm.

    Args:
        unit_counts: Units of each arm; two arms or more.
        capped_units: Units of each arm whose total exceeds the cap.

    Raises:
        ValueError: If there are fewer than two arms, or more units are capped than there are.

    References:
        Pearson's chi-square of the table of arm by capped or not; Fisher's exact test (two-sided,
        by tables no more likely than the one seen) where fewer than five capped or uncapped units
        are expected in an arm.
    """
    _check_capped(unit_counts, capped_units)
    units, capped = sum(unit_counts), sum(capped_units)
    if min(unit_counts) == 0:
        return CapImbalance("no_units")
    if capped == 0:
        return CapImbalance("none_capped")
    if min(capped, units - capped) * min(unit_counts) < EXPECTED_UNITS_MIN * units:
        if len(unit_counts) > 2:
            return CapImbalance("insufficient")
        return CapImbalance("ok", "fisher", _fisher_p_value(capped_units, unit_counts))
    # Σ (O - E)² / E over both rows is Σ_a (c_a N - n_a C)² / (n_a C (N - C)): integers.
    chi_square = sum(
        Fraction((c * units - n * capped) ** 2, n * capped * (units - capped))
        for c, n in zip(capped_units, unit_counts, strict=True)
    )
    p_value = float(special.gammaincc((len(unit_counts) - 1) / 2, float(chi_square) / 2))
    return CapImbalance("ok", "chi_square", p_value)


_TIE = 1e-9
"""Logarithms of weights that are nearer than this are of tables that are as likely."""


def _fisher_p_value(capped_units: Sequence[int], unit_counts: Sequence[int]) -> float:
    """Return the chance, given both margins, of a table no more likely than the one seen.

    The hypergeometric weights come from the ratios of neighbours, p(k + 1) / p(k) = (C - k)(n - k)
    / ((k + 1)(m - C + k + 1)) with C units capped, n and m in the arms: no factorial is large.
    (scipy has the same in ``stats``, which takes half a second of CPU to import.)
    """
    capped, (n, m) = sum(capped_units), unit_counts
    least, most = max(0, capped - m), min(capped, n)
    k = np.arange(least, most, dtype=np.float64)
    ratios = np.log((capped - k) * (n - k)) - np.log((k + 1) * (m - capped + k + 1))
    log_weights = np.concatenate([[0.0], np.cumsum(ratios)])
    log_weights -= log_weights[capped_units[0] - least]
    weights = np.exp(log_weights - log_weights.max())
    return float(weights[log_weights <= _TIE].sum() / weights.sum())


def _check_capped(unit_counts: Sequence[int], capped_units: Sequence[int]) -> None:
    if len(unit_counts) < 2:
        raise ValueError(f"len(unit_counts) == {len(unit_counts)}, must be >= 2")
    for count, capped in zip(unit_counts, capped_units, strict=True):
        if not 0 <= capped <= count:
            raise ValueError(f"capped_units == {capped}, must be >= 0 and <= {count}")


def _ceiling(value: Fraction) -> int:
    return -(-value.numerator // value.denominator)
