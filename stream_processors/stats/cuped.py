"""CUPED: the part of an effect that the units' own past explains is taken away, exactly.

Both variants are centred at the covariate's *pooled* mean: centred inside each variant, the
effect would stay unadjusted while its standard error shrinks. Units without a pre-period are a
stratum of their own: effects are averaged over strata by their shares of all units. Where a
stratum is too small for that, they get the pooled mean as their past (``strata.Handling``).

A ratio is linearised first (``ratio``), as is the ratio of its covariates; θ and all variances
are those of the linear forms, so a mean is the ratio to the number of units.

References:
    Deng, Xu, Kohavi, Walker (2013), "Improving the Sensitivity of Online Controlled Experiments
    by Utilizing Pre-Experiment Data", WSDM, section 3; for ratios as tea-tasting ``RatioOfMeans``.
"""

import operator
from typing import NamedTuple

from stream_processors.stats.strata import Handling, Strata, handling_of, sums_with_gaps
from stream_processors.stats.sums import JointSums, Share, Spread


class Stratum(NamedTuple):
    """What one stratum adds; variances are multiplied by the square of its share of the units.

    Attributes:
        control_count: Units.
        treatment_count: Units.
        control_variance: What the control's units add to the variance of the effect.
        treatment_variance: What the treatment's units add to it.
        baseline_variance: What they add to that of the control's unadjusted mean.
        covariance: Of the control's adjusted and unadjusted mean.
    """

    control_count: int
    treatment_count: int
    control_variance: float
    treatment_variance: float
    baseline_variance: float
    covariance: float


NO_STRATUM = Stratum(2, 2, 0.0, 0.0, 0.0, 0.0)
"""Adds nothing: every unit is in the other stratum."""


class Adjustment(NamedTuple):
    """An effect adjusted by a covariate.

    Attributes:
        theta: How much a unit's value moves with its covariate, over all variants; 0 if the
            covariate does not vary.
        difference: Treatment - control, adjusted.
        control_mean: The control's adjusted mean.
        treatment_mean: The treatment's.
        baseline: The control's unadjusted mean, strata weighted as in the difference.
        covered_share: Share of the units that have a pre-period.
        strata: With a pre-period, and without; all units in the first if they are one.
        handling: How units without a pre-period were treated.
        flags: ``covariate_constant`` (also where at most one unit has a past) or
            ``covariate_undefined`` (a ratio whose denominators were 0 before the entry): nothing
            to adjust by.
    """

    theta: float
    difference: float
    control_mean: float
    treatment_mean: float
    baseline: float
    covered_share: float
    strata: tuple[Stratum, Stratum]
    handling: Handling
    flags: tuple[str, ...] = ()


class _Line(NamedTuple):
    """(first · one total + second · the next) · top / bottom: a value that is linear in totals.

    Of a mean's own total and covariate there is one each, and ``first`` is 1.
    """

    first: int
    second: int
    top: int
    bottom: int


class _Side(NamedTuple):
    """One variant, or both: its mean or ratio, that of its covariate, and the lines of the two."""

    share: Share
    line: _Line
    past_share: Share
    past_line: _Line


class _Theta(NamedTuple):
    """A quotient of integers, and the float nearest to it."""

    top: int
    bottom: int
    value: float


_NO_THETA = _Theta(0, 1, 0.0)
_UNDEFINED = Share(0, 0)


class _Variances(NamedTuple):
    """Of a unit's value: adjusted, unadjusted, and their covariance."""

    adjusted: float
    unadjusted: float
    covariance: float


def adjust(control: Strata, treatment: Strata, *, is_ratio: bool, quanta: int) -> Adjustment | None:
    """Return the effect adjusted by the covariates.

    Args:
        control: Possible, and at least two units.
        treatment: The same.
        is_ratio: Whether totals are (y, d), covariates (x, w), and y is divided by d.
        quanta: Quanta of y to the metric unit, over those of d for a ratio.

    Returns:
        None if a ratio's denominators sum to 0.
    """
    handling = handling_of(control, treatment)
    pooled = control.covered.plus(treatment.covered)
    if handling == "mean_past":
        return _with_mean_past(control, treatment, pooled, is_ratio=is_ratio, quanta=quanta)
    units = control.total.unit_count + treatment.total.unit_count
    counts = pooled.unit_count, units - pooled.unit_count
    sides = []
    for strata in (control, treatment):
        sums, weight = strata.total.sums, strata.total.unit_count
        if counts[1]:
            sums, weight = _weighted(strata, counts)
        own = _own(sums, weight, is_ratio=is_ratio, quanta=quanta)
        if own is None:
            return None
        sides.append(_side(own, strata.covered, is_ratio=is_ratio, quanta=quanta))
    # Weighted by the shares of all units, the strata of all units are all units.
    totals = tuple(map(operator.add, control.total.sums, treatment.total.sums))
    own = _own(totals, units, is_ratio=is_ratio, quanta=quanta)
    if own is None:
        return None
    sides.append(_side(own, pooled, is_ratio=is_ratio, quanta=quanta))
    theta, flags = _theta(pooled, sides)
    share = counts[0] / units
    with_past = _stratum((control.covered_spread, treatment.covered_spread), sides, theta, share)
    without = NO_STRATUM
    if counts[1]:
        rests = control.uncovered_spread, treatment.uncovered_spread
        without = _stratum(rests, sides, _NO_THETA, counts[1] / units)
    return _adjustment(sides, theta, counts, (with_past, without), handling, flags)


def _with_mean_past(
    control: Strata, treatment: Strata, pooled: JointSums, *, is_ratio: bool, quanta: int
) -> Adjustment | None:
    """Return the effect with the pooled mean as the past of units that have none.

    The covariate is the same line for both variants: x - m, or (x - R w) / w̄, with m, R and w̄
    those of all units that have a past, and 0 for the others.
    """
    both = sums_with_gaps(control), sums_with_gaps(treatment)
    all_units = both[0].plus(both[1])
    numerator, denominator = _past_of(pooled, is_ratio=is_ratio)
    past = _line(denominator, -numerator, pooled.unit_count, quanta)
    sides = []
    for sums in (*both, all_units):
        own = _own(sums.sums, sums.unit_count, is_ratio=is_ratio, quanta=quanta)
        if own is None:
            return None
        past_share = _UNDEFINED
        if denominator:
            x, w = sums.sums[-2:]
            level = (past.first * x + past.second * w) * past.top
            past_share = Share(level, past.bottom * sums.unit_count)
        sides.append(_Side(*own, past_share, past))
    theta, flags = _theta(all_units, sides)
    if not pooled.unit_count:
        flags = ("covariate_constant",)
    counts = both[0].unit_count, both[1].unit_count
    stratum = _stratum((both[0].spread, both[1].spread), sides, theta, 1.0)
    known = _adjustment(sides, theta, (sum(counts), 0), (stratum, NO_STRATUM), "mean_past", flags)
    return known._replace(covered_share=pooled.unit_count / sum(counts))


def _past_of(covered: JointSums, *, is_ratio: bool) -> tuple[int, int]:
    """Return the sums whose ratio the covariate's mean is."""
    if is_ratio:
        return covered.sums[2], covered.sums[3]
    return covered.sums[1], covered.unit_count


def _own(
    sums: tuple[int, ...], unit_count: int, *, is_ratio: bool, quanta: int
) -> tuple[Share, _Line] | None:
    """Return the mean or ratio of sums over ``unit_count`` units, and its line."""
    if not is_ratio:
        return Share(sums[0], unit_count * quanta), _Line(1, 0, 1, quanta)
    numerator, denominator = sums[:2]
    if denominator == 0:
        return None
    return (
        Share(numerator, denominator * quanta),
        _line(denominator, -numerator, unit_count, quanta),
    )


def _line(denominator: int, minus_numerator: int, unit_count: int, quanta: int) -> _Line:
    """Return (y - R d) / d̄, for R = numerator / denominator and d̄ = denominator / unit_count."""
    return _Line(denominator, minus_numerator, unit_count, denominator * denominator * quanta)


def _weighted(strata: Strata, counts: tuple[int, int]) -> tuple[tuple[int, ...], int]:
    """Return sums, and units, whose mean is that of the strata weighted by ``counts``."""
    (units, sums, _), (others, more, _) = strata.covered, strata.uncovered
    # Σ share · mean of a stratum, times a common denominator.
    one, other = counts[0] * others, counts[1] * units
    weighted = [one * first + other * second for first, second in zip(sums, more, strict=False)]
    return tuple(weighted), (counts[0] + counts[1]) * units * others


def _side(own: tuple[Share, _Line], covered: JointSums, *, is_ratio: bool, quanta: int) -> _Side:
    """Return a variant with its covariate, whose share has denominator 0 if w sums to 0."""
    share, line = own
    count, sums, _ = covered
    if not is_ratio:
        return _Side(share, line, Share(sums[1], count * quanta), line)
    x, w = sums[2], sums[3]
    return _Side(share, line, Share(x, w * quanta), _line(w, -x, count, quanta))


def _moments(products: tuple[int, ...], line: _Line, past: _Line) -> tuple[int, int, int]:
    """Return Σ of products of the values of both lines, without their scales: uu, uv, vv.

    Args:
        products: Of (y, x), (y, x, c) or (y, d, x, w), plain or central.
        line: u, of y or (y, d).
        past: v, of x, (x, c) or (x, w).
    """
    if len(products) == 3:
        return products[0], products[1], products[2]
    a, b, c, d = line.first, line.second, past.first, past.second
    if len(products) == 6:
        yy, yx, yw, xx, xw, ww = products
        return yy, c * yx + d * yw, c * (c * xx + 2 * d * xw) + d * d * ww
    yy, yd, yx, yw, dd, dx, dw, xx, xw, ww = products
    return (
        a * (a * yy + 2 * b * yd) + b * b * dd,
        a * (c * yx + d * yw) + b * (c * dx + d * dw),
        c * (c * xx + 2 * d * xw) + d * d * ww,
    )


def _theta(pooled: JointSums, sides: list[_Side]) -> tuple[_Theta, tuple[str, ...]]:
    """Return the pooled covariance over the pooled variance of the covariate."""
    control, treatment, (_, line, past_share, past) = sides
    shares = control.past_share, treatment.past_share, past_share
    if not (shares[0].denominator and shares[1].denominator and shares[2].denominator):
        return _NO_THETA, ("covariate_undefined",)
    if len(pooled.sums) == 2:
        _, both, square = pooled.spread.products
    else:
        # The covariate's line is centred at these very units: no product of means to take away,
        # and the number of units cancels.
        _, both, square = _moments(pooled.products, line, past)
    if square == 0:
        return _NO_THETA, ("covariate_constant",)
    top, bottom = both, square
    if past.bottom != line.bottom or past.top != line.top:
        top, bottom = both * line.top * past.bottom, square * line.bottom * past.top
    return _Theta(top, bottom, top / bottom), ()


def _variances(products: tuple[int, ...], count: int, side: _Side, theta: _Theta) -> _Variances:
    """Return the variances of the line - θ · the covariate's over ``count`` units.

    All is integers up to the last division: what cancels, cancels exactly.

    Args:
        products: n(n - 1) times the covariances of totals and covariates.
        count: Units, n.
        side: Their lines.
        theta: θ.
    """
    line, past = side.line, side.past_line
    if theta.top == 0:
        return _variances_without(products, count, line)
    own, both, square = _moments(products, line, past)
    # line - θ past = (kept · the totals' value - taken · the covariates') / common.
    kept, taken, common = theta.bottom, theta.top, theta.bottom * line.bottom
    if past.bottom != line.bottom:
        kept, taken = kept * past.bottom, taken * line.bottom
        common *= past.bottom
    if past.top != 1:
        taken *= past.top
    if line.top != 1:
        kept *= line.top
    cross = kept * own - taken * both
    left = kept * cross - taken * (kept * both - taken * square)
    scaled = common * (count * (count - 1))
    bottom = line.bottom * line.bottom * (count * (count - 1))
    return _Variances(
        left / (common * scaled),
        line.top * line.top * own / bottom,
        line.top * cross / (line.bottom * scaled),
    )


def _variances_without(products: tuple[int, ...], count: int, line: _Line) -> _Variances:
    """Return the variance of the line over ``count`` units; of (y) or (y, d), or more totals."""
    own = products[0]
    if line.second or line.first != 1:
        a, b = line.first, line.second
        # The row of d follows that of y: 3 products of 2 totals, 10 of 4.
        of_d = products[2] if len(products) == 3 else products[4]
        own = a * (a * own + 2 * b * products[1]) + b * b * of_d
    value = line.top * line.top * own / (line.bottom * line.bottom * (count * (count - 1)))
    return _Variances(value, value, value)


def _stratum(
    spreads: tuple[Spread, Spread], sides: list[_Side], theta: _Theta, share: float
) -> Stratum:
    """Return what units add of which the control's and the treatment's vary like ``spreads``."""
    count, other = spreads[0].unit_count, spreads[1].unit_count
    control = _variances(spreads[0].products, count, sides[0], theta)
    treatment = _variances(spreads[1].products, other, sides[1], theta)
    by_control = share * share / count
    return Stratum(
        count,
        other,
        by_control * control.adjusted,
        share * share / other * treatment.adjusted,
        by_control * control.unadjusted,
        by_control * control.covariance,
    )


def _adjustment(
    sides: list[_Side],
    theta: _Theta,
    counts: tuple[int, int],
    strata: tuple[Stratum, Stratum],
    handling: Handling,
    flags: tuple[str, ...],
) -> Adjustment:
    share = counts[0] / (counts[0] + counts[1])
    control, treatment, pooled = sides
    slope = share * theta.value
    # By position, in the order of the class: names cost as much as the numbers.
    return Adjustment(
        theta.value,
        _difference(control, treatment, theta, counts),
        _adjusted_mean(control, pooled, slope),
        _adjusted_mean(treatment, pooled, slope),
        control.share.value,
        share,
        strata,
        handling,
        flags,
    )


def _difference(control: _Side, treatment: _Side, theta: _Theta, counts: tuple[int, int]) -> float:
    """Return the difference - share of covered units · θ · that of the covariates, rounded once."""
    unadjusted = treatment.share.minus(control.share)
    if theta.top == 0:
        return unadjusted.value
    before = treatment.past_share.minus(control.past_share)
    explained = Share(
        counts[0] * theta.top * before.numerator,
        (counts[0] + counts[1]) * theta.bottom * before.denominator,
    )
    return unadjusted.minus(explained).value


def _adjusted_mean(side: _Side, pooled: _Side, slope: float) -> float:
    """Return the mean - ``slope`` · (its covariate's - the pooled one's): to be shown only."""
    if slope == 0:
        return side.share.value
    above = side.past_share.value - pooled.past_share.value
    return side.share.value - slope * above
