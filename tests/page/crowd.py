"""Units with totals of every kind, drawn once from a fixed seed, and the exact sums over them."""

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from schemas.definitions import CapQuantile, Metric
from stream_processors.stats.buckets import bucket_of
from stream_processors.stats.caps import cap_grid
from stream_processors.stats.sums import CapSums, JointSums, MetricSums

Integers = NDArray[np.int64]

PRECISION = 2
SHARDS = 64
COUNTRIES = ("CA", "US", "other")


class Crowd(NamedTuple):
    """The units of one variant, in the order in which they enter; arrays of one length.

    Attributes:
        country: Index in ``COUNTRIES``.
        orders: Orders after the entry.
        spend_q: What they cost, in cents.
        refunded: Whether one was sent back.
        past_q: What was spent before the entry, in cents.
        has_past: Whether the unit was there before.
        loads_q: Milliseconds of three page loads each, shape (units, 3), in quanta.
    """

    country: Integers
    orders: Integers
    spend_q: Integers
    refunded: Integers
    past_q: Integers
    has_past: NDArray[np.bool_]
    loads_q: Integers

    @classmethod
    def drawn(cls, count: int, *, seed: int, lift: float = 0.0) -> "Crowd":
        """Return units; ``lift``: how much more of them buy."""
        random = np.random.default_rng(seed)
        taste = random.gamma(2.0, 0.5, count)
        orders = random.poisson(np.minimum(0.15 * (1 + lift) * taste, 5.0))
        spend = np.round(orders * random.lognormal(3.4, 0.7, count) * 100)
        slowness = random.lognormal(0, 0.3, (count, 1))
        return cls(
            country=random.choice(3, count, p=(0.3, 0.5, 0.2)),
            orders=orders.astype(np.int64),
            spend_q=spend.astype(np.int64),
            refunded=(random.random(count) < 0.02 * (orders > 0)).astype(np.int64),
            past_q=np.round(taste * random.lognormal(3, 0.3, count) * 100).astype(np.int64),
            has_past=random.random(count) < 0.8,
            loads_q=np.round(slowness * random.lognormal(6, 0.4, (count, 3)) * 100).astype(
                np.int64
            ),
        )

    def first(self, count: int, country: int | None = None) -> "Crowd":
        """Return the first units, or those of them in a country."""
        kept = np.arange(len(self.orders)) < count
        if country is not None:
            kept &= self.country == country
        return Crowd(*(column[kept] for column in self))

    def without_a_third_of(self, country: int) -> "Crowd":
        """Return the same units, every third of that country's counted in the one before it."""
        country_of = self.country.copy()
        country_of[np.flatnonzero(country_of == country)[::3]] = country - 1
        return self._replace(country=country_of)

    def sums(self, metric: Metric) -> MetricSums:
        """Return the exact sums of a metric over these units."""
        total = self._totals(metric)
        covariates = None
        if metric.covariate_days:
            past = [*(column[self.has_past] for column in total), self.past_q[self.has_past]]
            covariates = joint(past)
        caps = histogram = shards = None
        if isinstance(metric.cap, CapQuantile):
            caps = tuple(capped(total[0], cap) for cap in cap_grid(metric.precision))
        if metric.kind == "quantile" and metric.of == "units":
            histogram = buckets(total[0])
        if metric.kind == "quantile" and metric.of == "events":
            of_unit = np.arange(len(self.orders)) % SHARDS
            shards = tuple(buckets(self.loads_q[of_unit == one].ravel()) for one in range(SHARDS))
        return MetricSums(joint(total), covariates, caps, histogram, shards)

    def _totals(self, metric: Metric) -> list[Integers]:
        of_event = {"refund": self.refunded, "load": self.loads_q.sum(axis=1)}
        y = of_event.get(metric.event, self.spend_q)
        match metric.kind:
            case "conversion":
                return [(y > 0).astype(np.int64)]
            case "count":
                return [self.orders]
            case "ratio":
                return [y, self.orders * 10**metric.precision]
            case "mean":
                return [y, self.orders]
            case _:
                return [y]


def joint(columns: Sequence[Integers]) -> JointSums:
    """Return n, sums and products of columns, as exact integers."""
    products = [
        dot(columns[i], columns[j]) for i in range(len(columns)) for j in range(i, len(columns))
    ]
    sums = tuple(int(column.sum()) for column in columns)
    return JointSums(len(columns[0]), sums, tuple(products))


def capped(values: Integers, cap: int) -> CapSums:
    """Return the sums of min(value, cap)."""
    below = np.minimum(values, cap)
    return CapSums(int((values > cap).sum()), int(below.sum()), dot(below, below))


def dot(one: Integers, other: Integers) -> int:
    """Return Σ a·b, which these crowds keep inside int64."""
    highest = int(np.abs(one).max(initial=0)) * int(np.abs(other).max(initial=0)) * len(one)
    assert highest < 2**63
    return int(one @ other)


def buckets(values: Integers) -> dict[int, int]:
    """Return log bucket → count."""
    return dict(Counter(bucket_of(int(one)) for one in values))
