"""Variants of very different sizes: protocol 26.

What is sparse in a small variant is where a test that is right at 50:50 goes wrong first.
"""

from functools import partial
from typing import NamedTuple

import numpy as np

from schemas.definitions import Definition, define
from schemas.posted import DefinitionBody, MetricBody, VariantBody
from stream_processors.merge.planned import Information, Plans, path_after
from stream_processors.merge.results import SAMPLE_RATIO_ALPHA, sample_ratio_of
from stream_processors.stats.effects import Plan
from stream_processors.stats.group_sequential import GroupPath, GroupPlan
from stream_processors.stats.spending import Spending
from tools.trust.bands import around, at_least, at_most, between
from tools.trust.checks import Check, Found, Part, Protocol, Trial, share
from tools.trust.laws import LAWS, Arm, Law, chunks, draw
from tools.trust.product import Sequences, effects, sequences

ALPHA = 0.05
LOOKS = 40
SMALL_STEP = 50
"""Units that the treatment gains between two looks."""

EVERY = 8
"""Looks from one planned look to the next: five of them, the last at the end."""

REPLICATIONS = 4_000
SPLIT_REPLICATIONS = 20_000
SPLIT_LOOKS = 20
SPLIT_STEP = 5_000


class Split(NamedTuple):
    """How units are shared.

    Attributes:
        title: In words.
        ratio: Units of the control for one of the treatment.
    """

    title: str
    ratio: int

    @property
    def weights(self) -> tuple[float, float]:
        """Return the planned shares: the control's, the treatment's."""
        whole = self.ratio + 1
        return self.ratio / whole, 1 / whole


SPLITS = {"90": Split("90:10", 9), "99": Split("99:1", 99)}

PLANNED_SPARSE_MAX = 0.08
"""Of planned looks and of one look at sparse, skewed totals, which a normal law is rough for.

A small variant that happens to have few large values has a small standard error as well. Both do
not wait as long as it would take; ``docs/statistics.md`` says so. What is watched all the time is
held to alpha.
"""

UNEQUAL_LAWS: dict[str, Law] = {
    "rate": LAWS["bernoulli_0.1"],
    "normal": LAWS["normal"],
    "lognormal": LAWS["zero_inflated"]._replace(
        title="20 % buy, lognormal, sigma 1.2",
        mean=0.2 * float(np.exp(1.2**2 / 2)),
        parameters=(0.2, 1.2),
    ),
}


def unequal(name: str, split_name: str, trial: Trial) -> Found:
    """Read A/A experiments by three methods, each as often as it is made for."""
    law, split = UNEQUAL_LAWS[name], SPLITS[split_name]
    replications = trial.size(REPLICATIONS, least=100)
    units_max = LOOKS * SMALL_STEP * (split.ratio + 1)
    plan = Plan(alpha=ALPHA, n_star=units_max)
    watched, truly, planned, once, covered = [], [], [], [], []
    for size in chunks(replications, units_max):
        control = draw(law, trial.rng, (size, LOOKS), units=SMALL_STEP * split.ratio).cumulated()
        treatment = draw(law, trial.rng, (size, LOOKS), units=SMALL_STEP).cumulated()
        seen = sequences(law, control.total, treatment.total, plan)
        excludes = seen.excludes(0.0) & seen.is_shown
        watched.append(excludes.any(axis=1))
        planned += _planned(seen, units_max)
        last = effects(law, _last(control), _last(treatment), plan)
        truly.append(~excludes[:, -1])
        once.append(last.p_value < ALPHA)
        covered.append(last.covers(0.0))
    shares = [share(np.concatenate(one)) for one in (watched, truly, once, covered)]
    most = ALPHA if name != "lognormal" else PLANNED_SPARSE_MAX
    rows = (
        ("always_valid", f"A/A experiments that reject at any of {LOOKS} looks", shares[0],
         at_most(ALPHA, replications)),
        ("sequence_coverage", "sequences that hold the truth at the end", shares[1],
         at_least(1 - ALPHA, replications)),
        ("group_sequential", "A/A experiments that reject at any of five planned looks",
         share(planned), at_most(most, replications)),
        ("fixed_horizon", "A/A experiments that reject at the end", shares[2],
         between(ALPHA, most, replications)),
        ("coverage", "intervals of one look that hold the truth at the end", shares[3],
         between(1 - most, 1 - ALPHA, replications)),
    )  # fmt: skip
    return Found(
        [
            Check(
                f"26.{name}.{split_name}.{row}",
                f"{law.title}, {split.title}: {words}",
                value,
                band,
                replications,
            )
            for row, words, value, band in rows
        ]
    )


def _last(arm: Arm) -> Arm:
    return arm.at((slice(None), slice(LOOKS - 1, LOOKS))).flat()


def _planned(seen: Sequences, units_max: int) -> list[bool]:
    """Return whether planned looks cross a boundary; those before the burn-in are not taken."""
    looks = range(EVERY - 1, LOOKS, EVERY)
    plan = GroupPlan(ALPHA, Spending("pocock"), tuple((one + 1) / LOOKS for one in looks))
    plans = Plans(units_max, plan, plan)
    found = []
    for z, is_shown in zip(seen.z.tolist(), seen.is_shown.tolist(), strict=True):
        path: GroupPath = ()
        for look in looks:
            if is_shown[look]:
                units = units_max * (look + 1) // LOOKS
                information = Information(units, look == LOOKS - 1, look, None)
                path = path_after(path, information, z[look], plans)
        found.append(bool(path) and abs(path[-1].z) >= path[-1].boundary)
    return found


def fair_split(split_name: str, trial: Trial) -> Found:
    """Split units as planned, and look at the check of the split again and again."""
    split, replications = SPLITS[split_name], trial.size(SPLIT_REPLICATIONS, least=400)
    definition = _split_definition(split)
    steps = trial.rng.binomial(SPLIT_STEP, split.weights[1], (replications, SPLIT_LOOKS))
    totals = SPLIT_STEP * np.arange(1, SPLIT_LOOKS + 1)
    once, ever = [], []
    for row in np.cumsum(steps, axis=1).tolist():
        running, entries = 1.0, []
        for treated, total in zip(row, totals.tolist(), strict=True):
            units = (total - treated, treated)
            entry, running = sample_ratio_of(definition, units, running, final=False)
            entries.append(entry)
        once.append(entries[-1]["p_value"] < SAMPLE_RATIO_ALPHA)
        ever.append(any(one["mismatch"] for one in entries))
    title = f"fair splits at {split.title} of {int(totals[-1]):,} units"
    return Found(
        [
            Check(
                f"26.split.{split_name}.sequential",
                f"{title} with an alarm at any of {SPLIT_LOOKS} looks",
                share(ever),
                at_most(SAMPLE_RATIO_ALPHA, replications),
                replications,
            ),
            Check(
                f"26.split.{split_name}.chi_square",
                f"{title} that χ² calls broken at {SAMPLE_RATIO_ALPHA}, one look",
                share(once),
                around(SAMPLE_RATIO_ALPHA, replications),
                replications,
            ),
        ]
    )


def _split_definition(split: Split) -> Definition:
    control, treatment = split.weights
    body = DefinitionBody(
        "split",
        [VariantBody("control", control), VariantBody("treatment", treatment)],
        [MetricBody("converted", "conversion")],
    )
    return define(body, ordinal=1, version=1, created_at_ms=0)


UNEQUAL = Protocol(
    "26",
    "Unequal splits",
    "At 90:10 and at 99:1 each method errs as seldom as it says, intervals hold the truth at the "
    "end, and the check of the split is quiet.",
    "A small variant of 2,000 units, 40 looks, five of them planned; 4,000 experiments of rates, "
    "normal totals and sparse lognormal ones: 5 % (+ chance) of what is watched, around 5 % of one "
    "look. Sparse lognormal totals: 5 to 8 % of one look, at most 8 % of planned looks, which "
    "are known to be rough there. 20,000 splits, 20 looks, alarms in at most 0.1 % (+ chance).",
    [
        Part(f"{name}_{split}", partial(unequal, name, split), seconds)
        for split, seconds in (("90", 8.0), ("99", 15.0))
        for name in UNEQUAL_LAWS
    ]
    + [Part(f"split_{split}", partial(fair_split, split), 15.0) for split in SPLITS],
)
