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

from math import gcd
from typing import NamedTuple

from stream_processors.stats.strata import Handling, Strata, handling_of, sums_with_gaps
from stream_processors.stats.sums import JointSums, Share

CANCELLATION_MAX = 12.0
"""Terms may be so many times what is left of them before floats are no longer good enough.

Every term is a quotient of integers, rounded once, times a rounded θ at most twice: with the two
additions that is at most seven roundings, so the sum is off by at most 7 · 2⁻⁵³ of the terms'
sizes, which is less than 10⁻¹⁴ of itself. What cancels more is computed in integers.
"""


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
    counts = pooled.unit_count, control.uncovered.unit_count + treatment.uncovered.unit_count
    if handling == "mean_past":
        return _with_mean_past(control, treatment, pooled, is_ratio=is_ratio, quanta=quanta)
    rest = control.uncovered.plus(treatment.uncovered)
    sides = []
    for covered, uncovered in (
        (control.covered, control.uncovered),
        (treatment.covered, treatment.uncovered),
        (pooled, rest),
    ):
        side = _side(covered, uncovered, counts, is_ratio=is_ratio, quanta=quanta)
        if side is None:
            return None
        sides.append(side)
    theta, flags = _theta(pooled, sides)
    share = counts[0] / (counts[0] + counts[1])
    spreads = control.covered_spread, treatment.covered_spread
    with_past = _stratum(
        (spreads[0].unit_count, spreads[1].unit_count),
        _variances(spreads[0].products, spreads[0].unit_count, sides[0], theta),
        _variances(spreads[1].products, spreads[1].unit_count, sides[1], theta),
        share,
    )
    without = NO_STRATUM
    if handling == "two_strata":
        spreads = control.uncovered_spread, treatment.uncovered_spread
        without = _stratum(
            (spreads[0].unit_count, spreads[1].unit_count),
            _variances_without(spreads[0].products, spreads[0].unit_count, sides[0].line),
            _variances_without(spreads[1].products, spreads[1].unit_count, sides[1].line),
            counts[1] / (counts[0] + counts[1]),
        )
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
    stratum = _stratum(
        counts,
        _variances(both[0].spread.products, counts[0], sides[0], theta),
        _variances(both[1].spread.products, counts[1], sides[1], theta),
        1.0,
    )
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


def _side(
    covered: JointSums,
    uncovered: JointSums,
    counts: tuple[int, int],
    *,
    is_ratio: bool,
    quanta: int,
) -> _Side | None:
    """Return a variant's mean over strata weighted by ``counts``; None: denominators sum to 0.

    The covariate's share has denominator 0 if its denominators sum to 0.
    """
    sums, units = covered.sums, covered.unit_count
    if counts[1]:
        # Σ share · mean of a stratum, times a common denominator.
        one, other = counts[0] * uncovered.unit_count, counts[1] * units
        units *= (counts[0] + counts[1]) * uncovered.unit_count
        divisor = gcd(one, other, units)
        one, other, units = one // divisor, other // divisor, units // divisor
        first = one * sums[0] + other * uncovered.sums[0]
        sums = (first, one * sums[1] + other * uncovered.sums[1]) if is_ratio else (first,)
    own = _own(sums, units, is_ratio=is_ratio, quanta=quanta)
    if own is None:
        return None
    x, w = _past_of(covered, is_ratio=is_ratio)
    past = _line(w, -x, covered.unit_count, quanta) if is_ratio else own[1]
    return _Side(*own, Share(x, w * quanta), past)


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
    if any(side.past_share.denominator == 0 for side in sides):
        return _NO_THETA, ("covariate_undefined",)
    line, past = sides[2].line, sides[2].past_line
    _, both, square = _moments(pooled.spread.products, line, past)
    if square == 0:
        return _NO_THETA, ("covariate_constant",)
    top, bottom = both, square
    if past.bottom != line.bottom or past.top != line.top:
        top, bottom = both * line.top * past.bottom, square * line.bottom * past.top
    return _Theta(top, bottom, top / bottom), ()


def _variances(products: tuple[int, ...], count: int, side: _Side, theta: _Theta) -> _Variances:
    """Return the variances of the line - θ · the covariate's over ``count`` units.

    Args:
        products: n(n - 1) times the covariances of totals and covariates.
        count: Units, n.
        side: Their lines.
        theta: θ.
    """
    line, past = side.line, side.past_line
    if theta.top == 0:
        return _variances_without(products, count, line)
    moments = own, both, square = _moments(products, line, past)
    scale = count * (count - 1)
    unadjusted = line.top * line.top * own / (line.bottom * line.bottom * scale)
    slope = theta.value
    shared = slope * (line.top * past.top * both / (line.bottom * past.bottom * scale))
    explained = slope * (
        slope * (past.top * past.top * square / (past.bottom * past.bottom * scale))
    )
    covariance = unadjusted - shared
    adjusted = unadjusted - 2 * shared + explained
    size = unadjusted + 2 * abs(shared) + explained
    if size <= CANCELLATION_MAX * min(adjusted, abs(covariance)):
        return _Variances(adjusted, unadjusted, covariance)
    return _exact_variances(moments, scale, side, theta)


def _exact_variances(
    moments: tuple[int, int, int], scale: int, side: _Side, theta: _Theta
) -> _Variances:
    """Return the same from integers up to the last division: what cancels, cancels exactly."""
    own, both, square = moments
    line, past = side.line, side.past_line
    # line - θ past = (kept · own total - taken · the covariate) / common.
    kept = theta.bottom * past.bottom * line.top
    taken = theta.top * line.bottom * past.top
    common = theta.bottom * past.bottom * line.bottom
    cross = kept * own - taken * both
    left = kept * cross - taken * (kept * both - taken * square)
    return _Variances(
        left / (common * common * scale),
        line.top * line.top * own / (line.bottom * line.bottom * scale),
        line.top * cross / (common * line.bottom * scale),
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
    counts: tuple[int, int], control: _Variances, treatment: _Variances, share: float
) -> Stratum:
    by_control = share * share / counts[0]
    return Stratum(
        counts[0],
        counts[1],
        by_control * control.adjusted,
        share * share / counts[1] * treatment.adjusted,
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
    return Adjustment(
        theta=theta.value,
        difference=_difference(control, treatment, theta, counts),
        control_mean=_adjusted_mean(control, pooled, slope),
        treatment_mean=_adjusted_mean(treatment, pooled, slope),
        baseline=control.share.value,
        covered_share=share,
        strata=strata,
        handling=handling,
        flags=flags,
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
