"""One experiment's rules of counting, as a tick leaves them, and where its integers stand.

All integers of an experiment are one list, so that a tick's change of them is one subtraction and
partitions are added place by place. A metric that is added later gets the next places.
"""

from collections.abc import Mapping
from typing import NamedTuple

from schemas.control import CatalogueEntry
from schemas.definitions import Definition, Metric

NEVER = 1 << 63
"""A time that does not come."""

CONVERSION, COUNT, SUM = "conversion", "count", "sum"
ATTRIBUTIONS = ("counted", "outside_window", "excluded", "no_assignment")
COUNTED, OUTSIDE, EXCLUDED, NO_ASSIGNMENT = 1, 2, 3, 4
"""Where they stand, counted from the place of the crossovers."""

SUMS = 3
"""Units, Σq, Σq²: of one variant, metric and basis."""

COVARIATE_SUMS = 6
"""Units with a pre-period, Σq, Σq², Σx, Σx², Σqx."""


class MetricRules(NamedTuple):
    """One metric of an experiment.

    Attributes:
        place: Its number among the metrics.
        event: Name of its events.
        kind: Conversion, count or sum.
        window: Milliseconds; NEVER for none.
        added: Units count whose entry is not before this.
        scale: 10 ** precision, as a float: the product with a value is rounded once.
        days: UTC days before the day of entry that make its covariate; 0 for none.
        live_from: First of these that events themselves fill.
        start: Where its integers begin: all open sums by variant, then all matured ones, then open
            and matured covariate sums if it has a covariate, then the units that overflowed.
        matured: Where the matured ones begin.
        covariates: Where the open covariate sums begin.
        matured_covariates: Where the matured ones begin.
        overflowed: Where the count of those stands.
    """

    place: int
    event: str
    kind: str
    window: int
    added: int
    scale: float
    days: int
    live_from: int
    start: int
    matured: int
    covariates: int
    matured_covariates: int
    overflowed: int


class Rules:
    """An experiment as of a tick.

    Attributes:
        definition: What they were made of.
        is_final: Whether it was dropped, so that nothing is counted any more.
        places: Place of each variant.
        intervals: (start, end) in which assignments count.
        started: First start, NEVER before it.
        stopped: Events from then on do not count.
        excludes: Whether a unit with two variants leaves all arms.
        by_event: Name of events to the metrics that they are for.
        since: Name of events to the time from which on they are attributed.
        windows: Distinct windows.
        crossovers: Where the crossovers stand; the four attributions follow.
        size: How many integers there are.
    """

    def __init__(self, definition: Definition, catalogue: Mapping[str, CatalogueEntry]) -> None:
        self.definition = definition
        self.id, self.ordinal = definition.id, definition.ordinal
        self.unit_type = definition.unit_type
        self.is_final = False
        self.places = {one.id: place for place, one in enumerate(definition.variants)}
        self.intervals = [
            (one.start_ms, NEVER if one.end_ms is None else one.end_ms)
            for one in definition.intervals
        ]
        started, stopped = definition.started_at_ms, definition.stopped_at_ms
        self.started = NEVER if started is None else started
        self.stopped = NEVER if stopped is None else stopped
        self.excludes = definition.crossover == "exclude"
        self.crossovers = len(self.places)
        self.size = self.crossovers + 1 + len(ATTRIBUTIONS)
        self.metrics = [
            self._metric(place, one, catalogue.get(one.event))
            for place, one in enumerate(definition.metrics)
        ]
        self.windows = {one.window for one in self.metrics if one.window != NEVER}
        self.by_event: dict[str, list[MetricRules]] = {}
        self.since: dict[str, int] = {}
        for one in self.metrics:
            self.by_event.setdefault(one.event, []).append(one)
            since = max(self.started, one.added)
            self.since[one.event] = min(self.since.get(one.event, NEVER), since)
        self.has_covariates = any(one.days for one in self.metrics)

    def _metric(self, place: int, metric: Metric, entry: CatalogueEntry | None) -> MetricRules:
        width, start = len(self.places), self.size
        matured = start + SUMS * width
        covariates = matured + SUMS * width
        matured_covariates = covariates + COVARIATE_SUMS * width
        overflowed = covariates
        if metric.covariate_days:
            overflowed = matured_covariates + COVARIATE_SUMS * width
        self.size = overflowed + 1
        return MetricRules(
            place,
            metric.event,
            metric.kind,
            NEVER if metric.window_ms is None else metric.window_ms,
            metric.added_at_ms,
            10.0**metric.precision,
            metric.covariate_days,
            entry.live_from_day if entry is not None and entry.keep_days else NEVER,
            start,
            matured,
            covariates,
            matured_covariates,
            overflowed,
        )

    def counts_at(self, timestamp: int) -> bool:
        """Return whether an assignment of that time counts."""
        for start, end in self.intervals:  # noqa: SIM110  # any() takes twice as long
            if start <= timestamp < end:
                return True
        return False

    def changed_from(self, before: "Rules") -> int:
        """Return the time from which on events may count otherwise than under ``before``.

        NEVER where none does, -1 where all may.
        """
        same = (
            self.places == before.places
            and self.unit_type == before.unit_type
            and self.excludes == before.excludes
            and self.stopped == before.stopped
            and self.metrics[: len(before.metrics)] == before.metrics
        )
        if not same:
            return -1
        if self.started != before.started:
            return min(self.started, before.started)
        bounds = [bound for both in set(self.intervals) ^ set(before.intervals) for bound in both]
        # What an interval that lost its end, or got one, still shares with the other is its start.
        shared = {start for start, _ in self.intervals} & {start for start, _ in before.intervals}
        moved = [bound for bound in bounds if bound not in shared]
        moved += [one.added for one in self.metrics[len(before.metrics) :]]
        return min(moved, default=NEVER)
