"""ClickHouse's own tests, run in SQL on the same raw events, say what our functions say.

ClickHouse sees rows: who was assigned, and what was bought. It makes the totals per unit itself,
those without a purchase included. We see exact integer sums of the same events, added up apart.
"""

import math
import random
from collections import Counter
from collections.abc import Iterator
from typing import Any, NamedTuple

import pytest

from stream_processors.stats.comparisons import compare
from stream_processors.stats.effects import Plan
from stream_processors.stats.sums import Sums, moments, sample_mean, sample_variance
from tests.external.clickhouse import ClickHouse

PRECISION = 2
CLOSE = 1e-9
"""ClickHouse adds up in floats."""

TOTALS = """
SELECT a.unit AS unit, a.is_treatment AS is_treatment, sum(e.value) AS total, count(e.value) AS n,
       max(e.value > 0) AS converted
FROM assignments a LEFT JOIN events e ON a.unit = e.unit GROUP BY a.unit, a.is_treatment
SETTINGS join_use_nulls = 1
"""


class World(NamedTuple):
    """Events of two variants, as rows in ClickHouse and as sums here."""

    clickhouse: ClickHouse
    totals: dict[bool, list[float]]
    """Treatment or not → the totals of its units, in no order."""

    def ask(self, expression: str) -> Any:
        """Return the value of an aggregate over the totals of all units."""
        query = f"SELECT {expression} AS answer FROM ({TOTALS})"
        [row] = self.clickhouse.ask(query)
        return row["answer"]

    def sums(self, *, is_treatment: bool) -> Sums:
        """Return exact sums of the totals, quantised as the engine does."""
        quanta = [round(total * 10**PRECISION) for total in self.totals[is_treatment]]
        return Sums(len(quanta), sum(quanta), sum(q * q for q in quanta))

    def rates(self, *, is_treatment: bool) -> Sums:
        """Return the sums of whether a unit bought something."""
        count = sum(total > 0 for total in self.totals[is_treatment])
        return Sums(len(self.totals[is_treatment]), count, count)


def fill(clickhouse: ClickHouse, *, units: tuple[int, int], law: str) -> World:
    """Return a world; ``law`` says how much a unit buys."""
    random_ = random.Random(f"{units} {law}")
    assignments: list[tuple[str, int]] = []
    events: list[tuple[str, float]] = []
    totals: dict[bool, list[float]] = {False: [], True: []}
    for is_treatment, count in zip((False, True), units, strict=True):
        for number in range(count):
            unit = f"{is_treatment:d}-{number}"
            assignments.append((unit, int(is_treatment)))
            values = purchases(random_, law, is_treatment=is_treatment)
            events += [(unit, value) for value in values]
            totals[is_treatment].append(math.fsum(values))
    random_.shuffle(events)
    clickhouse.fill("assignments", "unit String, is_treatment UInt8", assignments)
    clickhouse.fill("events", "unit String, value Float64", events)
    return World(clickhouse, totals)


def purchases(random_: random.Random, law: str, *, is_treatment: bool) -> list[float]:
    """Return the values of one unit's events, cents being the smallest unit."""
    more = 1.15 if is_treatment else 1.0
    if law == "every unit buys":
        return [round(random_.gauss(40 * more, 9), 2)]
    if law == "few buy, and not alike":
        count = random_.choices((0, 1, 2, 5), (0.7, 0.2, 0.08, 0.02))[0]
        return [round(random_.lognormvariate(2, 1) * more, 2) for _ in range(count)]
    assert law == "refunds"
    return [round(random_.gauss(-3, 12) * more, 2) for _ in range(random_.randrange(3))]


LAWS = ("every unit buys", "few buy, and not alike", "refunds")


@pytest.fixture(scope="module")
def clickhouse() -> Iterator[ClickHouse]:
    with ClickHouse() as engine:
        yield engine


@pytest.fixture(params=LAWS, scope="module")
def world(request: pytest.FixtureRequest, clickhouse: ClickHouse) -> World:
    return fill(clickhouse, units=(1_900, 2_050), law=request.param)


def compared(world: World, *, alpha: float = 0.05) -> Any:
    arms = world.sums(is_treatment=False), world.sums(is_treatment=True)
    return compare(*arms, precision=PRECISION, is_rate=False, plan=Plan(alpha, 5_000))


def assert_close(ours: dict[str, float], theirs: dict[str, float]) -> None:
    assert ours == {name: pytest.approx(theirs[name], rel=CLOSE) for name in ours}


def test_units_totals_means_and_variances_are_the_same(world: World) -> None:
    for is_treatment in (False, True):
        sums = world.sums(is_treatment=is_treatment)
        of = f"is_treatment = {is_treatment:d}"
        ours = {
            "n": sums.unit_count,
            "total": sums.sum_q / 10**PRECISION,
            "mean": sample_mean(sums, PRECISION),
            "variance": sample_variance(sums, PRECISION),
        }
        amount = "ifNull(total, 0)"
        theirs = {
            "n": world.ask(f"toInt32(countIf({of}))"),
            "total": world.ask(f"sumIf({amount}, {of})"),
            "mean": world.ask(f"avgIf({amount}, {of})"),
            "variance": world.ask(f"varSampIf({amount}, {of})"),
        }
        assert_close(ours, theirs)


@pytest.mark.parametrize("confidence", [0.9, 0.95, 0.99])
def test_welch_t_test_is_ours(world: World, confidence: float) -> None:
    # ClickHouse's difference is that of sample 0 less sample 1: the treatment is its sample 0.
    theirs = world.ask(f"welchTTest({confidence})(ifNull(total, 0), 1 - is_treatment)")
    fixed = compared(world, alpha=1 - confidence).fixed_horizon
    assert_close(
        {
            "t_statistic": fixed.statistic,
            "p_value": fixed.p_value,
            "confidence_interval_low": fixed.low,
            "confidence_interval_high": fixed.high,
        },
        theirs,
    )


def test_the_mean_z_test_with_our_variances_has_our_standard_error(world: World) -> None:
    treatment = moments(world.sums(is_treatment=True), PRECISION)
    control = moments(world.sums(is_treatment=False), PRECISION)
    # As parameters of an aggregate, floats must be written out.
    variances = f"{treatment.variance:.17g}, {control.variance:.17g}"
    theirs = world.ask(f"meanZTest({variances}, 0.95)(ifNull(total, 0), 1 - is_treatment)")
    effect = compared(world)
    z = effect.estimate / effect.std_error
    assert_close({"z_statistic": z, "p_value": math.erfc(abs(z) / math.sqrt(2))}, theirs)
    reach = 1.959963984540054 * effect.std_error
    assert theirs["confidence_interval_low"] == pytest.approx(effect.estimate - reach, rel=1e-7)


@pytest.mark.parametrize("law", LAWS)
def test_student_t_test_has_welch_t_where_the_arms_are_equal(
    clickhouse: ClickHouse, law: str
) -> None:
    # With equal counts the pooled standard error is Welch's; only the degrees of freedom differ.
    equal = fill(clickhouse, units=(800, 800), law=law)
    theirs = equal.ask("studentTTest(ifNull(total, 0), 1 - is_treatment)")
    fixed = compared(equal).fixed_horizon
    assert_close({"t_statistic": fixed.statistic}, theirs)
    assert fixed.p_value >= theirs["p_value"] * (1 - CLOSE)


@pytest.mark.parametrize("units", [(1_900, 2_050), (400, 90)])
def test_the_proportions_z_test_is_ours(clickhouse: ClickHouse, units: tuple[int, int]) -> None:
    world = fill(clickhouse, units=units, law="few buy, and not alike")
    arms = world.rates(is_treatment=False), world.rates(is_treatment=True)
    converted = "toUInt64(sumIf(ifNull(converted, 0), is_treatment = {}))"
    count = "toUInt64(countIf(is_treatment = {}))"
    arguments = ", ".join(one.format(arm) for one in (converted, count) for arm in (1, 0))
    theirs = world.ask(f"proportionsZTest({arguments}, 0.95, 'pooled')")
    fixed = compare(*arms, precision=0, is_rate=True, plan=Plan()).fixed_horizon
    assert fixed is not None
    assert_close({"z_statistic": fixed.statistic, "p_value": fixed.p_value}, theirs)
    # Its interval is Wald's; ours is Newcombe's, which has the same middle only roughly.
    assert theirs["confidence_interval_low"] != pytest.approx(fixed.low, rel=1e-6)
    assert abs(theirs["confidence_interval_low"] - fixed.low) < 0.2 * (fixed.high - fixed.low)


def test_the_world_is_not_too_kind(clickhouse: ClickHouse) -> None:
    """What the comparison stands on: zeros, several events per unit, values that differ."""
    world = fill(clickhouse, units=(1_900, 2_050), law="few buy, and not alike")
    rows = clickhouse.ask(f"SELECT toInt32(n) AS n, count() AS units FROM ({TOTALS}) GROUP BY n")
    units_by_events = Counter({row["n"]: int(row["units"]) for row in rows})
    assert units_by_events[0] > 2_000
    assert units_by_events[5] > 20
    assert world.rates(is_treatment=True).sum_q > 300
