"""Whether the split was as planned: protocol 9."""

import numpy as np

from stream_processors.stats.sample_ratio import (
    sample_ratio_log_bayes_factor,
    sample_ratio_test,
    sequential_p_value,
)
from tools.trust.bands import Band, around, at_most
from tools.trust.checks import Check, Found, Part, Protocol, Trial, share

ALPHA = 0.001
LOOKS = 100
UNITS = 100_000
REPLICATIONS = 20_000
LOSS = 0.01
LOSS_UNITS = 1_000_000
"""Per variant."""

WEIGHTS = (0.5, 0.5)


def fair_split(trial: Trial) -> Found:
    """Split units fairly, and look once, or a hundred times."""
    replications = trial.size(REPLICATIONS, least=500)
    step = UNITS // LOOKS
    steps = trial.rng.binomial(step, WEIGHTS[0], (replications, LOOKS))
    first = np.cumsum(steps, axis=1)
    totals = step * np.arange(1, LOOKS + 1)
    once, ever, naive = [], [], []
    for row in first.tolist():
        pairs = [(one, int(total) - one) for one, total in zip(row, totals, strict=True)]
        once.append(sample_ratio_test(pairs[-1], WEIGHTS).p_value < ALPHA)
        best = max(sample_ratio_log_bayes_factor(pair, WEIGHTS) for pair in pairs)
        ever.append(sequential_p_value(best) < ALPHA)
        naive.append(any(sample_ratio_test(pair, WEIGHTS).p_value < ALPHA for pair in pairs))
    naive_band = Band(2 * ALPHA, None)
    return Found(
        [
            Check(
                "9.fair.chi_square",
                f"fair splits of {UNITS:,} units that χ² calls broken at {ALPHA}, one look",
                share(once),
                around(ALPHA, replications),
                replications,
            ),
            Check(
                "9.fair.sequential",
                f"fair splits that the sequential test calls broken at any of {LOOKS} looks",
                share(ever),
                at_most(ALPHA, replications),
                replications,
            ),
            Check(
                "9.fair.chi_square_peeking",
                f"fair splits that χ² calls broken at any of {LOOKS} looks: too many",
                share(naive),
                naive_band,
                replications,
                "control",
            ),
        ]
    )


def broken_split(trial: Trial) -> Found:
    """Lose one unit in a hundred of one variant."""
    replications = trial.size(REPLICATIONS, least=200)
    lost = trial.rng.binomial(LOSS_UNITS, LOSS, replications)
    fixed, sequential = [], []
    for one in lost.tolist():
        counts = (LOSS_UNITS, LOSS_UNITS - one)
        fixed.append(sample_ratio_test(counts, WEIGHTS).p_value < ALPHA)
        factor = sample_ratio_log_bayes_factor(counts, WEIGHTS)
        sequential.append(sequential_p_value(factor) < ALPHA)
    return Found(
        [
            Check(
                f"9.loss.{name}",
                f"splits with {LOSS:.0%} of one variant's million units lost that {title} finds",
                share(found),
                Band(0.99, None),
                replications,
            )
            for name, title, found in (
                ("chi_square", "χ²", fixed),
                ("sequential", "the sequential test", sequential),
            )
        ]
    )


SAMPLE_RATIO = Protocol(
    "9",
    "Broken splits",
    "The check of the split is quiet on fair splits, however often it is looked at, and finds a "
    "loss of 1 % of one variant.",
    "At level 0.001; 20,000 experiments; χ² within .0003 to .0018, the sequential test below "
    ".0018 over 100 looks, a loss found in more than 99 %.",
    [Part("fair", fair_split, 40.0), Part("loss", broken_split, 2.0)],
)
