"""How often the product's own verdict names a winner where there is none: protocol 22."""

from functools import partial
from typing import Any, NamedTuple

import msgspec
import numpy as np

from schemas.control import Times
from schemas.definitions import Definition, Interval, define
from schemas.partials import STATE_VERSION
from schemas.posted import DefinitionBody
from stream_processors.merge.look import Asked, Cut, compute_looks
from stream_processors.merge.path import ExperimentPath
from stream_processors.merge.verdict import FINDINGS, Reading
from tools.trust.assembling import totals_of_arms
from tools.trust.bands import STD_ERRORS, Band
from tools.trust.checks import Check, Figure, Found, Part, Protocol, Trial, share
from tools.trust.laws import LAWS, Arm, draw

ALPHA = 0.05
DAYS = 28
DAILY_UNITS = 120
"""Of each variant."""

DAY_MS = 86_400_000
EXPERIMENTS_AT_A_TIME = 50
WINNERS = frozenset({Reading.IMPROVEMENT, Reading.IMPROVEMENT_GUARDRAILS_OPEN})
VARIANTS = ("control", "A", "B", "C")

METRIC_LAWS = {"conversion": "bernoulli_0.1", "revenue": "zero_inflated", "latency": "normal"}

BODY: dict[str, Any] = {
    "id": "nothing-happens",
    "variants": [{"id": one} for one in VARIANTS],
    "metrics": [
        {"id": "conversion", "kind": "conversion", "window": "24h"},
        {"id": "revenue", "kind": "sum", "window": "24h", "precision": 2},
        {
            "id": "latency",
            "kind": "sum",
            "window": "24h",
            "precision": 4,
            "role": "guardrail",
            "margin": {"relative": 0.02},
        },
    ],
}


class Reader(NamedTuple):
    """Who reads the verdict, and when.

    Attributes:
        title: In words.
        analysis: Of the definition.
        days: On which results are read; each day's look is computed for the path's sake.
        replications: At full size.
    """

    title: str
    analysis: dict[str, Any]
    days: tuple[int, ...]
    replications: int


EVERY_DAY = tuple(range(1, DAYS + 1))
READERS = {
    "always_valid": Reader(
        "read every day",
        {"method": "always_valid", "n_star": DAYS * DAILY_UNITS},
        EVERY_DAY,
        5_000,
    ),
    "group_sequential": Reader(
        "read every week, by planned looks",
        {
            "method": "group_sequential",
            "units_max": 2 * DAYS * DAILY_UNITS,
            "planned_looks": (0.25, 0.5, 0.75, 1.0),
        },
        (7, 14, 21, 28),
        1_000,
    ),
    "fixed_horizon": Reader("read once, at the end", {"method": "fixed_horizon"}, (DAYS,), 5_000),
}


def false_winners(method: str, trial: Trial) -> Found:
    """Run A/A/B/C experiments without any effect, and let the product say what it sees."""
    reader = READERS[method]
    replications = trial.size(reader.replications, least=50)
    definition = definition_of(BODY | {"analysis": reader.analysis})
    winners: list[list[bool]] = []
    findings: list[list[bool]] = []
    while len(winners) < replications:
        count = min(EXPERIMENTS_AT_A_TIME, replications - len(winners))
        for readings in _readings(definition, reader, count, trial):
            winners.append([one in WINNERS for one in readings])
            findings.append([one in FINDINGS for one in readings])
    ever_won = np.logical_or.accumulate(np.array(winners), axis=1)
    ever_found = np.logical_or.accumulate(np.array(findings), axis=1)
    return Found(
        [
            Check(
                f"22.{method}.winner",
                f"{reader.title}: experiments without effects in which the verdict ever names a "
                "winner",
                share(ever_won[:, -1]),
                _at_most(ALPHA, replications),
                replications,
            ),
            Check(
                f"22.{method}.finding",
                f"{reader.title}: in which it ever names any difference (decisions and guardrails "
                "have an allowance each)",
                share(ever_found[:, -1]),
                _at_most(2 * ALPHA, replications),
                replications,
            ),
        ],
        [_figure(method, reader, ever_won, ever_found)],
    )


def _figure(method: str, reader: Reader, won: Any, found: Any) -> Figure:
    return Figure(
        f"22.{method}",
        "lines",
        f"False verdicts, {reader.title}",
        "day",
        "share of experiments",
        [float(day) for day in reader.days],
        {
            "a winner": won.mean(axis=0).tolist(),
            "any difference": found.mean(axis=0).tolist(),
            "promised of decisions": [ALPHA] * len(reader.days),
        },
        note="Three treatments that do nothing, two metrics that decide, one guardrail.",
    )


def _readings(
    definition: Definition, reader: Reader, count: int, trial: Trial
) -> list[list[Reading]]:
    """Return the readings of some experiments, one list each, at the reader's days."""
    arms = [
        [draw(LAWS[law], trial.rng, (count, DAYS), units=DAILY_UNITS).cumulated() for _ in VARIANTS]
        for law in METRIC_LAWS.values()
    ]
    paths = [ExperimentPath()] * count
    readings: list[list[Reading]] = [[] for _ in range(count)]
    for day in reader.days:
        asked = [
            Asked(definition, _totals(arms, row, day, reader), cut_of_day(day), paths[row])
            for row in range(count)
        ]
        for row, look in enumerate(compute_looks(asked)):
            paths[row] = look.path_after
            readings[row].append(Reading(look.results["verdict"]["reading"]))
    return readings


def _totals(arms: list[list[Arm]], row: int, day: int, reader: Reader) -> Any:
    """Return the sums of an experiment after a day, when that day's units have matured."""
    here = [[arm.at((slice(row, row + 1), day - 1)) for arm in variants] for variants in arms]
    return totals_of_arms(here, is_final=day == max(reader.days) == DAYS)


def definition_of(body: dict[str, Any]) -> Definition:
    """Return the running experiment that a body describes."""
    draft = define(msgspec.convert(body, DefinitionBody), ordinal=0, version=1, created_at_ms=0)
    return msgspec.structs.replace(
        draft, status="running", started_at_ms=0, intervals=[Interval(0)]
    )


def cut_of_day(day: int) -> Cut:
    """Return where in the log a day's look is taken."""
    now_ms = (day + 1) * DAY_MS
    return Cut("trust", STATE_VERSION, day, Times(now_ms, now_ms, now_ms - DAY_MS), {0: day})


def _at_most(level: float, replications: int) -> Band:
    return Band(None, level + STD_ERRORS * float(np.sqrt(level * (1 - level) / replications)))


FALSE_WINNERS = Protocol(
    "22",
    "False winners of the verdict",
    "The verdict, which reads all metrics and all variants and is read every day, names a winner "
    "among treatments that do nothing in at most as many experiments as it says.",
    "A control and three treatments without effects, two deciding metrics and a guardrail, 28 "
    "days, looks as published; 5,000 experiments (planned looks: 1,000); 5 % + 4 standard errors.",
    [
        Part("always_valid", partial(false_winners, "always_valid"), 350.0),
        Part("group_sequential", partial(false_winners, "group_sequential"), 200.0),
        Part("fixed_horizon", partial(false_winners, "fixed_horizon"), 30.0),
    ],
)
