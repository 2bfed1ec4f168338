"""One planned look: uniform p-values, coverage, power (protocols 1, 6 and 8)."""

from functools import partial
from typing import NamedTuple

import numpy as np

from stream_processors.stats.effects import Plan
from stream_processors.stats.planning import PlanInputs, plan
from tools.trust.bands import Band, around, near, of_known
from tools.trust.checks import Check, Figure, Found, Part, Protocol, Trial, share
from tools.trust.clustered import quantile_coverage, quantiles_without_effect
from tools.trust.laws import LAWS, Law, chunks, draw
from tools.trust.peeking import LOOKS, watch
from tools.trust.product import Results, effects
from tools.trust.uniformity import uniform

UNITS = 5_000
REPLICATIONS = 10_000
LIFTS = (0.0, 0.02, 0.20)
POWER_UNITS = 10_000
POWER_EFFECT = 0.05
"""In standard deviations."""

POWER_FIXED = 0.9424
"""Of a two-sided t-test: Φ(.05·√5000 - 1.96) = Φ(1.5756)."""

POWER_SEQUENCE = 0.7803
POWER_SEQUENCE_RUNS = 20_000
"""Of a sequence tuned to all units and watched at 200 looks, by another simulator."""


def look_at(
    law: Law, trial: Trial, replications: int, *, units: int, lift: float = 0.0, alpha: float = 0.05
) -> Results:
    """Return the product's results of experiments with one look each."""
    found = []
    for size in chunks(replications, units):
        control = draw(law, trial.rng, (size,), units=units)
        treatment = draw(law, trial.rng, (size,), units=units, lift=lift)
        found.append(effects(law, control, treatment, Plan(alpha=alpha)))
    return Results(*map(np.concatenate, zip(*found, strict=True)))


def no_effect(name: str, trial: Trial) -> Found:
    """Try A/A experiments of one law: p-values must be uniform."""
    law = LAWS[name]
    replications = trial.size(REPLICATIONS, least=400)
    p_values = look_at(law, trial, replications, units=UNITS).p_value
    return uniform(f"1.{name}", law.title, p_values, is_discrete=name == "bernoulli_0.01",
                   is_skewed=name == "lognormal")  # fmt: skip


class Case(NamedTuple):
    """A law whose intervals are tried.

    Attributes:
        law: Which.
        relative: How its relative interval is made.
    """

    law: str
    relative: str


COVERAGE_CASES = (
    Case("bernoulli_0.1", "log"),
    Case("normal", "log"),
    Case("lognormal", "log"),
    Case("negative", "Fieller"),
    Case("ratio", "log"),
    Case("cuped", "delta"),
    Case("cuped_new", "delta"),
    Case("ratio_cuped", "delta"),
)


def coverage(name: str, relative: str, trial: Trial) -> Found:
    """Cover absolute and relative effects of one law, at several effects and two levels."""
    law, replications = LAWS[name], trial.size(REPLICATIONS, least=400)
    checks, shares = [], {"absolute": [], "relative": []}  # type: ignore[var-annotated]
    for lift in LIFTS:
        for alpha in (0.05, 0.10):
            results = look_at(law, trial, replications, units=UNITS, lift=lift, alpha=alpha)
            truth = law.mean * lift
            # Of a mean below 0 the share is of its size: more negative is less.
            relative_truth = lift if law.mean > 0 else -lift
            for scale, flags in (
                ("absolute", results.covers(truth)),
                ("relative", results.relative_covers(relative_truth)),
            ):
                title = scale if scale == "absolute" else f"relative ({relative})"
                held = share(flags)
                if alpha == 0.05:
                    shares[scale].append(held)
                checks.append(
                    Check(
                        f"6.{name}.{scale}.lift_{lift:g}.{round(100 * (1 - alpha))}",
                        f"{law.title}, {title}, lift {lift:.0%}: {1 - alpha:.0%} intervals that "
                        "hold it",
                        held,
                        around(1 - alpha, replications),
                        replications,
                    )
                )
    band = around(0.95, replications)
    assert band.low is not None
    assert band.high is not None
    figure = Figure(
        f"6.{name}.coverage",
        "lines",
        f"Coverage of 95 % intervals: {law.title}",
        "true lift",
        "share that holds it",
        list(LIFTS),
        {scale: list(values) for scale, values in shares.items()},
        {"band": ([band.low] * len(LIFTS), [band.high] * len(LIFTS))},
    )
    return Found(checks, [figure])


def power_of_sequence(trial: Trial) -> Found:
    """Watch a small true effect, and look once at the end."""
    replications = trial.size(REPLICATIONS, least=400)
    law = LAWS["normal"]
    mean, deviation = law.parameters
    lift = POWER_EFFECT * deviation / mean
    reading = Plan(n_star=2 * POWER_UNITS)
    found, fixed = [], []
    for size in chunks(replications, POWER_UNITS):
        seen = watch(law, trial, size, plan=reading, lift=lift)
        excludes = seen.sequence.excludes(0.0) & seen.sequence.is_shown
        found.append(np.logical_or.accumulate(excludes, axis=1))
        at_end = (slice(None), -1)
        last = effects(law, seen.control.at(at_end), seen.treatment.at(at_end), reading)
        fixed.append(last.p_value < reading.alpha)
    by_look = np.concatenate(found)
    checks = [
        Check(
            "8.fixed",
            f"effect of {POWER_EFFECT} standard deviations, {POWER_UNITS:,} units per variant: "
            "found by one planned look",
            share(np.concatenate(fixed)),
            of_known(POWER_FIXED, replications),
            replications,
        ),
        Check(
            "8.always_valid",
            f"the same, found at any of {LOOKS} looks of a sequence, against another simulator",
            share(by_look[:, -1]),
            near(POWER_SEQUENCE, of=POWER_SEQUENCE_RUNS, replications=replications),
            replications,
        ),
    ]
    units = [2.0 * POWER_UNITS * look / LOOKS for look in range(1, LOOKS + 1)]
    figure = Figure(
        "8.power",
        "lines",
        "What watching costs: an effect of 0.05 standard deviations",
        "units in both variants",
        "share of experiments that have found it",
        units,
        {
            "sequence, watched all the time": by_look.mean(axis=0).tolist(),
            "one look, planned for this size": [_fixed_power(one) for one in units],
        },
        note="The sequence finds less at the end, but it may be stopped at once when it finds "
        "something, and it is still right.",
    )
    return Found(checks, [figure])


def _fixed_power(units: float) -> float:
    asked = PlanInputs(
        kind="sum",
        baseline=10.0,
        deviation=3.0,
        effect=POWER_EFFECT * 3.0,
        effect_scale="absolute",
        goal="power",
        units=round(units),
    )
    return float(plan(asked).power or 0.0)


def planned_size(name: str, trial: Trial) -> Found:
    """Ask the planner for a size, and see whether it delivers the power."""
    replications = trial.size(REPLICATIONS, least=400)
    law, asked, lift = _plans()[name]
    answer = plan(asked)
    assert answer.units_by_variant, answer.status
    units = answer.units_by_variant[0]
    reading = Plan(n_star=answer.n_star or 5_000)
    if asked.method == "always_valid":
        found = _found_by_sequence(law, trial, replications, units, lift, reading)
    else:
        found = look_at(law, trial, replications, units=units, lift=lift).p_value < reading.alpha
    low, high = 0.8, 0.8
    if law.kind == "conversion":
        high = 0.809  # the pooled formula asks for a few units too many
    band = Band(around(low, replications).low, around(high, replications).high)
    return Found(
        [
            Check(
                f"8.planned.{name}",
                f"{law.title}, {asked.method.replace('_', ' ')}: power at the {units:,} units "
                "per variant that the planner asks for, for 80 %",
                share(found),
                band,
                replications,
            )
        ]
    )


def _found_by_sequence(
    law: Law, trial: Trial, replications: int, units: int, lift: float, reading: Plan
) -> "np.ndarray[tuple[int, ...], np.dtype[np.bool_]]":
    looks = PlanInputs(kind="sum", baseline=1.0).looks
    step = -(-units // looks)
    found = []
    for size in chunks(replications, units):
        seen = watch(law, trial, size, plan=reading, looks=looks, step=step, lift=lift).sequence
        found.append((seen.excludes(0.0) & seen.is_shown).any(axis=1))
    return np.concatenate(found)


def _plans() -> dict[str, tuple[Law, PlanInputs, float]]:
    normal, rate = LAWS["normal"], LAWS["bernoulli_0.1"]
    cuped = LAWS["cuped"]
    return {
        "mean": (normal, PlanInputs(kind="sum", baseline=10.0, deviation=3.0, effect=0.02), 0.02),
        "rate": (rate, PlanInputs(kind="conversion", baseline=0.1, effect=0.1), 0.1),
        "cuped": (
            cuped,
            PlanInputs(
                kind="sum", baseline=5.0, deviation=3.0, effect=0.04, covariate_correlation=0.7
            ),
            0.04,
        ),
        "mean_sequence": (
            normal,
            PlanInputs(
                kind="sum", baseline=10.0, deviation=3.0, effect=0.02, method="always_valid"
            ),
            0.02,
        ),
    }


NO_EFFECT = Protocol(
    "1",
    "A/A at one look",
    "Without an effect the p-value of a planned look is uniform: at every level it rejects as "
    "often as the level says, for every kind of metric.",
    "5,000 units per variant, 10,000 experiments of each law; rejections at 5, 1 and 10 % and the "
    "Kolmogorov-Smirnov distance from uniform, each at 99.9 %.",
    [
        *(
            Part(name, partial(no_effect, name), 6.0)
            for name in (
                "bernoulli_0.1",
                "bernoulli_0.01",
                "normal",
                "lognormal",
                "zero_inflated",
                "ratio",
                "cuped",
                "cuped_new",
                "ratio_cuped",
            )
        ),
        Part("quantiles", quantiles_without_effect, 210.0),
    ],
)

COVERAGE = Protocol(
    "6",
    "Intervals hold the truth",
    "An interval of 95 % holds the true effect in 95 % of experiments, whatever the effect is, on "
    "the absolute and on the relative scale.",
    "5,000 units per variant, lifts of 0, 2 and 20 %, 10,000 experiments each; 94.27 to 95.70 % "
    "(90 % intervals: 89.00 to 90.97 %).",
    [
        *(Part(one.law, partial(coverage, one.law, one.relative), 30.0) for one in COVERAGE_CASES),
        Part("quantiles", quantile_coverage, 600.0),
    ],
)

POWER = Protocol(
    "8",
    "Power as planned",
    "Effects are found as often as theory says, and sizes from the planner deliver the power that "
    "they were asked for.",
    "10,000 experiments each; within 4 standard errors of the known power, planned sizes within "
    "78.4 to 81.6 % (rates to 82.5 %: their formula rounds up).",
    [
        Part("sequence", power_of_sequence, 4.0),
        *(
            Part(name, partial(planned_size, name), 4.0)
            for name in ("mean", "rate", "cuped", "mean_sequence")
        ),
    ],
)
