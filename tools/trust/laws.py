"""Populations with known truths, drawn as the exact integer sums that the product keeps.

Values are quantised as the engine does, ``rint(value * 10**precision)``, and summed in doubles:
all sums stay below 2⁵³, so every one of them is the exact integer.
"""

from collections.abc import Callable, Iterator
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Rng = np.random.Generator
CELLS_MAX = 4_000_000
"""Values that are drawn at a time; what is kept of them is sums."""


LOGNORMAL_MEAN = float(np.exp(1.5**2 / 2))


class Columns(NamedTuple):
    """Sums of many arms, one row each; the shapes that come before the last axis are equal.

    Attributes:
        unit_count: Units.
        sums: Σz_i on the last axis, in quanta; exact integers in doubles.
        products: Σz_i z_j for i <= j, row by row, on the last axis.
    """

    unit_count: Floats
    sums: Floats
    products: Floats

    def cumulated(self) -> "Columns":
        """Return the sums up to every look, from those of the steps; looks are axis 1."""
        return Columns(*(np.cumsum(column, axis=1) for column in self))

    def flat(self) -> "Columns":
        """Return the same rows along one axis."""
        width = self.sums.shape[-1]
        return Columns(
            self.unit_count.ravel(),
            self.sums.reshape(-1, width),
            self.products.reshape(-1, self.products.shape[-1]),
        )

    def at(self, chosen: Any) -> "Columns":
        """Return some of the rows."""
        return Columns(*(column[chosen] for column in self))


class Arm(NamedTuple):
    """One variant of many experiments.

    Attributes:
        total: Over all units.
        covariates: Over those with a pre-period, totals first; None: the law has none.
    """

    total: Columns
    covariates: Columns | None = None

    def cumulated(self) -> "Arm":
        """Return the sums up to every look, from those of the steps; looks are axis 1."""
        covariates = self.covariates and self.covariates.cumulated()
        return Arm(self.total.cumulated(), covariates)

    def flat(self) -> "Arm":
        """Return the same rows along one axis."""
        covariates = self.covariates and self.covariates.flat()
        return Arm(self.total.flat(), covariates)

    def at(self, chosen: Any) -> "Arm":
        """Return some of the rows."""
        return Arm(self.total.at(chosen), self.covariates and self.covariates.at(chosen))


class Law(NamedTuple):
    """A population of units without or with an effect.

    Attributes:
        name: In ids of checks.
        title: In words.
        kind: The metric's kind.
        precision: Decimal digits that are kept.
        mean: Of a unit's total without an effect, in metric units.
        draw: Its name in ``DRAWS``.
        parameters: Of the draw.
    """

    name: str
    title: str
    kind: Literal["conversion", "sum", "ratio"]
    precision: int
    mean: float
    draw: str
    parameters: tuple[float, ...] = ()


LAWS = {
    law.name: law
    for law in (
        Law("bernoulli_0.1", "Bernoulli 10 %", "conversion", 0, 0.1, "bernoulli", (0.1,)),
        Law("bernoulli_0.01", "Bernoulli 1 %", "conversion", 0, 0.01, "bernoulli", (0.01,)),
        Law("normal", "normal", "sum", 4, 10.0, "normal", (10.0, 3.0)),
        Law("lognormal", "lognormal, sigma 1.5", "sum", 2, LOGNORMAL_MEAN, "lognormal", (1.5,)),
        Law(
            "zero_inflated",
            "5 % buy, lognormal, sigma 1",
            "sum",
            2,
            0.05 * float(np.exp(0.5)),
            "zero_inflated",
            (0.05, 1.0),
        ),
        Law("negative", "normal with a mean below 0", "sum", 4, -5.0, "normal", (-5.0, 3.0)),
        Law("ratio", "ratio of clustered events", "ratio", 0, 0.1, "ratio", (0.5, 4.5, 0.2)),
        Law("cuped", "CUPED, correlation 0.7", "sum", 3, 5.0, "cuped", (5.0, 0.7, 1.0)),
        Law(
            "cuped_new", "CUPED, a fifth of the units new", "sum", 3, 5.0, "cuped", (5.0, 0.7, 0.8)
        ),
        Law("ratio_cuped", "ratio with CUPED", "ratio", 0, 0.1, "ratio_cuped", (0.5, 4.5, 0.2)),
    )
}


def draw(law: Law, rng: Rng, shape: tuple[int, ...], *, units: int, lift: float = 0.0) -> Arm:
    """Return sums of ``units`` units in every cell of ``shape``; ``lift`` moves the mean."""
    drawn: Arm | Columns = _DRAWS[law.draw](law, rng, shape, units, 1.0 + lift)
    return drawn if isinstance(drawn, Arm) else Arm(drawn)


def chunks(replications: int, cells_each: int) -> Iterator[int]:
    """Yield how many replications to draw at a time, so that what is drawn fits in memory."""
    size = max(1, CELLS_MAX // max(1, cells_each))
    for start in range(0, replications, size):
        yield min(size, replications - start)


def sums_of(*totals: Floats) -> Columns:
    """Return the sums over the last axis of quantised totals, k arrays of one shape."""
    first = totals[0]
    count = np.full(first.shape[:-1], float(first.shape[-1]))
    sums = np.stack([one.sum(axis=-1, dtype=np.float64) for one in totals], axis=-1)
    products = [
        np.einsum("...i,...i->...", totals[i], totals[j])
        for i in range(len(totals))
        for j in range(i, len(totals))
    ]
    return Columns(count, sums, np.stack(products, axis=-1))


def _bernoulli(law: Law, rng: Rng, shape: tuple[int, ...], units: int, factor: float) -> Columns:
    converted = rng.binomial(units, law.parameters[0] * factor, shape).astype(np.float64)[..., None]
    return Columns(np.full(shape, float(units)), converted, converted)


def _normal(law: Law, rng: Rng, shape: tuple[int, ...], units: int, factor: float) -> Columns:
    mean, deviation = law.parameters
    values = rng.standard_normal((*shape, units))
    values *= deviation
    values += mean * factor
    return sums_of(_quantised(values, law.precision))


def _lognormal(law: Law, rng: Rng, shape: tuple[int, ...], units: int, factor: float) -> Columns:
    values = rng.standard_normal((*shape, units), dtype=np.float32)
    values *= np.float32(law.parameters[0])
    np.exp(values, out=values)
    return sums_of(_quantised(values.astype(np.float64) * factor, law.precision))


def _zero_inflated(
    law: Law, rng: Rng, shape: tuple[int, ...], units: int, factor: float
) -> Columns:
    # Only those who buy are drawn; the zeros are in the unit count.
    rate, deviation = law.parameters
    buyers = rng.binomial(units, rate, shape).ravel()
    values = np.exp(deviation * rng.standard_normal(int(buyers.sum()))) * factor
    totals = _quantised(values, law.precision)
    cell = np.repeat(np.arange(len(buyers)), buyers)
    sums: Floats = np.bincount(cell, totals, len(buyers)).astype(np.float64)
    squares: Floats = np.bincount(cell, totals * totals, len(buyers)).astype(np.float64)
    sums, squares = sums.reshape(*shape, 1), squares.reshape(*shape, 1)
    return Columns(np.full(shape, float(units)), sums, squares)


def _ratio(law: Law, rng: Rng, shape: tuple[int, ...], units: int, factor: float) -> Columns:
    a, b, stop = law.parameters
    events = rng.geometric(stop, (*shape, units))
    rates = rng.beta(a, b, (*shape, units))
    # Poisson, not binomial: a rate times 1.2 may be above 1. Without a lift, as in the law.
    hits = rng.binomial(events, rates) if factor == 1 else rng.poisson(events * rates * factor)
    return sums_of(hits.astype(np.float64), events.astype(np.float64))


def _cuped(law: Law, rng: Rng, shape: tuple[int, ...], units: int, factor: float) -> Arm:
    """Draw totals of standard deviation 3 and what they were before; some units are new.

    New units are others: their totals are lower by 1, whatever the variant.
    """
    mean, correlation, known_share = law.parameters
    before = rng.standard_normal((*shape, units))
    after = rng.standard_normal((*shape, units))
    after *= np.sqrt(1 - correlation**2)
    after += correlation * before
    after *= 3.0
    after += mean * factor
    before *= 3.0
    before += 10.0
    is_known = rng.random((*shape, units)) < known_share
    after += (1 - known_share) - ~is_known
    total, history = _quantised(after, law.precision), _quantised(before, law.precision)
    covariates = sums_of(total * is_known, history * is_known)
    return Arm(sums_of(total), covariates._replace(unit_count=is_known.sum(axis=-1) * 1.0))


def _ratio_cuped(law: Law, rng: Rng, shape: tuple[int, ...], units: int, factor: float) -> Arm:
    """Draw ratios whose units have a rate and a habit of their own, before and after."""
    a, b, stop = law.parameters
    habit = rng.gamma(1.0, (1 - stop) / stop, (*shape, units))
    rates = rng.beta(a, b, (*shape, units))
    events, events_before = (rng.poisson(habit).astype(np.float64) + 1 for _ in range(2))
    hits = rng.poisson(events * rates * factor).astype(np.float64)
    hits_before = rng.poisson(events_before * rates).astype(np.float64)
    return Arm(sums_of(hits, events), sums_of(hits, events, hits_before, events_before))


def _quantised(values: Floats, precision: int) -> Floats:
    values *= 10.0**precision
    return np.rint(values, out=values)


_DRAWS: dict[str, Callable[..., Arm | Columns]] = {
    "bernoulli": _bernoulli,
    "normal": _normal,
    "lognormal": _lognormal,
    "zero_inflated": _zero_inflated,
    "ratio": _ratio,
    "cuped": _cuped,
    "ratio_cuped": _ratio_cuped,
}
