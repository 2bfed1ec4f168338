"""How far a simulated share may lie from what it should be, before it means something."""

import math
from typing import NamedTuple

from scipy import stats

CHANCE = 0.001
"""Of a false alarm of one two-sided band; half of it on either side."""

STD_ERRORS = 4.0
"""Where a band is around another simulation's result."""


class Band(NamedTuple):
    """Where a value must lie, ends included; None: no limit on that side."""

    low: float | None = None
    high: float | None = None

    def holds(self, value: float) -> bool:
        """Return whether a value lies inside; NaN never does."""
        above = self.low is None or value >= self.low
        below = self.high is None or value <= self.high
        return bool(above and below)


EXACT = Band(0.0, 0.0)
"""Of what is counted where nothing may differ."""


def around(share: float, replications: int) -> Band:
    """Return where 99.9 % of simulated shares lie if the true one is ``share``."""
    return Band(
        float(stats.binom.ppf(CHANCE / 2, replications, share)) / replications,
        float(stats.binom.ppf(1 - CHANCE / 2, replications, share)) / replications,
    )


def at_most(share: float, replications: int) -> Band:
    """Return the band of a share that is promised to be no larger than ``share``."""
    return Band(None, around(share, replications).high)


def at_least(share: float, replications: int) -> Band:
    """Return the band of a share that is promised to be no smaller than ``share``."""
    return Band(around(share, replications).low, None)


def between(low: float, high: float, replications: int) -> Band:
    """Return the band of a share that may truly be anything from ``low`` to ``high``."""
    return Band(around(low, replications).low, around(high, replications).high)


def near(reference: float, *, of: int, replications: int) -> Band:
    """Return 4 standard errors around a share that another program found in ``of`` runs."""
    reach = STD_ERRORS * math.sqrt(reference * (1 - reference) * (1 / of + 1 / replications))
    return Band(reference - reach, reference + reach)


def of_known(share: float, replications: int) -> Band:
    """Return 4 standard errors around a share that is known from a calculation."""
    reach = STD_ERRORS * math.sqrt(share * (1 - share) / replications)
    return Band(share - reach, share + reach)


def uniform_distance(count: int) -> Band:
    """Return where the Kolmogorov-Smirnov distance of ``count`` uniform p-values stays, 99.9 %."""
    return Band(None, float(stats.kstwo.ppf(1 - CHANCE, count)))


def distance_from_uniform(p_values: "list[float]") -> float:
    """Return the Kolmogorov-Smirnov distance of p-values from the uniform distribution."""
    return float(stats.kstest(p_values, "uniform").statistic)
