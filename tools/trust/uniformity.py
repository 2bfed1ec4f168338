"""Are p-values without an effect uniform? Shared by all protocols that have such p-values."""

import numpy as np

from tools.trust.bands import around, between, distance_from_uniform, uniform_distance
from tools.trust.checks import Check, Figure, Found, share
from tools.trust.laws import Floats

LEVELS = {0.05: "05", 0.01: "01", 0.10: "10"}
BINS = 20
SKEWED_LEVEL = 0.0435
"""Welch's t on lognormal totals with sigma 1.5 is a little conservative at 5,000 units."""


def uniform(
    check_id: str,
    title: str,
    p_values: Floats,
    *,
    is_discrete: bool = False,
    is_skewed: bool = False,
) -> Found:
    """Return the checks that p-values are uniform, and their histogram."""
    replications = len(p_values)
    checks = []
    for level, label in LEVELS.items():
        band = around(level, replications)
        if is_skewed and level == 0.05:
            band = between(SKEWED_LEVEL, level, replications)
        checks.append(
            Check(
                f"{check_id}.reject_{label}",
                f"{title}: A/A experiments that reject at {level}",
                share(p_values < level),
                band,
                replications,
            )
        )
    if not is_discrete:
        checks.append(
            Check(
                f"{check_id}.ks",
                f"{title}: distance of the p-values from uniform",
                distance_from_uniform(p_values.tolist()),
                uniform_distance(replications),
                replications,
            )
        )
    counts, edges = np.histogram(p_values, bins=BINS, range=(0, 1))
    figure = Figure(
        f"{check_id}.p_values",
        "bars",
        f"p-values without an effect: {title}",
        "p",
        "share",
        (edges[:-1] + 0.5 / BINS).tolist(),
        {"experiments": (counts / replications).tolist()},
    )
    return Found(checks, [figure])
