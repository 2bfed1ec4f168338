"""Sums at the edge of what can be: protocol 17."""

import math
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import msgspec

from stream_processors.merge.look import compute_look
from stream_processors.merge.path import ExperimentPath
from stream_processors.stats.comparisons import Comparison, Kind, compare_all
from stream_processors.stats.effects import Effect
from stream_processors.stats.sums import JointSums, MetricSums
from tools.trust.assembling import totals_of_sums
from tools.trust.checks import Found, Part, Protocol, Trial, exactly_none
from tools.trust.verdicts import cut_of_day, definition_of

MANY = 500_000_000


class Case(NamedTuple):
    """Two variants, and what the product must make of them.

    Attributes:
        name: What is extreme.
        kind: Of the metric.
        precision: Digits kept.
        control: Sums.
        treatment: Sums.
        status: What the effect's status must be.
        difference: What the estimate must be; None: not said.
        variance: What the control's variance must be; None: not said.
        relative: What the relative effect's status must be; None: not said.
    """

    name: str
    kind: Kind
    precision: int
    control: JointSums
    treatment: JointSums
    status: str = "ok"
    difference: float | None = None
    variance: float | None = None
    relative: str | None = None


def of_values(*values: int, times: int = 1) -> JointSums:
    """Return the sums of values, each of ``times`` units."""
    return JointSums(
        times * len(values),
        (times * sum(values),),
        (times * sum(one * one for one in values),),
    )


def rate(units: int, converted: int) -> JointSums:
    """Return the sums of a rate."""
    return JointSums(units, (converted,), (converted,))


def cases() -> Iterator[Case]:
    """Yield the table."""
    small = (0, 1, 2, 3)
    for offset in (10**9, 10**12):
        values = [offset + one for one in small]
        yield Case(
            f"values around {offset:.0e}",
            "sum",
            0,
            of_values(*values, times=100),
            of_values(*[one + 1 for one in values], times=100),
            difference=1.0,
            variance=500 / 399,
        )
    yield Case(
        "values of 1e-9",
        "sum",
        9,
        of_values(*small, times=100),
        of_values(1, 2, 3, 4, times=100),
        difference=1e-9,
        variance=500 / 399 * 1e-18,
    )
    yield Case(
        "500 million units",
        "sum",
        6,
        of_values(0, 2_000_000, times=MANY // 2),
        of_values(0, 2_000_100, times=MANY // 2),
        difference=5e-5,
    )
    yield Case(
        "a rate of 500 million units",
        "conversion",
        0,
        rate(MANY, MANY // 10),
        rate(MANY, MANY // 10 + 500),
        difference=1e-6,
    )
    yield Case(
        "refunds that make totals negative",
        "sum",
        2,
        of_values(-500, -300, -100, times=50),
        of_values(-400, -200, 0, times=50),
        difference=1.0,
        relative="ok",
    )
    yield Case(
        "a control around zero",
        "sum",
        2,
        of_values(-100, 100, times=100),
        of_values(-100, 101, times=100),
        relative="undefined",
    )
    yield Case("all zero", "sum", 6, of_values(0, times=300), of_values(0, times=300),
               "zero_variance", difference=0.0)  # fmt: skip
    yield Case("one variant all zero", "sum", 0, of_values(0, times=300),
               of_values(0, 1, times=150), difference=0.5, relative="undefined")  # fmt: skip
    yield Case("one unit", "sum", 0, of_values(5), of_values(1, 2, times=100), "insufficient")
    yield Case("no units", "sum", 0, of_values(), of_values(1, 2, times=100), "no_units")
    yield Case("nobody converts in one variant", "conversion", 0, rate(500, 0), rate(500, 40),
               "warming_up", difference=0.08, relative="undefined")  # fmt: skip
    yield Case("everybody converts", "conversion", 0, rate(500, 500), rate(500, 500),
               "zero_variance")  # fmt: skip
    yield Case("more conversions than units", "conversion", 0, rate(100, 101), rate(100, 5),
               "invalid_input")  # fmt: skip
    yield Case("a negative sum of squares", "sum", 0, JointSums(10, (5,), (-1,)),
               of_values(1, 2, times=100), "invalid_input")  # fmt: skip
    yield Case(
        "a ratio without any denominator",
        "ratio",
        0,
        JointSums(200, (0, 0), (0, 0, 0)),
        JointSums(200, (10, 200), (10, 10, 200)),
        "undefined",
    )


def table(trial: Trial) -> Found:
    """Hold every case to what it must give, alone and in a whole look."""
    del trial  # nothing is drawn
    wrong: list[str] = []
    strange = looks = 0
    for case in cases():
        sums = MetricSums(case.control), MetricSums(case.treatment)
        [effect] = compare_all([Comparison(case.kind, *sums, precision=case.precision)])
        wrong += [f"{case.name}: {one}" for one in _misses(case, effect)]
        strange += sum(not math.isfinite(one) for one in _numbers(effect))
        if case.kind != "ratio":
            looks += 1
            strange += sum(not math.isfinite(one) for one in _numbers(_look(case, sums)))
    title = "cases of the table that give something else"
    return Found(
        [
            exactly_none(
                "17.outcomes",
                f"{title}: {'; '.join(wrong)}" if wrong else title,
                len(wrong),
                len(list(cases())),
            ),
            exactly_none(
                "17.finite", "numbers in effects and looks that are not finite", strange, looks
            ),
        ]
    )


def _misses(case: Case, effect: Effect) -> Iterator[str]:
    if effect.status != case.status:
        yield f"status {effect.status}, must be {case.status}"
    if case.relative is not None and effect.relative.status != case.relative:
        yield f"relative {effect.relative.status}, must be {case.relative}"
    for name, found, wanted in (
        ("difference", effect.estimate, case.difference),
        ("variance", effect.control.variance, case.variance),
    ):
        if wanted is not None and (
            found is None or not math.isclose(found, wanted, rel_tol=1e-12, abs_tol=0.0)
        ):
            yield f"{name} {found}, must be {wanted}"


def _look(case: Case, sums: Sequence[MetricSums]) -> dict[str, Any]:
    """Return the payload of a look with this metric, as readers get it."""
    metric: dict[str, Any] = {"id": "m", "kind": case.kind, "window": "24h"}
    if case.kind != "conversion":
        metric |= {"precision": case.precision}
    body = {"id": "extreme", "variants": [{"id": "c"}, {"id": "t"}], "metrics": [metric]}
    totals = totals_of_sums([list(sums)])
    look = compute_look(
        definition_of(body), totals, cut=cut_of_day(1), path_before=ExperimentPath()
    )
    # What is not finite would be null in JSON, so the object itself is looked at.
    msgspec.json.encode(look.record)
    return look.results


def _numbers(value: Any) -> Iterator[float]:
    if isinstance(value, float):
        yield value
    elif isinstance(value, dict):
        for one in value.values():
            yield from _numbers(one)
    elif isinstance(value, list | tuple):
        for one in value:
            yield from _numbers(one)


EXTREMES = Protocol(
    "17",
    "Extremes",
    "Whatever the sums are, there is a number that is right or a status that says why there is "
    "none: never NaN, never an error, never a silent zero.",
    "A table of offsets to 10¹², values of 10⁻⁹, 500 million units, refunds, empty variants, one "
    "unit, impossible sums; every outcome as the rules say.",
    [Part("table", table, 1.0)],
)
