"""Units with a pre-period and without: how a covariate that not all units have is brought in.

Which way is taken depends on counts of units alone, never on what they did: whether a unit has a
past is decided before it meets a variant, so every way estimates the same effect, without bias.
"""

from typing import Literal, NamedTuple

from stream_processors.stats.sums import JointSums, MetricSums, Spread

Handling = Literal["one_stratum", "two_strata", "mean_past"]
"""How an adjustment treats units without a pre-period.

``one_stratum``: there are none. ``two_strata``: they are estimated by themselves. ``mean_past``:
one of the two strata is too small in a variant, so they count with the mean past of all units
that have one: a covariate of 0 once it is centred, which adjusts nothing of theirs.
"""

STRATUM_UNITS_MIN = 2
"""Units of each variant that a stratum of its own needs: as many as a variance does.

Post-stratification takes about W δ² · 2/n from the variance of an effect (W: share of the small
stratum, n: units per variant, δ: distance of the strata's means) and adds at most σ² · 2/n²: it
pays from W n = σ²/δ² units on, and before that costs less than one unit in n. Both ways keep their
coverage from two units on (the tests simulate it), and the later the switch, the more it moves an
estimate: so it is as early as it can be.

References:
    Miratrix, Sekhon, Yu (2013), "Adjusting treatment effect estimates by post-stratification in
    randomized experiments", JRSS B 75(2), section 3.
"""

_NO_SPREAD = Spread(0, 0, ())


class Strata(NamedTuple):
    """The units of one variant with a pre-period and without.

    Attributes:
        total: Sums of totals of all.
        covered: Sums of totals and covariates of those with.
        uncovered: Sums of totals of those without.
        covered_spread: How the former vary together.
        uncovered_spread: The same of the latter.
        is_possible: Whether any units have these sums; if not, the spreads mean nothing.
    """

    total: JointSums
    covered: JointSums
    uncovered: JointSums
    covered_spread: Spread
    uncovered_spread: Spread
    is_possible: bool


def strata_of(sums: MetricSums) -> Strata:
    """Return the units with a pre-period and without.

    Raises:
        ValueError: If there are no sums of covariates.
    """
    total, covered = sums.total, sums.covariates
    if covered is None:
        raise ValueError("covariates is None, an adjustment needs them")
    dimension = len(total.sums)
    if len(covered.sums) != 2 * dimension:
        return Strata(total, covered, total, _NO_SPREAD, _NO_SPREAD, is_possible=False)
    uncovered = _without(total, covered)
    covered_spread, uncovered_spread = covered.checked_spread(), uncovered.checked_spread()
    return Strata(
        total,
        covered,
        uncovered,
        covered_spread or _NO_SPREAD,
        uncovered_spread or _NO_SPREAD,
        is_possible=covered_spread is not None and uncovered_spread is not None,
    )


def _without(total: JointSums, covered: JointSums) -> JointSums:
    """Return the sums of totals of the units that ``covered`` does not hold."""
    dimension = len(total.sums)
    if dimension == 1:
        return JointSums(
            total.unit_count - covered.unit_count,
            (total.sums[0] - covered.sums[0],),
            (total.products[0] - covered.products[0],),
        )
    return total.minus(covered.of_first(dimension))


def handling_of(control: Strata, treatment: Strata) -> Handling:
    """Return how their units without a pre-period are treated: counts decide, nothing else."""
    without = control.uncovered.unit_count, treatment.uncovered.unit_count
    if without == (0, 0):
        return "one_stratum"
    least = min(*without, control.covered.unit_count, treatment.covered.unit_count)
    return "two_strata" if least >= STRATUM_UNITS_MIN else "mean_past"


def sums_with_gaps(strata: Strata) -> JointSums:
    """Return sums over all units of a variant, with covariates of 0 for those without a past.

    Of a ratio they are the sums of (y, d, x, w). Of a mean they are those of (y, x, c) with c = 1
    for units that have a past: x - m c is centred at m then, and 0 for the others.
    """
    total, covered = strata.total, strata.covered
    if len(total.sums) == 1:
        (y, x), (_, yx, xx), count = covered.sums, covered.products, covered.unit_count
        products = (total.products[0], yx, y, xx, x, count)
        return JointSums(total.unit_count, (total.sums[0], x, count), products)
    yy, yd, dd = total.products
    _, _, yx, yw, _, dx, dw, *pasts = covered.products
    return JointSums(
        total.unit_count,
        total.sums + covered.sums[2:],
        (yy, yd, yx, yw, dd, dx, dw, *pasts),
    )
