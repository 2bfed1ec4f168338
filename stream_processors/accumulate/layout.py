"""What is kept of a metric, and where: words of a cell, blocks of sums, groups of units. Pure.

Group 0 of an experiment is all its units. Each attribute of its segments has a group per declared
value after that, in the order of the definition, and one more for all other values.

A unit's places are a code of 6 bits per attribute, the first lowest: the number of its value among
the declared ones, or how many these are. A row of an assignment carries them with a mark above
them, made of the segments that they were coded by, as a whole number in its float.
"""

import zlib
from collections.abc import Mapping
from typing import Any, NamedTuple, Self

import msgspec

from schemas.definitions import CapQuantile, Definition, Metric
from stream_processors.stats.buckets import LOWER_EDGES
from stream_processors.stats.cap_grid import CAP_COUNT, fixed_cap_q

CONVERSION, COUNT, SUM, MEAN, RATIO, QUANTILE, EVENTS = range(7)
"""Kinds as kernels know them. QUANTILE is over units' totals, EVENTS over single values."""

_KINDS = {"conversion": CONVERSION, "count": COUNT, "sum": SUM, "mean": MEAN, "ratio": RATIO}
_WORDS = {CONVERSION: 1, COUNT: 1, SUM: 2, MEAN: 3, RATIO: 4, QUANTILE: 2, EVENTS: 3}
_COVARIATE_WORDS = {RATIO: 5}
_COVARIATE_WORDS_ELSE = 3

LIMBS = 3
"""Words of a sum."""

CAPPED_WORDS = 1
"""Of a fixed cap: units above it."""

GRID_CLASSES = CAP_COUNT + 1
CLASS_WORDS = 1 + 2 * LIMBS
"""Of a grid: units, Σq and Σq² of the totals up to each cap and above the one before it; the last
class is above all caps. What every cap makes of them follows from these."""

NO_CAP = 2**63 - 1

BUCKETS = len(LOWER_EDGES)
SHARDS = 64
BASES = 2
"""Open, with totals to date, and matured, of units whose window has passed: in this order."""

PLACE_BITS = 6
PLACES_BITS = 24
_MARK_BITS = 29
"""Together with the places they fit the 53 bits that a float keeps."""


class Shape(NamedTuple):
    """What is kept of a metric.

    Attributes:
        kind: As kernels know it.
        words: Of its totals, in a cell.
        covariate_words: Of its covariates, in a cell.
        dimension: Totals of a unit that are summed.
        block: Words of the sums of one group, variant and basis.
        covariates_in_block: Where sums with covariates begin in it, -1 for none.
        capped_in_block: Where what is capped begins in it, -1 for none.
        cap: Fixed cap in quanta, NO_CAP for none.
        grid: Which grid of caps, -1 for none.
        histogram_width: Counts of a bucket, 0 for none: one, or one of each shard.
    """

    kind: int
    words: int
    covariate_words: int
    dimension: int
    block: int
    covariates_in_block: int
    capped_in_block: int
    cap: int
    grid: int
    histogram_width: int


class Sizes(NamedTuple):
    """How much of each array of sums something takes."""

    units: int
    sums: int
    overflowed: int
    histograms: int
    ranges: int

    def plus(self, other: Self) -> "Sizes":
        """Return both together."""
        return Sizes(*(one + its for one, its in zip(self, other, strict=True)))


def shape_of(metric: Metric) -> Shape:
    """Return what is kept of a metric."""
    kind = _kind_of(metric)
    dimension = 2 if kind in (MEAN, RATIO) else 1
    block = joint_words(dimension)
    covariate_words, covariates_in_block, capped_in_block = 0, -1, -1
    if metric.covariate_days and kind not in (QUANTILE, EVENTS):
        covariate_words = _COVARIATE_WORDS.get(kind, _COVARIATE_WORDS_ELSE)
        covariates_in_block = block
        block += joint_words(2 * dimension)
    precision = 0 if kind == COUNT else metric.precision
    cap, grid = NO_CAP, -1
    if isinstance(metric.cap, CapQuantile):
        grid, capped_in_block = precision, block
        block += GRID_CLASSES * CLASS_WORDS
    elif metric.cap is not None:
        cap, capped_in_block = fixed_cap_q(metric.cap, precision), block
        block += CAPPED_WORDS
    width = {QUANTILE: 1, EVENTS: SHARDS}.get(kind, 0)
    return Shape(
        kind,
        _WORDS[kind],
        covariate_words,
        dimension,
        block,
        covariates_in_block,
        capped_in_block,
        cap,
        grid,
        width,
    )


def _kind_of(metric: Metric) -> int:
    if metric.kind == "quantile":
        return EVENTS if metric.of == "events" else QUANTILE
    return _KINDS[metric.kind]


def joint_words(dimension: int) -> int:
    """Return the words of the sums of so many totals: n, Σz_i, Σz_i·z_j for i ≤ j."""
    return 1 + LIMBS * (dimension + dimension * (dimension + 1) // 2)


# --- groups ---


def group_starts(definition: Definition) -> list[int]:
    """Return, per attribute, the group of its first value."""
    starts, group = [], 1
    for values in definition.segments.values():
        starts.append(group)
        group += len(values) + 1
    return starts


def group_count(definition: Definition) -> int:
    """Return how many groups an experiment has, that of all units included."""
    return 1 + sum(len(values) + 1 for values in definition.segments.values())


def unit_counts_of(definition: Definition) -> int:
    """Return how many counts of units an experiment has: of variants and crossovers."""
    return group_count(definition) * (len(definition.variants) + 1)


def sizes_of(definition: Definition, metric: Metric) -> Sizes:
    """Return what a metric takes of each array; counts of units are the experiment's."""
    shape, groups = shape_of(metric), group_count(definition)
    rows = groups * len(definition.variants) * BASES
    return Sizes(
        0,
        rows * shape.block,
        groups,
        rows * BUCKETS * shape.histogram_width,
        rows if shape.histogram_width else 0,
    )


def sizes_of_all(definitions: list[Definition]) -> Sizes:
    """Return what all experiments take of each array."""
    sizes = Sizes(sum(map(unit_counts_of, definitions)), 0, 0, 0, 0)
    for one in definitions:
        for metric in one.metrics:
            sizes = sizes.plus(sizes_of(one, metric))
    return sizes


# --- places ---


def elsewhere(definition: Definition) -> int:
    """Return the places of a unit without attributes."""
    places = 0
    for number, values in enumerate(definition.segments.values()):
        places |= len(values) << (PLACE_BITS * number)
    return places


def places_of(definition: Definition, attributes: Mapping[str, Any]) -> int:
    """Return the places of a unit by its attributes.

    A value that is no text counts as its JSON does: ``true``, ``3``.
    """
    places = 0
    for number, (name, values) in enumerate(definition.segments.items()):
        given = attributes.get(name)
        text = given if isinstance(given, str) else msgspec.json.encode(given).decode()
        code = len(values)
        if given is not None and text in values:
            code = values.index(text)
        places |= code << (PLACE_BITS * number)
    return places


def places_mark(definition: Definition) -> int:
    """Return what stands above places that were coded by an experiment's present segments."""
    if not definition.segments:
        return 0
    written = msgspec.json.encode(list(definition.segments.items()))
    return (zlib.crc32(written) & ((1 << _MARK_BITS) - 1)) << PLACES_BITS


def marked_places(definition: Definition, attributes: str | None) -> float:
    """Return what a row of an assignment carries; ``attributes`` is a JSON object."""
    if not definition.segments:
        return 0.0
    given = msgspec.json.decode(attributes) if attributes else {}
    return float(places_mark(definition) | places_of(definition, given))
