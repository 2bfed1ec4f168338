"""Whether the split was as planned: protocol 9, by the check that a look makes."""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from schemas.definitions import Definition, DefinitionBody, MetricBody, VariantBody, define
from stream_processors.merge.results import SAMPLE_RATIO_ALPHA, sample_ratio_of
from stream_processors.stats.sample_ratio import sample_ratio_log_bayes_factor, sequential_p_value
from tools.trust.bands import Band, around, at_most
from tools.trust.checks import Check, Found, Part, Protocol, Trial, share

ALPHA = SAMPLE_RATIO_ALPHA
LOOKS = 100
UNITS = 100_000
REPLICATIONS = 20_000
LOSS = 0.01
LOSS_UNITS = 1_000_000
"""Per variant."""

GROSS_LOSS = 0.2
GROSS_UNITS = 1_250
"""Per variant: soon after the burn-in of 100."""

WEIGHTS = (0.5, 0.5)

DEFINITION: Definition = define(
    DefinitionBody(
        "split",
        [VariantBody("control", WEIGHTS[0]), VariantBody("treatment", WEIGHTS[1])],
        [MetricBody("converted", "conversion")],
    ),
    ordinal=1,
    version=1,
    created_at_ms=0,
)


def _watched(looks: Iterable[Sequence[int]]) -> list[dict[str, Any]]:
    """Return what the product says of the split at each look, as each follows from the last."""
    running, entries = 1.0, []
    for units in looks:
        entry, running = sample_ratio_of(DEFINITION, units, running, final=False)
        entries.append(entry)
    return entries


def fair_split(trial: Trial) -> Found:
    """Split units fairly, and look once, or a hundred times."""
    replications = trial.size(REPLICATIONS, least=500)
    step = UNITS // LOOKS
    steps = trial.rng.binomial(step, WEIGHTS[0], (replications, LOOKS))
    first = np.cumsum(steps, axis=1)
    totals = step * np.arange(1, LOOKS + 1)
    once, ever, naive = [], [], []
    for row in first.tolist():
        entries = _watched((one, int(total) - one) for one, total in zip(row, totals, strict=True))
        once.append(entries[-1]["p_value"] < ALPHA)
        ever.append(any(entry["mismatch"] for entry in entries))
        naive.append(any(entry["p_value"] < ALPHA for entry in entries))
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
    """Lose one unit in a hundred of one variant, or one in five of few."""
    replications = trial.size(REPLICATIONS, least=200)
    small = _found_losses(trial, replications, LOSS, LOSS_UNITS)
    gross = _found_losses(trial, replications, GROSS_LOSS, GROSS_UNITS)
    cases = (
        ("chi_square", "χ²", LOSS, LOSS_UNITS, small["chi_square"], Band(0.99, None)),
        ("sequential", "the check at one look", LOSS, LOSS_UNITS, small["check"], Band(0.99, None)),
        (
            "gross",
            "the check at one look",
            GROSS_LOSS,
            GROSS_UNITS,
            gross["check"],
            Band(0.8, None),
        ),
        (
            "single",
            "one prior of 10,000",
            GROSS_LOSS,
            GROSS_UNITS,
            gross["single"],
            Band(None, 0.1),
        ),
    )
    return Found(
        [
            Check(
                f"9.loss.{name}",
                f"splits with {loss:.0%} of one variant's {units:,} units lost that {title} finds",
                share(found),
                band,
                replications,
                "control" if name == "single" else "promise",
            )
            for name, title, loss, units, found, band in cases
        ]
    )


def _found_losses(
    trial: Trial, replications: int, loss: float, units: int
) -> dict[str, list[bool]]:
    found: dict[str, list[bool]] = {"chi_square": [], "check": [], "single": []}
    for lost in trial.rng.binomial(units, loss, replications).tolist():
        counts = (units, units - lost)
        [entry] = _watched([counts])
        found["chi_square"].append(entry["p_value"] < ALPHA)
        found["check"].append(entry["mismatch"])
        single = sequential_p_value(sample_ratio_log_bayes_factor(counts, WEIGHTS))
        found["single"].append(single < ALPHA)
    return found


SAMPLE_RATIO = Protocol(
    "9",
    "Broken splits",
    "The check of the split is quiet on fair splits, however often it is looked at, and finds a "
    "loss of 1 % of one variant, and one of 20 % among few units.",
    "At level 0.001; 20,000 experiments; χ² within .0003 to .0018, the sequential test below "
    ".0018 over 100 looks; a loss of 1 % of a million found in more than 99 %, one of 20 % "
    "of 1,250 in more than 80 %, which a single prior of 10,000 misses.",
    [Part("fair", fair_split, 60.0), Part("loss", broken_split, 3.0)],
)
