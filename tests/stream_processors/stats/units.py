"""Sums of unit values, added up one by one, and answers by the definitions, in fractions."""

from collections.abc import Sequence
from fractions import Fraction
from typing import Any

from stream_processors.stats.sums import CapSums, JointSums, MetricSums

Row = tuple[int, ...]


def joint_sums_of(rows: Sequence[Row], dimension: int) -> JointSums:
    return JointSums(
        len(rows),
        tuple(sum(row[i] for row in rows) for i in range(dimension)),
        tuple(
            sum(row[i] * row[j] for row in rows)
            for i in range(dimension)
            for j in range(i, dimension)
        ),
    )


def metric_sums_of(
    rows: Sequence[Row], *, dimension: int = 1, covered: Sequence[Row] | None = None
) -> MetricSums:
    """``rows``: totals of every unit; ``covered``: totals and covariates of those with a past."""
    covariates = None if covered is None else joint_sums_of(covered, 2 * dimension)
    return MetricSums(joint_sums_of(rows, dimension), covariates)


def cap_sums_of(totals: Sequence[int], cap: int) -> CapSums:
    capped = [min(total, cap) for total in totals]
    above = sum(total > cap for total in totals)
    return CapSums(above, sum(capped), sum(value**2 for value in capped))


def mean(values: Sequence[Any]) -> Fraction:
    return Fraction(sum(values)) / len(values)


def covariance(one: Sequence[Any], other: Sequence[Any]) -> Fraction:
    centre = mean(one), mean(other)
    total = sum(
        ((a - centre[0]) * (b - centre[1]) for a, b in zip(one, other, strict=True)), Fraction()
    )
    return total / (len(one) - 1)


def variance(values: Sequence[Any]) -> Fraction:
    return covariance(values, values)


def linearised(rows: Sequence[Row], numerator: int, denominator: int) -> list[Fraction]:
    """Return (y - R d) / d̄ of every unit: what a ratio is the mean of, but for a constant."""
    y = [Fraction(row[numerator]) for row in rows]
    d = [Fraction(row[denominator]) for row in rows]
    ratio = sum(y) / sum(d)
    return [(one - ratio * other) / mean(d) for one, other in zip(y, d, strict=True)]
