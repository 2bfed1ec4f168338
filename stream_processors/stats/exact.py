"""Exact tests of two rates, for tables too small for a z (flag ``small_cells``), on demand."""

from typing import Literal

from scipy import stats

from stream_processors.stats.proportions import Rate

ExactMethod = Literal["fisher", "barnard", "boschloo"]


def exact_p_value(control: Rate, treatment: Rate, *, method: ExactMethod = "boschloo") -> float:
    """Return the two-sided p-value of equal rates.

    Args:
        control: At least one unit.
        treatment: At least one unit.
        method: ``fisher`` conditions on the conversions in all and is conservative; ``barnard``
            (pooled) and ``boschloo`` do not, and have more power. Time grows with the units of
            one variant times those of the other: for hundreds of units, not thousands.

    Raises:
        ValueError: If a rate is none.

    References:
        Fisher (1935); Barnard (1947), Biometrika 34; Boschloo (1970), Statistica Neerlandica 24.
    """
    for name, rate in (("control", control), ("treatment", treatment)):
        if rate.unit_count < 1 or not 0 <= rate.conversion_count <= rate.unit_count:
            raise ValueError(f"{name} == {tuple(rate)}, must be a rate of at least one unit")
    # Columns are variants: scipy's unconditional tests fix the column sums.
    table = [
        [treatment.conversion_count, control.conversion_count],
        [
            treatment.unit_count - treatment.conversion_count,
            control.unit_count - control.conversion_count,
        ],
    ]
    if method == "fisher":
        return float(stats.fisher_exact(table).pvalue)
    if method == "barnard":
        return float(stats.barnard_exact(table, pooled=True).pvalue)
    return float(stats.boschloo_exact(table).pvalue)
