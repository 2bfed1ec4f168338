"""How long many comparisons take: the ones of a hundred experiments, over and over."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from stream_processors.stats.comparisons import Comparison, Kind, compare_all
from stream_processors.stats.sums import JointSums, MetricSums

PRECISION = 6
UNITS_PER_VARIANT = 2_000
KINDS: tuple[Kind, ...] = ("conversion", "count", "sum", "ratio", "mean")


class Timing(NamedTuple):
    """What computing all comparisons once took, in milliseconds of the clock that was given.

    Attributes:
        comparisons: How many.
        best_ms: The fastest of the repetitions: the work itself.
        median_ms: The middle one: with what else the machine did.
    """

    comparisons: int
    best_ms: float
    median_ms: float


def time_comparisons(
    comparisons: list[Comparison], *, clock: Callable[[], float], repetitions: int = 20
) -> Timing:
    """Return how long ``compare_all`` takes.

    Args:
        comparisons: See ``sample_comparisons``.
        clock: Seconds; the CPU time of the process, or others' work is counted too.
        repetitions: At least one.
    """
    took = []
    for _ in range(repetitions):
        before = clock()
        compare_all(comparisons)
        took.append((clock() - before) * 1_000)
    return Timing(len(comparisons), min(took), float(np.median(took)))


def sample_comparisons(
    experiments: int, *, treatments: int = 2, rng: np.random.Generator
) -> list[Comparison]:
    """Return the comparisons of experiments with five metrics each, one of every kind of total.

    The sum has a covariate for three units of four, and so has the mean.
    """
    comparisons: list[Comparison] = []
    for _ in range(experiments):
        for kind in KINDS:
            control = _sums(kind, rng)
            comparisons.extend(
                Comparison(
                    kind,
                    control,
                    _sums(kind, rng),
                    precision=0 if kind in ("conversion", "count") else PRECISION,
                )
                for _ in range(treatments)
            )
    return comparisons


def _sums(kind: Kind, rng: np.random.Generator) -> MetricSums:
    units = UNITS_PER_VARIANT
    events = rng.poisson(4, units) + 1
    events_before = rng.poisson(3, units) + 1
    before = np.rint(rng.lognormal(3, 1, units) * 10**PRECISION).astype(np.int64)
    value = np.rint(before * rng.uniform(0.5, 1.5, units)).astype(np.int64)
    converted = (rng.random(units) < 0.1).astype(np.int64)
    total = {
        "conversion": [converted],
        "count": [events],
        "sum": [value],
        "ratio": [value, events * 10**PRECISION],
        "mean": [value, events],
    }[kind]
    past = {"sum": [before], "mean": [before, events_before]}.get(kind)
    covariates = None
    if past is not None:
        covered = units * 3 // 4
        covariates = _joint([column[:covered] for column in (*total, *past)])
    return MetricSums(_joint(total), covariates)


def _joint(columns: list[NDArray[np.int64]]) -> JointSums:
    # Objects: products of quanta leave 64 bits.
    exact = [column.astype(object) for column in columns]
    return JointSums(
        len(exact[0]),
        tuple(int(column.sum()) for column in exact),
        tuple(int((one * other).sum()) for row, one in enumerate(exact) for other in exact[row:]),
    )
