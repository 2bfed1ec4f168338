"""What a look asks of the statistics: every treatment of every metric, on every basis. Pure."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from schemas.definitions import CapQuantile, Definition, Metric
from stream_processors.merge.totals import Totals
from stream_processors.stats.caps import CapChoice, CapImbalance, choose_cap, compare_capped_units
from stream_processors.stats.comparisons import Comparison
from stream_processors.stats.effects import Effect, Plan
from stream_processors.stats.sums import MetricSums


class Segment(NamedTuple):
    """Units whose first assignment had this value of an attribute; ``other``: any other."""

    attribute: str
    value: str


class Place(NamedTuple):
    """Where an entry goes: within which units (None: all), which metric, on which basis."""

    segment: Segment | None
    metric_id: str
    basis: str


class Question(NamedTuple):
    """One comparison, and where its answer goes.

    Attributes:
        metric: The metric.
        place: The same for all treatments of an entry.
        variant: The treatment.
        arms: Sums of every variant, in the order of the definition.
        comparison: What is computed.
        cap: What a cap does to the variants; None without one.
    """

    metric: Metric
    place: Place
    variant: str
    arms: tuple[MetricSums, ...]
    comparison: Comparison
    cap: "CapUse | None" = None

    @property
    def basis(self) -> str:
        """Return which units: matured ones, or all with totals to date."""
        return self.place.basis

    @property
    def chosen_cap_q(self) -> int | None:
        """Return the cap that a quantile chose, in quanta; None where none was, or a fixed one."""
        choice = None if self.cap is None else self.cap.choice
        return None if choice is None else choice.cap_q

    @property
    def segment(self) -> Segment | None:
        """Return within which segment; None: all units."""
        return self.place.segment


class CapUse(NamedTuple):
    """A cap as it is applied to all variants alike.

    Attributes:
        choice: Of a cap at a quantile: which of the grid; None of a fixed one.
        capped_units: Units above it, of every variant; None where totals are not capped.
        imbalance: Whether it hits all variants alike.
    """

    choice: CapChoice | None
    capped_units: tuple[int, ...] | None
    imbalance: CapImbalance | None


class Answer(NamedTuple):
    """A question of a look and what the statistics say."""

    question: Question
    effect: Effect


def precision_of(metric: Metric) -> int:
    """Return the decimal digits of a metric's first total; conversions and counts have none."""
    return 0 if metric.kind in ("conversion", "count") else metric.precision


def questions_of(definition: Definition, totals: Totals) -> list[Question]:
    """Return all comparisons of a look: of all units, and then of each segment.

    Segments are compared on matured units, and on open ones only where a metric has no window:
    they decide nothing, and one basis of each is enough to look at.
    """
    reading = _Reading(definition.variant_ids, definition.control, plan_of(definition))
    found: list[Question] = []
    for index, metric in enumerate(definition.metrics):
        if metric.window_ms is not None:
            place = Place(None, metric.id, "matured")
            found += _questions(reading, metric, totals.matured[index], place)
        place = Place(None, metric.id, "open")
        found += _questions(reading, metric, totals.open[index], place)
    for attribute, values in totals.segments.items():
        for value, within in values.items():
            for index, metric in enumerate(definition.metrics):
                basis = "open" if metric.window_ms is None else "matured"
                arms = (within.open if basis == "open" else within.matured)[index]
                place = Place(Segment(attribute, value), metric.id, basis)
                found += _questions(reading, metric, arms, place)
    return found


def plan_of(definition: Definition) -> Plan:
    """Return how the comparisons of an experiment are read."""
    analysis = definition.analysis
    tau = analysis.tau if analysis.tuning == "mixture" else None
    return Plan(analysis.alpha, analysis.n_star, tau)


class _Reading(NamedTuple):
    """What all questions of a look share."""

    variants: list[str]
    control: str
    plan: Plan


def _questions(
    reading: _Reading, metric: Metric, arms: tuple[MetricSums, ...], place: Place
) -> Iterator[Question]:
    """Yield a metric's question for every treatment; one cap for all variants."""
    cap = _cap_use(metric, arms)
    choice = None if cap is None else cap.choice
    of, precision = metric.of or "units", precision_of(metric)
    by_variant = dict(zip(reading.variants, arms, strict=True))
    control = by_variant.pop(reading.control)
    for variant, sums in by_variant.items():
        comparison = Comparison(
            metric.kind, control, sums, reading.plan, precision, metric.quantile, of, choice
        )
        yield Question(metric, place, variant, arms, comparison, cap)


def _cap_use(metric: Metric, arms: Sequence[MetricSums]) -> CapUse | None:
    """Return the cap that the quantile of all arms together asks for, or the fixed one."""
    if metric.cap is None:
        return None
    caps = [one.caps for one in arms if one.caps is not None]
    if len(caps) < len(arms):
        raise ValueError(f"{metric.id}: sums without caps, of a metric with cap {metric.cap}")
    units = [one.total.unit_count for one in arms]
    index: int | None = 0
    choice = None
    if isinstance(metric.cap, CapQuantile):
        choice = choose_cap(
            units,
            [[cap.capped_units for cap in of_arm] for of_arm in caps],
            precision=precision_of(metric),
            quantile=metric.cap.quantile,
        )
        index = choice.cap_index
    if index is None:
        return CapUse(choice, None, None)
    capped = tuple(of_arm[index].capped_units for of_arm in caps)
    return CapUse(choice, capped, compare_capped_units(units, capped))
