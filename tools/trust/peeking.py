"""Results that are watched all the time: protocols 2, 3, 5 and 7, and the figure about them."""

from functools import partial
from typing import NamedTuple

import numpy as np

from stream_processors.stats.effects import Plan
from stream_processors.stats.tails import normal_critical_value
from tools.trust.bands import Band, around, at_least, at_most, near, of_known
from tools.trust.checks import Check, Figure, Found, Part, Protocol, Trial, exactly_none, share
from tools.trust.laws import LAWS, Arm, Floats, Law, chunks, draw
from tools.trust.product import Mask, Sequences, effects, sequences

LOOKS = 200
STEP = 50
"""Units that each variant gains between two looks."""

ALPHA = 0.05
PLAN = Plan(alpha=ALPHA, n_star=5_000)
REPLICATIONS = 20_000
REFERENCE_RUNS = 20_000
AGREEMENT_SAMPLE = 1_000
AGREEMENT = 1e-9


class Reference(NamedTuple):
    """What another program found: a simulator in C++, 20,000 runs each."""

    naive: float
    sequence: float


REFERENCES = {
    "normal": Reference(0.4331, 0.0244),
    "bernoulli_0.1": Reference(0.4324, 0.0245),
    "bernoulli_0.01": Reference(0.3755, 0.0202),
    "lognormal": Reference(0.4057, 0.0184),
    "zero_inflated": Reference(0.3962, 0.0186),
}

EQUAL_LOOKS = {
    1: 0.05,
    2: 0.08311780335451754,
    3: 0.10725637463960577,
    4: 0.12616901250212098,
    5: 0.14168933259096236,
    10: 0.19335659334978636,
    20: 0.24791093861919627,
    50: 0.3204500038886963,
    100: 0.3736187390395052,
}
"""True error of a z-test at .05 that is read at K equal looks, by numerical integration.

Armitage, McPherson, Rowe (1969), JRSS A 132: .083 .107 .126 .142 .193 .248.
"""

EARLY = 20
"""Units that a sequence may be tuned to so that its first looks matter most."""

HERO = "normal"
"""The law of the figure that comes first."""

STEPS_OF_EQUAL_LOOKS = 300
"""A multiple of every K."""


class Watched(NamedTuple):
    """Experiments that were watched, one row each; looks are the columns.

    Attributes:
        sequence: What the product shows.
        control: Sums up to every look.
        treatment: The same.
    """

    sequence: Sequences
    control: Arm
    treatment: Arm


def watch(
    law: Law, trial: Trial, count: int, *, plan: Plan = PLAN, looks: int = LOOKS, step: int = STEP,
    lift: float = 0.0,
) -> Watched:  # fmt: skip
    """Return ``count`` experiments of one law, seen at every look."""
    control = draw(law, trial.rng, (count, looks), units=step).cumulated()
    treatment = draw(law, trial.rng, (count, looks), units=step, lift=lift).cumulated()
    return Watched(sequences(law, control.total, treatment.total, plan), control, treatment)


def watch_without_effect(name: str, trial: Trial) -> Found:
    """Watch A/A experiments of one law at 200 looks."""
    law, reference = LAWS[name], REFERENCES[name]
    replications = trial.size(REPLICATIONS, least=400)
    critical = normal_critical_value(ALPHA)
    shown, alone, naive, posterior = [], [], [], []
    disagreements = 0
    for size in chunks(replications, LOOKS * STEP):
        seen = watch(law, trial, size)
        excludes = seen.sequence.excludes(0.0)
        disagreements += int(np.sum(excludes != (seen.sequence.p_value < ALPHA)))
        shown.append(np.logical_or.accumulate(excludes & seen.sequence.is_shown, axis=1))
        alone.append(excludes.any(axis=1))
        naive.append(np.logical_or.accumulate(np.abs(seen.sequence.z) > critical, axis=1))
        # With a flat prior P(better) = Φ(z).
        sure = np.abs(seen.sequence.z) > normal_critical_value(2 * ALPHA)
        posterior.append(np.logical_or.accumulate(sure, axis=1))
    by_look = {
        label: np.concatenate(found)
        for label, found in (("naive", naive), ("shown", shown), ("posterior", posterior))
    }
    peeked = f"{law.title}: A/A experiments that reject at any of {LOOKS} looks"
    checks = [
        Check(
            f"2.{name}.always_valid",
            f"{peeked}, as shown",
            share(by_look["shown"][:, -1]),
            at_most(ALPHA, replications),
            replications,
        ),
        Check(
            f"2.{name}.sequence_alone",
            f"{peeked}, sequence without burn-in, against another simulator",
            share(np.concatenate(alone)),
            near(reference.sequence, of=REFERENCE_RUNS, replications=replications),
            replications,
        ),
        Check(
            f"2.{name}.naive",
            f"{peeked}, plain z-test",
            share(by_look["naive"][:, -1]),
            near(reference.naive, of=REFERENCE_RUNS, replications=replications),
            replications,
            "control",
        ),
        exactly_none(
            f"2.{name}.p_and_interval",
            f"{law.title}: looks at which p-value and interval disagree",
            disagreements,
            replications * LOOKS,
        ),
        _agreement(f"2.{name}.same_numbers", law, trial),
    ]
    if name == HERO:
        checks.append(
            Check(
                "2.posterior",
                f"{peeked}, a flat-prior posterior read as P(better) > 95 % or < 5 %",
                share(by_look["posterior"][:, -1]),
                Band(0.5, None),
                replications,
                "control",
            )
        )
    return Found(checks, [_figure(name, law, by_look, replications)])


def _figure(name: str, law: Law, by_look: dict[str, Mask], replications: int) -> Figure:
    units = [float(2 * STEP * look) for look in range(1, LOOKS + 1)]
    curves = {label: found.mean(axis=0).tolist() for label, found in by_look.items()}
    shown = {"Litmus": curves["shown"], "a dashboard with p < 5 %": curves["naive"]}
    if name != HERO:
        return Figure(
            f"2.{name}.by_look",
            "lines",
            f"Watched from the first unit on: {law.title}",
            "units in both variants",
            "share that ever rejected",
            units,
            {**shown, "promised": [ALPHA] * LOOKS},
        )
    return Figure(
        "2.peeking",
        "lines",
        "What peeking does: experiments without any effect in which somebody has seen one",
        "units so far, a look every 100",
        "share of A/A experiments that were called by now",
        units,
        {**shown, "a dashboard with P(better) > 95 %": curves["posterior"],
         "promised: 5 %": [ALPHA] * LOOKS},
        note=f"{replications:,} experiments in which both variants are the same. Whoever watches "
        "an ordinary dashboard and stops at the first significant number is wrong in "
        f"{curves['naive'][-1]:.0%} of them, with a posterior in {curves['posterior'][-1]:.0%}; "
        f"whoever watches Litmus, in {curves['shown'][-1]:.1%}.",
    )  # fmt: skip


def _agreement(check_id: str, law: Law, trial: Trial) -> Check:
    """Return the check that the arrays above and the product's whole way give one result."""
    looks = 20
    seen = watch(law, trial, max(1, AGREEMENT_SAMPLE // looks), looks=looks)
    whole = effects(law, seen.control.flat(), seen.treatment.flat(), PLAN)
    is_shown = np.isfinite(whole.sequence_low)
    differs = is_shown != seen.sequence.is_shown.ravel()
    for one, other in (
        (whole.sequence_low, seen.sequence.low),
        (whole.sequence_high, seen.sequence.high),
        (whole.sequence_p, seen.sequence.p_value),
    ):
        scale = np.maximum(np.abs(other.ravel()), 1e-3)
        differs |= is_shown & (np.abs(one - other.ravel()) > AGREEMENT * scale)
    return exactly_none(
        check_id,
        f"{law.title}: looks that differ from the product's whole way by more than {AGREEMENT:g}",
        int(differs.sum()),
        len(differs),
    )


def look_after_every_pair(name: str, n_star: int, trial: Trial) -> Found:
    """Look after every pair of units that enters, from the burn-in on."""
    law, plan = LAWS[name], Plan(alpha=ALPHA, n_star=n_star)
    replications, pairs = trial.size(10_000, least=400), 2_000
    rejected, at_once = [], []
    for size in chunks(replications, pairs):
        sequence = watch(law, trial, size, plan=plan, looks=pairs, step=1).sequence
        excludes = sequence.excludes(0.0)
        rejected.append((excludes & sequence.is_shown).any(axis=1))
        at_once.append(excludes.any(axis=1))
    peeked = f"{law.title}, tuned to {n_star} units: A/A experiments that reject at any pair"
    checks = [
        Check(
            f"3.{name}.{n_star}",
            f"{peeked} up to {2 * pairs:,} units",
            share(np.concatenate(rejected)),
            at_most(ALPHA, replications),
            replications,
        )
    ]
    if n_star == EARLY:
        checks.append(
            Check(
                f"3.{name}.{n_star}.no_burn_in",
                f"{peeked}, without the burn-in: too many",
                share(np.concatenate(at_once)),
                Band(around(ALPHA, replications).high, None),
                replications,
                "control",
            )
        )
    return Found(checks)


def equal_looks(trial: Trial) -> Found:
    """Reproduce the error of a plain z-test at K equal looks."""
    law, replications = LAWS["normal"], trial.size(REPLICATIONS, least=1_000)
    critical = normal_critical_value(ALPHA)
    rejected: dict[int, list[Mask]] = {count: [] for count in EQUAL_LOOKS}
    for size in chunks(replications, STEPS_OF_EQUAL_LOOKS * 20):
        z = watch(law, trial, size, looks=STEPS_OF_EQUAL_LOOKS, step=20).sequence.z
        for count, found in rejected.items():
            every = STEPS_OF_EQUAL_LOOKS // count
            found.append(np.asarray(np.any(np.abs(z[:, every - 1 :: every]) > critical, axis=1)))
    found_shares = {count: share(np.concatenate(one)) for count, one in rejected.items()}
    checks = [
        Check(
            f"5.looks_{count}",
            f"plain z-test at .05, {count} equal look{'s' if count > 1 else ''}",
            found_shares[count],
            of_known(known, replications),
            replications,
            "control",
        )
        for count, known in EQUAL_LOOKS.items()
    ]
    figure = Figure(
        "5.armitage",
        "lines",
        "What a plain test at 5 % does when it is read K times",
        "equal looks",
        "share of A/A experiments that reject",
        [float(count) for count in EQUAL_LOOKS],
        {
            "simulated": list(found_shares.values()),
            "calculated (Armitage, McPherson, Rowe)": list(EQUAL_LOOKS.values()),
        },
    )
    return Found(checks, [figure])


def cover_at_all_looks(name: str, lift: float, trial: Trial) -> Found:
    """Watch experiments with an effect: the sequence must hold the truth at all looks."""
    law, replications = LAWS[name], trial.size(REPLICATIONS, least=400)
    truth = law.mean * lift
    missed: list[Mask] = []
    widths: list[Floats] = []
    for size in chunks(replications, LOOKS * STEP):
        sequence = watch(law, trial, size, lift=lift).sequence
        missed.append(np.asarray(np.any(sequence.excludes(truth) & sequence.is_shown, axis=1)))
        widths.append(np.where(sequence.is_shown, sequence.high - sequence.low, np.nan)[:100])
    label = f"{lift:g}"
    check = Check(
        f"7.{name}.lift_{label}",
        f"{law.title}, lift {lift:.0%}: sequences that hold the truth at all {LOOKS} looks",
        1 - share(np.concatenate(missed)),
        at_least(1 - ALPHA, replications),
        replications,
    )
    return Found([check])


PEEKING = Protocol(
    "2",
    "A/A under continuous peeking",
    "Whoever looks at a running experiment all the time, and stops when it says so, is still "
    "wrong in at most 5 % of experiments without an effect.",
    "200 looks, 50 units per variant between two; 20,000 experiments of each of five laws. What "
    "is shown must reject in at most 5 % (+ chance) over all looks together; the bare sequence "
    "and the plain test must agree with another simulator's results within 4 standard errors.",
    [
        Part(name, partial(watch_without_effect, name), seconds)
        for name, seconds in (
            ("normal", 6.0),
            ("bernoulli_0.1", 1.0),
            ("bernoulli_0.01", 1.0),
            ("lognormal", 6.0),
            ("zero_inflated", 2.0),
        )
    ],
)

EVERY_PAIR = Protocol(
    "3",
    "A look after every pair",
    "Looking after every single pair of units does no harm either, thanks to the burn-in: the "
    "sequence is asymptotic, and needs units before it can be trusted.",
    "2,000 pairs, tuned to 500 units, and to as few as 20, where it would matter most; 10,000 "
    "experiments, at most 5 % (+ chance) may reject. Without the burn-in more must.",
    [
        Part(f"{name}_{n_star}", partial(look_after_every_pair, name, n_star), 6.0)
        for name, n_star in (
            ("normal", 500),
            ("bernoulli_0.1", 500),
            ("lognormal", 500),
            ("normal", EARLY),
        )
    ],
)

EQUAL = Protocol(
    "5",
    "The harness can see peeking",
    "A plain test at 5 % that is read several times is wrong far more often; how often has been "
    "known since 1969, and the simulation must reproduce it.",
    "K equal looks, K = 1 to 100; 20,000 experiments, within 4 standard errors of the integral.",
    [Part("equal_looks", equal_looks, 4.0)],
)

COVERAGE = Protocol(
    "7",
    "Coverage at all looks",
    "With an effect, too, the confidence sequence holds the truth at all looks at once.",
    "200 looks, 20,000 experiments; at least 95 % (- chance) of the sequences never exclude it.",
    [
        Part(f"{name}_{lift:g}", partial(cover_at_all_looks, name, lift), 5.0)
        for name, lift in (
            ("normal", 0.015),
            ("bernoulli_0.1", 0.2),
            ("lognormal", 0.2),
            ("zero_inflated", 0.2),
        )
    ],
)
