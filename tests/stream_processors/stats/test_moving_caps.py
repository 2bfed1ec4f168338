"""A cap at a quantile that moves while one watches costs no more than the alpha that was promised.

Every look is judged at the cap that was chosen for it. The looks at one cap are a path; when the
cap moves the next path begins, so over its life an experiment has as many chances to err as it had
caps. The experiments here are heavy-tailed, looked at all the time, and their caps move much.
"""

from typing import Any, NamedTuple

import numpy as np
import pytest
from numpy.typing import NDArray

from stream_processors.stats.caps import cap_grid, choose_cap
from stream_processors.stats.group_sequential import GroupPlan, boundaries
from stream_processors.stats.sequential import confidence_sequence

Floats = NDArray[np.float64]

ALPHA = 0.05
BURN_IN = 100
PRECISION = 2
CAPS = np.array(cap_grid(PRECISION)) / 10**PRECISION
LOOKS, STEP = 80, 50
"""Looks, and units of each variant that come between two of them."""

EXPERIMENTS = 500
COUNTS = STEP * np.arange(1, LOOKS + 1)
PLANNED = (0.2, 0.4, 0.6, 0.8, 1.0)


class Law(NamedTuple):
    """Zero for a share of the units, else of Pareto's law with this exponent, times a scale."""

    exponent: float
    share: float = 0.3

    def draw(self, rng: np.random.Generator, shape: tuple[int, ...], scale: float = 1.0) -> Floats:
        totals = scale * rng.random(shape) ** (-1 / self.exponent)
        return np.where(rng.random(shape) < self.share, totals, 0.0)

    def capped_mean(self, cap: Floats, scale: float = 1.0) -> Floats:
        """Return the mean of min(total, cap) by integration, for caps above the scale."""
        a = self.exponent
        return self.share * scale * (1 + (1 - (cap / scale) ** (1 - a)) / (a - 1))


class Watched(NamedTuple):
    """Experiments, look by look: shape (experiments, looks)."""

    cap: NDArray[np.int64]
    estimate: Floats
    std_error: Floats


def watch(
    law: Law, rng: np.random.Generator, *, experiments: int, quantile: float, scale: float = 1.0
) -> Watched:
    """Return each look at the cap that the product chooses for it."""
    shape = (experiments, LOOKS, STEP)
    arms = [law.draw(rng, shape), law.draw(rng, shape, scale)]
    above, means, variances = [], [], []
    for cap in CAPS:
        of_cap = [_moments(arm, cap) for arm in arms]
        above.append([one[0] for one in of_cap])
        means.append(of_cap[1][1] - of_cap[0][1])
        variances.append(of_cap[0][2] + of_cap[1][2])
    capped = np.array(above)
    chosen = _chosen(capped, quantile)
    at = chosen[np.newaxis]
    return Watched(
        chosen,
        np.take_along_axis(np.array(means), at, 0)[0],
        np.sqrt(np.take_along_axis(np.array(variances), at, 0)[0]),
    )


def _moments(totals: Floats, cap: float) -> tuple[Any, Any, Any]:
    """Return units above a cap, mean, and its variance, to date."""
    kept = np.minimum(totals, cap)
    above = np.cumsum((totals > cap).sum(axis=2), axis=1)
    sums = np.cumsum(kept.sum(axis=2), axis=1)
    squares = np.cumsum((kept * kept).sum(axis=2), axis=1)
    return above, sums / COUNTS, (squares - sums**2 / COUNTS) / (COUNTS - 1) / COUNTS


def _chosen(above: NDArray[np.int64], quantile: float) -> NDArray[np.int64]:
    """Return the index of the cap at every look; ``above`` is by cap, arm, experiment, look."""
    pooled = above.sum(axis=1)
    allowed = 2 * COUNTS - np.ceil(quantile * 2 * COUNTS - 1e-9).astype(int)
    index: NDArray[np.int64] = np.argmax(pooled <= allowed, axis=0)
    experiments, looks = index.shape
    for experiment, look in [(0, 1), (experiments // 2, looks // 2), (experiments - 1, looks - 1)]:
        arms = above[:, :, experiment, look].T.tolist()
        units = [int(COUNTS[look])] * 2
        choice = choose_cap(units, arms, precision=PRECISION, quantile=quantile)
        assert choice.cap_index == index[experiment, look]
    return index


def sequences(watched: Watched) -> tuple[Floats, Floats, Floats]:
    """Return lower ends, upper ends and p-values of the looks past the burn-in."""
    is_past = BURN_IN <= COUNTS
    test = confidence_sequence(
        watched.estimate[:, is_past],
        watched.std_error[:, is_past],
        unit_count=2 * COUNTS[is_past],
        alpha=ALPHA,
        n_star=5_000,
    )
    return test.low, test.high, test.p_value


def moves_of(watched: Watched) -> Floats:
    """Return how often the cap of each experiment moved past the burn-in."""
    return (np.diff(watched.cap[:, BURN_IN <= COUNTS], axis=1) != 0).sum(axis=1)


def at_most(level: float, replications: int) -> float:
    return level + 4 * float(np.sqrt(level * (1 - level) / replications))


def watch_many(law: Law, seed: list[int], *, quantile: float, scale: float = 1.0) -> Watched:
    rng = np.random.default_rng(seed)
    parts = [
        watch(law, rng, experiments=100, quantile=quantile, scale=scale)
        for _ in range(EXPERIMENTS // 100)
    ]
    return Watched(*(np.concatenate(column) for column in zip(*parts, strict=True)))


@pytest.mark.parametrize("quantile", [0.99, 0.999])
@pytest.mark.parametrize("exponent", [1.3, 2.5])
def test_who_looks_all_the_time_errs_no_more_than_promised_while_caps_move(
    quantile: float, exponent: float
) -> None:
    """Without any effect. Planned looks go on with what they spent, whatever the cap."""
    seed = [20_261_122, int(1_000 * quantile), int(10 * exponent)]
    watched = watch_many(Law(exponent), seed, quantile=quantile)

    _, _, p_values = sequences(watched)
    planned = [int(fraction * LOOKS) - 1 for fraction in PLANNED]
    z = np.abs(watched.estimate / watched.std_error)[:, planned]
    crossed = z >= np.array(boundaries(PLANNED, GroupPlan(ALPHA)))

    assert moves_of(watched).mean() > 2
    assert (p_values.min(axis=1) <= ALPHA).mean() <= at_most(ALPHA, EXPERIMENTS)
    assert crossed.any(axis=1).mean() <= at_most(ALPHA, EXPERIMENTS)


def test_a_path_holds_the_effect_at_its_own_cap() -> None:
    """A treatment that lengthens the tail has another effect at every cap."""
    law, scale = Law(1.3), 1.5
    watched = watch_many(law, [20_261_123], quantile=0.999, scale=scale)

    low, high, _ = sequences(watched)
    caps = CAPS[watched.cap[:, BURN_IN <= COUNTS]]
    true = law.capped_mean(caps, scale) - law.capped_mean(caps)
    is_missed = (low > true) | (true > high)

    assert moves_of(watched).mean() > 2
    assert is_missed.any(axis=1).mean() <= at_most(ALPHA, EXPERIMENTS)
