"""Whether posteriors mean what they say, when truths are drawn from their prior: protocol 25.

No share of errors is promised of a posterior without an effect. What it does promise is this: of
all experiments in which it says 80 %, 80 % are so, if truths come from the prior.
"""

from collections.abc import Sequence
from functools import partial
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np

from schemas.definitions import Definition
from stream_processors.merge.guarding import guarded
from stream_processors.merge.path import ComparisonPath
from stream_processors.merge.planned import Information
from stream_processors.merge.posteriors import believed
from stream_processors.merge.questions import Question, questions_of
from stream_processors.stats.bayes import EffectPosterior
from stream_processors.stats.comparisons import compare_all
from stream_processors.stats.effects import Effect
from tools.trust.assembling import totals_of_arms
from tools.trust.bands import STD_ERRORS, Band, around, at_most
from tools.trust.checks import Check, Figure, Found, Part, Protocol, Trial, share
from tools.trust.laws import Arm, Columns, Floats, Rng, sums_of
from tools.trust.product import Mask
from tools.trust.verdicts import definition_of

ALPHA = 0.05
REPLICATIONS = 4_000
EDGES = (0.0, 0.025, 0.1, 0.3, 0.5, 0.7, 0.9, 0.975, 1.0)
"""Of the bins of chances; the outer ones are where a decision is named."""

SHARES = {"50": 0.5, "90": 0.1}
"""Of the treatment, by the control's."""

RATE_UNITS = 100
"""Of both variants: few, so that the prior matters and no approximation would do."""

MEAN_UNITS = 1_000
MEAN, SPREAD, PRECISION = 10.0, 3.0, 4
PRIOR = {"mean": 0.1, "sd": 0.3}
FLAT_REACH = 3.0
"""Effects are drawn from -3 to 3 where the prior is flat: many standard errors."""

MARGINS: dict[str, dict[str, float]] = {
    "rate": {"absolute": 0.05},
    "rate_relative": {"relative": 0.2},
    "mean_flat": {"absolute": 0.3},
}
"""Of guardrails, which no prior is for but the uniform one of rates and the flat one of means."""

TITLES = {
    "rate": "rates",
    "rate_relative": "rates, relative margin",
    "mean": "means with a prior",
    "mean_flat": "means without one",
}


class Worlds(NamedTuple):
    """Experiments whose truth is known, one row each.

    Attributes:
        arms: Sums of the control's units and of the treatment's.
        means: True means of both, shape (2, n).
    """

    arms: tuple[Arm, Arm]
    means: Floats

    @property
    def effects(self) -> Floats:
        """Return the true differences."""
        return np.asarray(self.means[1] - self.means[0])


def effects_believed(name: str, split: str, trial: Trial) -> Found:
    """Draw truths from the prior, run experiments, and hold what is believed to what is so."""
    worlds = _worlds(name, SHARES[split], trial.rng, trial.size(REPLICATIONS, least=200))
    definition = _definition(name, "decision")
    asked = _questions(definition, worlds)
    found = believed([(definition.analysis, one) for one in asked], _compared(asked))
    told = EffectPosterior(*np.array([one.posterior for one in found], dtype=np.float64).T)
    truth, known = worlds.effects, _is_inside(name, told.mean)
    told, truth = EffectPosterior(*(column[known] for column in told)), truth[known]
    check_id, title = f"25.{name}.{split}", f"{TITLES[name]}, {split}:{100 - int(split)}"
    covers = (told.low <= truth) & (truth <= told.high)
    interval = Check(
        f"{check_id}.interval",
        f"{title}: 95 % intervals that hold the truth",
        share(covers),
        around(1 - ALPHA, len(truth)),
        len(truth),
    )
    bins, figure = _bins(f"{check_id}.better", f"{title}: better", told.chance_to_win, truth > 0)
    return Found([interval, *bins, *_losses(check_id, title, told, truth)], [figure])


def guardrails_believed(name: str, split: str, trial: Trial) -> Found:
    """Do the same with what is believed of guardrails: to be worse, and within the margin."""
    worlds = _worlds(name, SHARES[split], trial.rng, trial.size(REPLICATIONS, least=200))
    definition = _definition(name, "guardrail")
    asked = _questions(definition, worlds)
    entries = [
        guarded(definition, one, effect, ComparisonPath(), Information(1, True, 1, None)).entry
        for one, effect in zip(asked, _compared(asked), strict=True)
    ]
    known = _is_inside(name, np.array([one["gain"] for one in entries], dtype=np.float64))
    known &= np.array(["chance_worse" in one for one in entries])
    entries = [one for one, is_known in zip(entries, known.tolist(), strict=True) if is_known]
    [(scale, size)] = MARGINS[name].items()
    margin = size * worlds.means[0] if scale == "relative" else size
    worse, within = worlds.effects[known] < 0, (worlds.effects > -margin)[known]
    check_id, title = f"25.{name}.{split}", f"{TITLES[name]}, {split}:{100 - int(split)}"
    checks, figures = [], []
    for field, label, so in (
        ("chance_worse", "worse", worse),
        ("chance_within_margin", "within the margin", within),
    ):
        chances = np.array([one[field] for one in entries])
        bins, figure = _bins(f"{check_id}.{field}", f"{title}: {label}", chances, so)
        checks += bins
        figures.append(figure)
    harm, passed = (
        np.array([bool(flag) for flag in flags])
        for flags in (
            [one["is_harmed"] for one in entries],
            [one["status"] == "pass" for one in entries],
        )
    )
    for said, label, wrong in (("harm", "harm", ~worse[harm]), ("pass", "passes", ~within[passed])):
        checks.append(
            Check(
                f"{check_id}.{said}",
                f"{title}: {label} that are none",
                share(wrong),
                at_most(ALPHA, len(wrong)),
                len(wrong),
            )
        )
    return Found(checks, figures)


def _is_inside(name: str, estimates: Floats) -> Mask:
    """Return which experiments to count: all, but where the prior is flat.

    Effects are drawn from a stretch there, and near its ends they are not from a flat prior: who
    has seen 3.2 knows that it was 3 at most. Which experiments are counted hangs on the data only.
    """
    if name != "mean_flat":
        return np.ones(len(estimates), dtype=bool)
    return np.asarray(np.abs(estimates) < FLAT_REACH / 2)


def _bins(check_id: str, title: str, chances: Floats, is_so: Mask) -> tuple[list[Check], Figure]:
    """Return, for each bin of chances, how often what was believed is so; and a figure."""
    place = np.clip(np.searchsorted(EDGES, chances, side="right") - 1, 0, len(EDGES) - 2)
    checks, said, found = [], [], []
    for index, (low, high) in enumerate(pairwise(EDGES)):
        here = place == index
        if not here.any():
            continue
        said.append(float(chances[here].mean()))
        found.append(share(is_so[here]))
        checks.append(
            Check(
                f"{check_id}.{low:g}",
                f"{title} with a chance of {low:.1%} to {high:.1%}, and so it is",
                found[-1],
                around(said[-1], int(here.sum())),
                int(here.sum()),
            )
        )
    figure = Figure(
        check_id,
        "lines",
        f"Chances that were named, and how often it was so: {title}",
        "mean of the chances named",
        "share of experiments in which it is so",
        said,
        {"found": [*found], "as named": [*said]},
    )
    return checks, figure


def _losses(check_id: str, title: str, told: EffectPosterior[Floats], truth: Floats) -> list[Check]:
    """Return what was lost as a share of what was expected to be: with either, and the better."""
    lost = np.maximum(-truth, 0.0), np.maximum(truth, 0.0)
    expected = told.loss_treatment, told.loss_control
    is_shipped = expected[0] <= expected[1]
    checks = []
    for name, losses, means in (
        ("treatment", lost[0], expected[0]),
        ("control", lost[1], expected[1]),
        ("better", np.where(is_shipped, *lost), np.where(is_shipped, *expected)),
    ):
        total, gaps = float(means.sum()), losses - means
        reach = STD_ERRORS * float(gaps.std(ddof=1)) * float(np.sqrt(len(gaps))) / total
        checks.append(
            Check(
                f"{check_id}.loss_{name}",
                f"{title}: loss over expected loss, choosing the {name}",
                float(losses.sum()) / total,
                Band(1 - reach, 1 + reach),
                len(gaps),
            )
        )
    return checks


def _compared(asked: Sequence[Question]) -> list[Effect]:
    return compare_all([one.comparison for one in asked])


def _questions(definition: Definition, worlds: Worlds) -> list[Question]:
    """Return what a last look asks of the matured units of every experiment."""
    found = []
    for row in range(worlds.means.shape[1]):
        totals = totals_of_arms([[arm.at(slice(row, row + 1)) for arm in worlds.arms]])
        found += [one for one in questions_of(definition, totals) if one.place.basis == "matured"]
    return found


def _definition(name: str, role: str) -> Definition:
    is_rate = name.startswith("rate")
    metric: dict[str, Any] = {
        "id": "believed",
        "kind": "conversion" if is_rate else "sum",
        "window": "24h",
        "precision": 0 if is_rate else PRECISION,
        "role": role,
    }
    if role == "guardrail":
        metric["margin"] = MARGINS[name]
    analysis: dict[str, Any] = {"method": "bayesian", "alpha": ALPHA}
    if name == "mean":
        analysis["prior"] = PRIOR
    variants = [{"id": one} for one in ("control", "treatment")]
    return definition_of(
        {"id": "belief", "variants": variants, "metrics": [metric], "analysis": analysis}
    )


def _worlds(name: str, treated: float, rng: Rng, count: int) -> Worlds:
    if name.startswith("rate"):
        rates = rng.random((2, count))
        units = [round(RATE_UNITS * one) for one in (1 - treated, treated)]
        return Worlds((_rates(rng, units[0], rates[0]), _rates(rng, units[1], rates[1])), rates)
    if name == "mean":
        effects = rng.normal(PRIOR["mean"], PRIOR["sd"], count)
    else:
        effects = rng.uniform(-FLAT_REACH, FLAT_REACH, count)
    means = MEAN + np.stack([np.zeros(count), effects])
    units = [round(MEAN_UNITS * one) for one in (1 - treated, treated)]
    return Worlds((_values(rng, units[0], means[0]), _values(rng, units[1], means[1])), means)


def _rates(rng: Rng, units: int, rates: Floats) -> Arm:
    converted = rng.binomial(units, rates).astype(np.float64)[:, None]
    return Arm(Columns(np.full(len(rates), float(units)), converted, converted))


def _values(rng: Rng, units: int, means: Floats) -> Arm:
    values = means[:, None] + SPREAD * rng.standard_normal((len(means), units))
    return Arm(sums_of(np.rint(values * 10.0**PRECISION)))


BELIEFS = Protocol(
    "25",
    "Beliefs",
    "A posterior means what it says: where it says 80 %, it is so in 80 % of experiments, its "
    "95 % intervals hold the truth in 95 %, and what is lost is what it expects to lose.",
    "Truths from the prior (rates: uniform; means: normal, or flat), 4,000 experiments each, at "
    "50:50 and 90:10; intervals and every bin of chances within 99.9 % binomial bands, losses "
    "within 4 standard errors, harm and passes of guardrails wrong in at most 5 % (+ chance).",
    [
        Part(f"{name}_{split}", partial(effects_believed, name, split), 8.0)
        for name in ("rate", "mean", "mean_flat")
        for split in SHARES
    ]
    + [
        Part(f"{name}_{split}_guardrail", partial(guardrails_believed, name, split), 15.0)
        for name in MARGINS
        for split in SHARES
    ],
)
