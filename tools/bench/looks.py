"""What the statistics of a look cost, with many experiments: all effects at once, or one by one."""

import math
import statistics
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from scipy import stats

from stream_processors.stats.comparisons import Comparison, Kind, compare_all
from stream_processors.stats.effects import Effect
from stream_processors.stats.sums import JointSums, MetricSums
from tools.errors import WrongAnswerError

PRECISION = 6
UNITS_PER_VARIANT = 2_000
KINDS: tuple[Kind, ...] = ("conversion", "count", "sum", "ratio", "mean")


class Timing(NamedTuple):
    """What computing all comparisons once took, in milliseconds of CPU time.

    Attributes:
        comparisons: How many.
        together_ms: All at once: the fastest of the turns, which is the work itself.
        together_median_ms: The turn in the middle: what other work on the machine adds.
        one_by_one_ms: Each by a call of its own, likewise.
        scipy_ms: What scipy takes for Welch's test of each, and nothing else of what we compute.
    """

    comparisons: int
    together_ms: float
    together_median_ms: float
    one_by_one_ms: float
    scipy_ms: float


def measure_looks(experiments: int, *, turns: int, seed: int) -> Timing:
    """Compute the comparisons of a look in three ways, in turns; answers are compared first.

    Raises:
        WrongAnswerError: If they differ.
    """
    comparisons = sample_comparisons(experiments, rng=np.random.default_rng(seed))
    together = compare_all(comparisons)
    if together != _one_by_one(comparisons):
        raise WrongAnswerError("compared together, effects are others than one by one")
    plain = [
        (one, effect)
        for one, effect in zip(comparisons, together, strict=True)
        if one.kind in ("count", "sum")
    ]
    for one, effect in plain:
        fixed = effect.fixed_horizon
        if fixed is None or not math.isclose(fixed.statistic, _welch(one).statistic, rel_tol=1e-9):
            raise WrongAnswerError(f"{one}: scipy's t is another one than {fixed}")
    ways: tuple[Callable[[list[Comparison]], object], ...] = (
        compare_all,
        _one_by_one,
        _welch_of_each,
    )
    took_ms: list[list[float]] = [[] for _ in ways]
    for _ in range(turns):
        for number, way in enumerate(ways):
            before_s = time.process_time()
            way(comparisons)
            took_ms[number].append((time.process_time() - before_s) * 1_000)
    fastest = [min(turns_ms) for turns_ms in took_ms]
    return Timing(len(comparisons), fastest[0], statistics.median(took_ms[0]), *fastest[1:])


def show_looks(console: Console, timing: Timing) -> None:
    """Print the figures."""
    console.print(f"{timing.comparisons:,} effects, answers equal")
    for name, took_ms in (
        ("together", timing.together_ms),
        ("together, median turn", timing.together_median_ms),
        ("one by one", timing.one_by_one_ms),
        ("scipy, Welch's test alone", timing.scipy_ms),
    ):
        times = took_ms / timing.together_ms
        console.print(f"  {name:<25} {took_ms:>8.1f} ms of one core, {times:.1f} times")


def _one_by_one(comparisons: list[Comparison]) -> list[Effect]:
    return [effect for one in comparisons for effect in compare_all([one])]


def _welch_of_each(comparisons: list[Comparison]) -> list[Any]:
    return [_welch(one) for one in comparisons]


def _welch(one: Comparison) -> Any:
    sides = []
    for side in (one.control.total, one.treatment.total):
        count, total, squares = side.unit_count, side.sums[0], side.products[0]
        variance = (count * squares - total**2) / (count * (count - 1))
        sides += [total / count, math.sqrt(variance), count]
    return stats.ttest_ind_from_stats(*sides[3:], *sides[:3], equal_var=False)


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
