"""Sums may be added in any parts and any order: protocol 16."""

import numpy as np
from numpy.typing import NDArray

from stream_processors.stats.sums import JointSums, Sums, no_sums, sample_variance
from tools.trust.bands import Band
from tools.trust.checks import Check, Found, Part, Protocol, Trial, exactly_none
from tools.trust.laws import Rng

Integers = NDArray[np.int64]

TRIALS = 1_000
UNITS = 400
PARTS = 12
FLOAT_ERROR_MAX = 1e-12


def random_parts(trial: Trial) -> Found:
    """Split units into random parts, some empty, and add the sums up in random order."""
    trials = trial.size(TRIALS, least=20)
    different, worst = 0, 0.0
    for _ in range(trials):
        rows = _rows(trial.rng)
        whole = _sums(rows)
        part_of = trial.rng.integers(0, PARTS, len(rows))
        # Few units or many in a part, and now and then none at all.
        part_of[trial.rng.random(len(rows)) < trial.rng.random()] = 0
        parts = [_sums(rows[part_of == number]) for number in range(PARTS)]
        merged = no_sums(rows.shape[1])
        for number in trial.rng.permutation(PARTS):
            merged = merged.plus(parts[number])
        different += merged != whole
        for number in trial.rng.permutation(PARTS):
            merged = merged.minus(parts[number])
        different += merged != no_sums(rows.shape[1])
        worst = max(worst, _variance_error(whole, rows[:, 0]))
    return Found(
        [
            exactly_none(
                "16.integers",
                "random parts, added and taken away in random order: sums that differ",
                different,
                2 * trials,
            ),
            Check(
                "16.variance",
                "largest relative error of a variance from merged sums, against exact fractions",
                worst,
                Band(None, FLOAT_ERROR_MAX),
                trials,
                "exact",
            ),
        ]
    )


def _rows(rng: Rng) -> Integers:
    """Return quantised totals of units, (units, k), around an offset of up to 10¹²."""
    count, width = int(rng.integers(2, UNITS)), int(rng.choice([1, 2, 4]))
    offset = int(10 ** rng.uniform(0, 12))
    return rng.integers(-1_000, 1_000, (count, width)) + offset


def _sums(rows: Integers) -> JointSums:
    """Return the sums in Python's integers, which have no limit."""
    columns = [[int(one) for one in column] for column in rows.T]
    width = rows.shape[1]
    return JointSums(
        len(rows),
        tuple(map(sum, columns)),
        tuple(
            sum(a * b for a, b in zip(columns[i], columns[j], strict=True))
            for i in range(width)
            for j in range(i, width)
        ),
    )


def _variance_error(sums: JointSums, values: Integers) -> float:
    """Return the relative error of the variance that the product makes of sums."""
    count = sums.unit_count
    shifted = [int(one) - int(values[0]) for one in values]
    # Two passes over shifted integers; every number in it is exact.
    true = (count * sum(one * one for one in shifted) - sum(shifted) ** 2) / (count * (count - 1))
    if true == 0:
        return 0.0
    made = sample_variance(Sums(count, sums.sums[0], sums.products[0]), precision=0)
    return abs(made / true - 1)


MERGING = Protocol(
    "16",
    "Adding up in any order",
    "Sums are exact integers, so they may be split over any number of workers and added in any "
    "order, and a unit that leaves is taken away without a trace.",
    "1,000 random splits with offsets up to 10¹², empty parts included; integers equal, variances "
    "within 1e-12 of the exact ones.",
    [Part("random_parts", random_parts, 4.0)],
)
