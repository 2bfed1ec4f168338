"""What a look asks of the statistics: every treatment of every metric, on every basis. Pure."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from schemas.definitions import CapQuantile, Definition, Metric
from stream_processors.merge.totals import Totals
from stream_processors.stats.caps import CapChoice, CapImbalance, choose_cap, compare_capped_units
from stream_processors.stats.comparisons import Comparison
from stream_processors.stats.effects import Plan
from stream_processors.stats.sums import MetricSums


class Segment(NamedTuple):
    """Units whose first assignment had this value of an attribute; ``other``: any other."""

    attribute: str
    value: str


class Question(NamedTuple):
    """One comparison, and where its answer goes.

    Attributes:
        metric: The metric.
        basis: ``matured`` or ``open``.
        segment: Within which units; None: all.
        variant: The treatment.
        arms: Sums of every variant, in the order of the definition.
        comparison: What is computed.
        imbalance: Whether a cap at a quantile hits all variants alike; None without one.
    """

    metric: Metric
    basis: str
    segment: Segment | None
    variant: str
    arms: tuple[MetricSums, ...]
    comparison: Comparison
    imbalance: CapImbalance | None = None


def precision_of(metric: Metric) -> int:
    """Return the decimal digits of a metric's first total; conversions and counts have none."""
    return 0 if metric.kind in ("conversion", "count") else metric.precision


def questions_of(definition: Definition, totals: Totals) -> list[Question]:
    """Return all comparisons of a look: of all units, and then of each segment."""
    found: list[Question] = []
    for index, metric in enumerate(definition.metrics):
        if metric.window_ms is not None:
            arms = totals.matured[index]
            found += _questions(definition, metric, basis="matured", arms=arms)
        found += _questions(definition, metric, basis="open", arms=totals.open[index])
    return found


def plan_of(definition: Definition) -> Plan:
    """Return how the comparisons of an experiment are read."""
    analysis = definition.analysis
    tau = analysis.tau if analysis.tuning == "mixture" else None
    return Plan(analysis.alpha, analysis.n_star, tau)


def _questions(
    definition: Definition,
    metric: Metric,
    *,
    basis: str,
    arms: tuple[MetricSums, ...],
    segment: Segment | None = None,
) -> Iterator[Question]:
    """Yield a metric's question for every treatment; one cap for all variants."""
    choice, imbalance = _cap_of(metric, arms)
    by_variant = dict(zip(definition.variant_ids, arms, strict=True))
    control, plan = definition.control, plan_of(definition)
    for variant, sums in by_variant.items():
        if variant == control:
            continue
        comparison = Comparison(
            metric.kind,
            by_variant[control],
            sums,
            plan,
            precision_of(metric),
            metric.quantile,
            metric.of or "units",
            choice,
        )
        yield Question(metric, basis, segment, variant, arms, comparison, imbalance)


def _cap_of(
    metric: Metric, arms: Sequence[MetricSums]
) -> tuple[CapChoice | None, CapImbalance | None]:
    """Return the cap that the quantile of all arms together asks for, and whether it is fair."""
    caps = [one.caps for one in arms if one.caps is not None]
    if not isinstance(metric.cap, CapQuantile) or len(caps) < len(arms):
        return None, None
    units = [one.total.unit_count for one in arms]
    choice = choose_cap(
        units,
        [[cap.capped_units for cap in of_arm] for of_arm in caps],
        precision=precision_of(metric),
        quantile=metric.cap.quantile,
    )
    if choice.cap_index is None:
        return choice, None
    capped = [of_arm[choice.cap_index].capped_units for of_arm in caps]
    return choice, compare_capped_units(units, capped)
