"""CUPED: the part of an effect that the units' own past explains is taken away, exactly.

Both variants are centred at the covariate's *pooled* mean: centred inside each variant, the
effect would stay unadjusted while its standard error shrinks. Units without a pre-period are a
stratum of their own: effects are averaged over strata by their shares of all units.

A ratio is linearised first (``ratio``), as is the ratio of its covariates; θ and all variances
are those of the linear forms, so a mean is the ratio to the number of units.

References:
    Deng, Xu, Kohavi, Walker (2013), "Improving the Sensitivity of Online Controlled Experiments
    by Utilizing Pre-Experiment Data", WSDM, section 3; for ratios as tea-tasting ``RatioOfMeans``.
"""

from typing import NamedTuple

from stream_processors.stats.ratio import mean_form, mean_share, ratio_form, ratio_share
from stream_processors.stats.sums import (
    Form,
    JointSums,
    MetricSums,
    Share,
    Spread,
    bilinear,
)


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
        strata: With a pre-period, and without.
        flags: ``covariate_constant`` or ``covariate_undefined`` (a ratio whose denominators were
            0 before the entry): nothing to adjust by.
    """

    theta: float
    difference: float
    control_mean: float
    treatment_mean: float
    baseline: float
    covered_share: float
    strata: tuple[Stratum, Stratum]
    flags: tuple[str, ...] = ()


class _Side(NamedTuple):
    """One variant: its mean or ratio, and the forms of it and of its covariate."""

    share: Share
    form: Form
    covariate_share: Share
    covariate_form: Form


class _Theta(NamedTuple):
    numerator: int
    denominator: int


_NO_THETA = _Theta(0, 1)
_NO_SPREAD = Spread(0, 0, ())


class Strata(NamedTuple):
    """The units of one variant with a pre-period and without.

    Attributes:
        covered: Sums of totals and covariates of those with.
        uncovered: Sums of totals of those without.
        covered_spread: How the former vary together.
        uncovered_spread: The same of the latter.
        is_possible: Whether any units have these sums; if not, the spreads mean nothing.
    """

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
    if sums.covariates is None:
        raise ValueError("covariates is None, an adjustment needs them")
    dimension = len(sums.total.sums)
    if len(sums.covariates.sums) != 2 * dimension:
        return Strata(sums.covariates, sums.total, _NO_SPREAD, _NO_SPREAD, is_possible=False)
    uncovered = sums.total.minus(sums.covariates.of_first(dimension))
    spreads = sums.covariates.checked_spread(), uncovered.checked_spread()
    return Strata(
        sums.covariates,
        uncovered,
        spreads[0] or _NO_SPREAD,
        spreads[1] or _NO_SPREAD,
        is_possible=None not in spreads,
    )


def adjust(control: Strata, treatment: Strata, *, is_ratio: bool, quanta: int) -> Adjustment | None:
    """Return the effect adjusted by the covariates.

    Args:
        control: Possible; at least two units with a pre-period, and none or at least two without.
        treatment: The same; without a pre-period none only if the control has none.
        is_ratio: Whether totals are (y, d), covariates (x, w), and y is divided by d.
        quanta: Quanta of y to the metric unit, over those of d for a ratio.

    Returns:
        None if a ratio's denominators sum to 0.
    """
    pooled = control.covered.plus(treatment.covered)
    rest = control.uncovered.plus(treatment.uncovered)
    counts = pooled.unit_count, rest.unit_count
    known = []
    for covered, uncovered in (control[:2], treatment[:2], (pooled, rest)):
        side = _side(covered, uncovered, counts, is_ratio=is_ratio, quanta=quanta)
        if side is None:
            return None
        known.append(side)
    theta, flags = _theta(pooled.spread, *known)
    return _adjusted(control, treatment, counts, known, theta=theta, flags=flags)


def _side(
    covered: JointSums,
    uncovered: JointSums,
    counts: tuple[int, int],
    *,
    is_ratio: bool,
    quanta: int,
) -> _Side | None:
    """Return a variant's mean over strata weighted by ``counts``, and its forms.

    The covariate's share has denominator 0 if its denominators sum to 0.
    """
    dimension = len(uncovered.sums)
    count, other_count = covered.unit_count, uncovered.unit_count
    if counts[1] == 0:
        weighted = covered.sums[:dimension]
        units = count
    else:
        # Σ share · mean of a stratum, times a common denominator.
        weights = counts[0] * other_count, counts[1] * count
        weighted = tuple(
            [
                weights[0] * one + weights[1] * other
                for one, other in zip(covered.sums, uncovered.sums, strict=False)
            ]
        )
        units = (counts[0] + counts[1]) * count * other_count
    if not is_ratio:
        form = mean_form(quanta)
        return _Side(
            Share(weighted[0], units * quanta),
            form,
            mean_share(covered, quanta, index=dimension),
            Form((0, *form.coefficients), form.denominator),
        )
    numerator, denominator = weighted
    if denominator == 0:
        return None
    x, w = covered.sums[dimension:]
    before = ratio_form(x, w, unit_count=count, quanta=quanta)
    return _Side(
        ratio_share(numerator, denominator, quanta),
        ratio_form(numerator, denominator, unit_count=units, quanta=quanta),
        ratio_share(x, w, quanta),
        Form((0, 0, *before.coefficients), before.denominator),
    )


def _theta(
    spread: Spread, control: _Side, treatment: _Side, pooled: _Side
) -> tuple[_Theta, tuple[str, ...]]:
    """Return the pooled covariance over the pooled variance of the covariate, as integers."""
    if any(side.covariate_share.denominator == 0 for side in (control, treatment, pooled)):
        return _NO_THETA, ("covariate_undefined",)
    form, before = pooled.form, pooled.covariate_form
    variance = bilinear(spread, before, before)
    if variance == 0:
        return _NO_THETA, ("covariate_constant",)
    return (
        _Theta(
            bilinear(spread, form, before) * before.denominator,
            variance * form.denominator,
        ),
        (),
    )


def _adjusted(
    control: Strata,
    treatment: Strata,
    counts: tuple[int, int],
    sides: list[_Side],
    *,
    theta: _Theta,
    flags: tuple[str, ...],
) -> Adjustment:
    units = counts[0] + counts[1]
    share = counts[0] / units
    slope = theta.numerator / theta.denominator
    pasts = (
        _variances(control.covered_spread, sides[0], theta),
        _variances(treatment.covered_spread, sides[1], theta),
    )
    without = NO_STRATUM
    if counts[1]:
        rests = (
            _variances(control.uncovered_spread, sides[0], _NO_THETA),
            _variances(treatment.uncovered_spread, sides[1], _NO_THETA),
        )
        unit_counts = control.uncovered.unit_count, treatment.uncovered.unit_count
        without = _stratum(unit_counts, rests, counts[1] / units)
    unit_counts = control.covered.unit_count, treatment.covered.unit_count
    return Adjustment(
        theta=slope,
        difference=_difference(sides[0], sides[1], theta, counts),
        control_mean=_adjusted_mean(sides[0], sides[2], share * slope),
        treatment_mean=_adjusted_mean(sides[1], sides[2], share * slope),
        baseline=sides[0].share.value,
        covered_share=share,
        strata=(_stratum(unit_counts, pasts, share), without),
        flags=flags,
    )


def _difference(control: _Side, treatment: _Side, theta: _Theta, counts: tuple[int, int]) -> float:
    """Return the difference - share of covered units · θ · that of the covariates, rounded once."""
    unadjusted = treatment.share.minus(control.share)
    if theta.numerator == 0:
        return unadjusted.value
    before = treatment.covariate_share.minus(control.covariate_share)
    explained = Share(
        counts[0] * theta.numerator * before.numerator,
        (counts[0] + counts[1]) * theta.denominator * before.denominator,
    )
    return unadjusted.minus(explained).value


def _adjusted_mean(side: _Side, pooled: _Side, slope: float) -> float:
    """Return the mean - ``slope`` · (its covariate's - the pooled one's): to be shown only."""
    if slope == 0:
        return side.share.value
    above = side.covariate_share.value - pooled.covariate_share.value
    return side.share.value - slope * above


class _Variances(NamedTuple):
    """Of a unit's value: adjusted, unadjusted, and their covariance."""

    adjusted: float
    unadjusted: float
    covariance: float


def _variances(spread: Spread, side: _Side, theta: _Theta) -> _Variances:
    """Return the variances of form - θ · covariate's form over a stratum, each rounded once."""
    form, before = side.form, side.covariate_form
    scale = spread.unit_count * (spread.unit_count - 1)
    own = bilinear(spread, form, form)
    unadjusted = own / (form.denominator * form.denominator * scale)
    if theta.numerator == 0:
        return _Variances(unadjusted, unadjusted, unadjusted)
    both, past = bilinear(spread, form, before), bilinear(spread, before, before)
    # (kept · form - taken · covariate's form) / (kept · the form's denominator), in coefficients.
    kept, taken = theta.denominator, theta.numerator
    if form.denominator != before.denominator:
        kept, taken = kept * before.denominator, taken * form.denominator
    cross = kept * own - taken * both
    square = kept * cross - taken * (kept * both - taken * past)
    denominator = kept * form.denominator
    return _Variances(
        square / (denominator * denominator * scale),
        unadjusted,
        cross / (denominator * form.denominator * scale),
    )


def _stratum(
    unit_counts: tuple[int, int], variances: tuple[_Variances, _Variances], share: float
) -> Stratum:
    control, treatment = variances
    by_control = share * share / unit_counts[0]
    return Stratum(
        unit_counts[0],
        unit_counts[1],
        by_control * control.adjusted,
        share * share / unit_counts[1] * treatment.adjusted,
        by_control * control.unadjusted,
        by_control * control.covariance,
    )
