"""Random logs of one experiment and their batch answer, by a plain rule over each unit's events.

The generator makes what breaks counting: late and repeated exposures, units in two variants,
metric events before, at and long after the entry, resends, refunds.
"""

import json
from collections import defaultdict
from collections.abc import Iterable
from random import Random
from typing import Any, NamedTuple

import msgspec

from schemas.control import CatalogueEntry
from schemas.definitions import Definition, Interval, define
from schemas.posted import DefinitionBody

DAY_MS = 86_400_000
WINDOW_DAYS, HISTORY_DAYS = 7, 14
FIRST_DAY, END_DAY = 100, 200
PRECISION = 2

BODY: dict[str, Any] = {
    "id": "streamed",
    "variants": [{"id": "A"}, {"id": "B"}],
    "analysis": {"n_star": 500},
    "metrics": [
        {"id": "total", "kind": "sum", "event": "m", "covariate_days": HISTORY_DAYS},
        {"id": "events", "kind": "count", "event": "m"},
        {"id": "converted", "kind": "conversion", "event": "m"},
        {"id": "per_view", "kind": "ratio", "numerator": "m", "denominator": "v"},
        {
            "id": "per_view_adjusted",
            "kind": "ratio",
            "numerator": "m",
            "denominator": "v",
            "covariate_days": HISTORY_DAYS,
        },
        {"id": "mean", "kind": "mean", "event": "m"},
        {"id": "median_unit", "kind": "quantile", "event": "m", "quantile": 0.5, "of": "units"},
        {"id": "p90_event", "kind": "quantile", "event": "m", "quantile": 0.9, "of": "events"},
        {"id": "capped", "kind": "sum", "event": "m", "cap": 10.0},
        {"id": "capped_top", "kind": "sum", "event": "m", "cap": {"quantile": 0.9}},
    ],
}
"""One metric of every kind."""

SEGMENTS = {"country": ["CA", "US"]}


class Line(NamedTuple):
    """An event of a log; exposures have a variant.

    Attributes:
        event_id: The same on a resend.
        unit: Whose.
        time_ms: Its own time.
        variant: None of a metric event.
        metric: Its name; empty of an exposure.
        value: Hundredths, so that floats are exact.
        country: Attribute of an exposure; empty: none given.
    """

    event_id: str
    unit: str
    time_ms: int
    variant: str | None = None
    metric: str = ""
    value: float = 0.0
    country: str = ""

    def event(self) -> dict[str, Any]:
        """Return it as it is posted."""
        common = {"event_id": self.event_id, "unit_id": self.unit, "timestamp": self.time_ms}
        if self.variant is None:
            return common | {"type": "metric", "metric": self.metric, "value": self.value}
        attributes = {"attributes": {"country": self.country}} if self.country else {}
        return (
            common
            | {"type": "assignment", "experiment_id": BODY["id"], "variant": self.variant}
            | attributes
        )


def experiment() -> Definition:
    """Return the experiment of the logs, running since the beginning of time."""
    metrics = [
        one
        | {"window": f"{24 * WINDOW_DAYS}h"}
        | ({} if one["kind"] in ("count", "conversion") else {"precision": PRECISION})
        for one in BODY["metrics"]
    ]
    body = msgspec.convert(BODY | {"metrics": metrics}, DefinitionBody)
    draft = define(body, ordinal=0, version=1, created_at_ms=0)
    # All kinds in all segments: too much for the looks of a user's definition, not for these logs.
    return msgspec.structs.replace(
        draft,
        status="running",
        started_at_ms=0,
        intervals=[Interval(0)],
        segments=SEGMENTS,
    )


def catalogue() -> list[CatalogueEntry]:
    """Return the entries of the metric names, kept as long as the covariates need."""
    return [CatalogueEntry(name, PRECISION, HISTORY_DAYS, 0) for name in ("m", "v")]


def generate(random: Random, unit_count: int) -> list[Line]:
    """Return a log in no order, a tenth of it sent twice."""
    lines: list[Line] = []
    for number in range(unit_count):
        lines += _unit_lines(random, f"u{number}", number)
    lines += random.sample(lines, len(lines) // 10)
    random.shuffle(lines)
    return lines


def _unit_lines(random: Random, unit: str, number: int) -> Iterable[Line]:
    entry_ms = FIRST_DAY * DAY_MS + 1_000 * random.randrange(5 * 86_400)
    variant, other = random.choice((("A", "B"), ("B", "A")))
    country = random.choice(("CA", "US", "FR", ""))
    if random.random() < 0.97:
        yield Line(f"x{number}", unit, entry_ms, variant, country=country)
    if random.random() < 0.1:
        again_ms = entry_ms + 1_000 * random.randrange(-2 * 86_400, 3 * 86_400)
        yield Line(f"x{number}r", unit, again_ms, variant, country=random.choice(("CA", "US")))
    if random.random() < 0.01:
        yield Line(f"x{number}c", unit, entry_ms + 100_000, other)
    for at in range(random.randrange(9)):
        time_ms = entry_ms + 1_000 * random.randrange(-16 * 86_400, 9 * 86_400)
        if random.random() < 0.4:
            yield Line(f"v{number}.{at}", unit, time_ms, metric="v", value=1.0)
        else:
            value = random.randrange(-200, 2_000) / 100
            yield Line(f"m{number}.{at}", unit, time_ms, metric="m", value=value)


class UnitTotals(NamedTuple):
    """What one unit contributes, in hundredths.

    Attributes:
        variant: Its own.
        country: Of its first exposure.
        values: Of its events ``m`` in the window.
        views: Total of its events ``v`` there.
        before: Total of ``m`` over the whole UTC days before its day; None: it had no event.
        views_before: The same of ``v``.
    """

    variant: str
    country: str
    values: list[int]
    views: int
    before: int | None
    views_before: int | None


def batch_answer(lines: list[Line]) -> tuple[list[UnitTotals], int]:
    """Return every counted unit's totals, and how many units crossed over."""
    by_unit: dict[str, dict[str, Line]] = defaultdict(dict)
    for line in lines:
        by_unit[line.unit].setdefault(line.event_id, line)
    units, crossovers = [], 0
    for its_lines in by_unit.values():
        exposures = sorted(
            (one.time_ms, one.variant, one.country) for one in its_lines.values() if one.variant
        )
        if not exposures:
            continue
        if len({variant for _, variant, _ in exposures}) > 1:
            crossovers += 1
            continue
        units.append(_totals(exposures[0], list(its_lines.values())))
    return units, crossovers


def _totals(exposure: tuple[int, str | None, str], lines: list[Line]) -> UnitTotals:
    entry_ms, variant, country = exposure
    window, history = (
        WINDOW_DAYS * DAY_MS,
        range(entry_ms // DAY_MS - HISTORY_DAYS, entry_ms // DAY_MS),
    )
    after: dict[str, list[int]] = {"m": [], "v": []}
    before: dict[str, list[int]] = {"m": [], "v": []}
    for line in lines:
        if line.variant is not None:
            continue
        quantum = round(line.value * 10**PRECISION)
        if entry_ms <= line.time_ms < entry_ms + window:
            after[line.metric].append(quantum)
        if line.time_ms // DAY_MS in history:
            before[line.metric].append(quantum)
    return UnitTotals(
        str(variant),
        country,
        after["m"],
        sum(after["v"]),
        sum(before["m"]) if before["m"] else None,
        sum(before["v"]) if before["v"] else None,
    )


def body_of(lines: list[Line]) -> bytes:
    """Return the request that posts these events."""
    return json.dumps([line.event() for line in lines]).encode()
