"""Means and ratios of one variant as linear combinations of its totals, in exact integers.

A mean is linear in a unit's total y. A ratio R = Σy / Σd is so by the delta method: it moves with
the mean of (y - R d) / d̄. So every variance here is a quadratic form of integers over an integer,
and is rounded once, when it becomes a float.

References:
    Deng, Knoblich, Lu (2018), "Applying the Delta Method in Metric Analytics", KDD, section 3.
"""

from stream_processors.stats.sums import Form, JointSums, Moments, Share, covariance


def mean_share(sums: JointSums, quanta: int, *, index: int = 0) -> Share:
    """Return the mean of a total, ``quanta`` to the metric unit. At least one unit."""
    return Share(sums.sums[index], sums.unit_count * quanta)


def mean_form(quanta: int) -> Form:
    """Return the form whose mean the mean of the first total is."""
    return Form((1,), quanta)


def ratio_share(numerator: int, denominator: int, quanta: int) -> Share:
    """Return the ratio of two sums, of which the first has ``quanta`` more to the metric unit."""
    return Share(numerator, denominator * quanta)


def ratio_form(numerator: int, denominator: int, *, unit_count: int, quanta: int) -> Form:
    """Return (y - R d) / d̄ for R = numerator / denominator and d̄ = denominator / unit_count."""
    return Form(
        (denominator * unit_count, -numerator * unit_count), denominator * denominator * quanta
    )


def share_and_form(sums: JointSums, *, is_ratio: bool, quanta: int) -> tuple[Share, Form]:
    """Return the mean or ratio of one variant, and the form it is the mean of.

    Args:
        sums: Of (y), or (y, d) for a ratio, d not summing to 0; at least one unit.
        is_ratio: Whether y is divided by d, or by the number of units.
        quanta: Quanta of y to the metric unit, over those of d for a ratio.
    """
    if not is_ratio:
        return mean_share(sums, quanta), mean_form(quanta)
    numerator, denominator = sums.sums[:2]
    return (
        ratio_share(numerator, denominator, quanta),
        ratio_form(numerator, denominator, unit_count=sums.unit_count, quanta=quanta),
    )


def exact_moments(sums: JointSums, *, is_ratio: bool, quanta: int) -> Moments:
    """Return the mean or ratio, and the variance of the form that it is the mean of.

    Raises:
        ValueError: If there are fewer than two units, or d sums to 0.
    """
    if sums.unit_count < 2:
        raise ValueError(f"unit_count == {sums.unit_count}, must be >= 2")
    if is_ratio and sums.sums[1] == 0:
        raise ValueError("the denominators sum to 0, a ratio needs another sum")
    share, form = share_and_form(sums, is_ratio=is_ratio, quanta=quanta)
    return Moments(sums.unit_count, share.value, covariance(sums.spread, form, form))
