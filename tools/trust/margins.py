"""Guardrails at the margin: protocol 11."""

from functools import partial

import numpy as np

from stream_processors.stats.guardrails import (
    ArmMean,
    Guardrail,
    Margin,
    fixed_guardrail,
    sequential_guardrail,
)
from tools.trust.bands import around, at_most
from tools.trust.checks import Check, Found, Part, Protocol, Trial, share
from tools.trust.laws import LAWS, Arm, Floats, chunks, draw

Means = tuple[tuple[Floats, Floats], tuple[Floats, Floats]]
"""Means and their standard errors, by look: the control's, the treatment's."""

ALPHA = 0.05
UNITS = 5_000
LOOKS, STEP = 50, 100
MARGIN = 0.02
"""Share of the control's mean; the absolute margins are the same."""

N_STAR = 5_000


def at_the_margin(name: str, scale: str, trial: Trial) -> Found:
    """Make a treatment worse by exactly the margin: passing is the error."""
    law = LAWS[name]
    size = MARGIN if scale == "relative" else MARGIN * law.mean
    guardrail = Guardrail(Margin(size, scale), alpha=ALPHA)  # type: ignore[arg-type]
    replications = trial.size(10_000, least=400)
    fixed, watched = [], []
    for count in chunks(replications, UNITS):
        control = draw(law, trial.rng, (count, LOOKS), units=STEP).cumulated()
        treatment = draw(law, trial.rng, (count, LOOKS), units=STEP, lift=-MARGIN).cumulated()
        means = _means(control, law.precision), _means(treatment, law.precision)
        for row in range(count):
            control_mean, treatment_mean = _arms(means, row, LOOKS - 1)
            is_rate = law.kind == "conversion"
            test = fixed_guardrail(control_mean, treatment_mean, guardrail, is_rate=is_rate)
            fixed.append(test.status == "pass")
        watched += _watched(means, guardrail, count)
    title = f"{law.title}, {scale} margin, true effect at the margin"
    return Found(
        [
            Check(
                f"11.{name}.{scale}",
                f"{title}: experiments that pass at one look",
                share(fixed),
                around(ALPHA, replications),
                replications,
            ),
            Check(
                f"11.{name}.{scale}.watched",
                f"{title}: that pass at any of {LOOKS} looks of a sequence",
                share(watched),
                at_most(ALPHA, len(watched)),
                len(watched),
            ),
        ]
    )


def _arms(means: Means, row: int, look: int) -> tuple[ArmMean, ArmMean]:
    """Return control and treatment of an experiment at a look."""
    one, other = (
        ArmMean(STEP * (look + 1), float(mean[row, look]), float(error[row, look]))
        for mean, error in means
    )
    return one, other


def _watched(means: Means, guardrail: Guardrail, count: int) -> list[bool]:
    """Return, of every tenth experiment, whether it passed at any look."""
    passed = []
    for row in range(0, count, 10):
        arms = (_arms(means, row, look) for look in range(1, LOOKS))
        passed.append(
            any(
                sequential_guardrail(one, other, guardrail, n_star=N_STAR).status == "pass"
                for one, other in arms
            )
        )
    return passed


def _means(arm: Arm, precision: int) -> tuple[Floats, Floats]:
    """Return means and their standard errors in metric units."""
    count, total = arm.total.unit_count, arm.total.sums[..., 0]
    mean = total / count
    variance = (arm.total.products[..., 0] - total * mean) / (count - 1)
    return mean / 10.0**precision, np.sqrt(variance / count) / 10.0**precision


MARGINS = Protocol(
    "11",
    "Guardrails at the margin",
    "A treatment that is worse by exactly the margin passes its guardrail in 5 % of experiments, "
    "no more, whether looked at once or all the time.",
    "5,000 units per variant, 10,000 experiments; 4.30 to 5.73 % at one look, at most 5 % "
    "(+ chance) over 50 looks of a thousand of them.",
    [
        Part(f"{name}_{scale}", partial(at_the_margin, name, scale), 25.0)
        for name in ("normal", "bernoulli_0.1")
        for scale in ("absolute", "relative")
    ],
)
