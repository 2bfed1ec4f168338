"""Guardrails of unequal and equal variants, as looks publish them, by every method: protocol 27."""

from collections.abc import Iterator
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from schemas.definitions import Definition
from stream_processors.merge.look import Asked, compute_looks
from stream_processors.merge.path import ExperimentPath
from tools.trust.assembling import totals_of_arms
from tools.trust.bands import at_most
from tools.trust.checks import Check, Found, Part, Protocol, Trial, share
from tools.trust.laws import LAWS, Arm, Law, chunks, draw
from tools.trust.verdicts import cut_of_day, definition_of

ALPHA = 0.05
LOOKS = 5
STEP = 4_000
"""Units of both variants between two looks; the first ones are before a small variant's burn-in."""

MARGIN = 0.2
"""Share of the control's mean."""

SHARES = {"50": 0.5, "95": 0.05}
"""Of the treatment, by the control's."""

METHODS: dict[str, dict[str, Any]] = {
    "always_valid": {"n_star": LOOKS * STEP},
    "group_sequential": {
        "units_max": LOOKS * STEP,
        "planned_looks": tuple((look + 1) / LOOKS for look in range(LOOKS)),
        "spending": "pocock",
    },
    "fixed_horizon": {},
    "bayesian": {},
}
REPLICATIONS = {"group_sequential": 500}
REPLICATIONS_ELSE = 2_000
AT_A_TIME = 100
READ_AGAIN = ("always_valid", "group_sequential")
"""Methods that may be read at every look; the others are read at the last one."""

GUARDED_LAWS: dict[str, Law] = {
    "rate": LAWS["bernoulli_0.1"]._replace(title="Bernoulli 5 %", mean=0.05, parameters=(0.05,)),
    "normal": LAWS["normal"]._replace(parameters=(10.0, 30.0)),
}


class Watched(NamedTuple):
    """What was ever said of a guardrail, by experiment.

    Attributes:
        harmed: That the treatment is worse.
        passed: That it is not worse by the margin.
    """

    harmed: list[bool]
    passed: list[bool]


def guardrails(method: str, split: str, trial: Trial) -> Found:
    """Guard a rate and a mean of treatments that do nothing, and of some at the margin."""
    replications = trial.size(REPLICATIONS.get(method, REPLICATIONS_ELSE), least=40)
    checks = []
    for name, law in GUARDED_LAWS.items():
        definition = _definition(method, split, law)
        title = f"{law.title}, {split}:{100 - int(split)}, {method.replace('_', ' ')}"
        same = _watch(definition, law, trial, replications, lift=0.0)
        worse = _watch(definition, law, trial, replications, lift=-MARGIN)
        checks += [
            Check(
                f"27.{method}.{split}.{name}.{what}",
                f"{title}: {words}",
                share(found),
                at_most(ALPHA, replications),
                replications,
            )
            for what, words, found in (
                ("harm", "treatments that do nothing and are ever called worse", same.harmed),
                ("pass", "treatments at the margin that ever pass", worse.passed),
            )
        ]
    return Found(checks)


def _definition(method: str, split: str, law: Law) -> Definition:
    part = SHARES[split]
    return definition_of(
        {
            "id": "guarded",
            "variants": [
                {"id": "control", "weight": 1 - part},
                {"id": "treatment", "weight": part},
            ],
            "metrics": [
                {
                    "id": "guarded",
                    "kind": law.kind,
                    "window": "24h",
                    "precision": law.precision,
                    "role": "guardrail",
                    "margin": {"relative": MARGIN},
                }
            ],
            "analysis": {"method": method, "alpha": ALPHA} | METHODS[method],
        }
    )


def _watch(
    definition: Definition, law: Law, trial: Trial, replications: int, *, lift: float
) -> Watched:
    found = Watched([], [])
    for count in chunks(replications, LOOKS * STEP):
        control_units, treatment_units = (round(STEP * one.weight) for one in definition.variants)
        arms = (
            draw(law, trial.rng, (count, LOOKS), units=control_units).cumulated(),
            draw(law, trial.rng, (count, LOOKS), units=treatment_units, lift=lift).cumulated(),
        )
        for start in range(0, count, AT_A_TIME):
            rows = range(start, min(count, start + AT_A_TIME))
            is_watched = definition.analysis.method in READ_AGAIN
            said = list(
                _rails(definition, arms, rows, range(0 if is_watched else LOOKS - 1, LOOKS))
            )
            found.harmed.extend(np.any([[one["is_harmed"] for one in look] for look in said], 0))
            found.passed.extend(
                np.any([[one["status"] == "pass" for one in look] for look in said], 0)
            )
    return found


def _rails(
    definition: Definition, arms: tuple[Arm, Arm], rows: range, looks: range
) -> Iterator[list[dict[str, Any]]]:
    """Yield the guardrails of some experiments, look by look, as published."""
    paths = [ExperimentPath() for _ in rows]
    for look in looks:
        asked = [
            Asked(
                definition,
                totals_of_arms(
                    [[arm.at((slice(row, row + 1), look)) for arm in arms]],
                    is_final=look == LOOKS - 1,
                ),
                cut_of_day(look + 1),
                path,
            )
            for row, path in zip(rows, paths, strict=True)
        ]
        computed = compute_looks(asked)
        paths = [one.path_after for one in computed]
        yield [one.results["metrics"][0]["effects"][0]["guardrail"] for one in computed]


GUARDRAILS = Protocol(
    "27",
    "Guardrails of small variants",
    "At 50:50 and at 95:5, by every method, a treatment that does nothing is called worse in at "
    "most 5 % of experiments, and one at the margin passes in at most 5 %.",
    "A rate and a mean, five looks as published, the first before the burn-in of a small variant; "
    "2,000 experiments of each (planned looks: 500), at most 5 % (+ chance).",
    [
        Part(f"{method}_{split}", partial(guardrails, method, split), seconds)
        for method, seconds in (
            ("group_sequential", 60.0),
            ("always_valid", 40.0),
            ("bayesian", 20.0),
            ("fixed_horizon", 15.0),
        )
        for split in SHARES
    ],
)
