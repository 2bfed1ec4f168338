"""The story of one event, from the rows of its unit: where it stands, what it means, why. Pure."""

from typing import Any, NamedTuple

from schemas.times import format_duration_ms, format_time_ms
from tools.tracing.attributing import Attribution, Outcome, Share, attribute
from tools.tracing.fates import Fate, Judged, judge
from tools.tracing.rows import Event, Row, UnitLog

Json = dict[str, Any]


class Story(NamedTuple):
    """What became of an event.

    Attributes:
        occurrences: Its rows in the log with their fates, in order; none: it is not there.
        attributions: What it means for each experiment that it concerns.
        log: What was read.
    """

    occurrences: list[Judged]
    attributions: list[Attribution]
    log: UnitLog

    @property
    def fresh(self) -> Row | None:
        """Return the row that counts; None if there is none."""
        return next((one.row for one in self.occurrences if one.fate is Fate.FRESH), None)


def explain(log: UnitLog, event_hash: tuple[int, int]) -> Story:
    """Return the story of an event of the unit whose rows ``log`` holds."""
    judged = judge(log.rows)
    occurrences = [one for one in judged if one.row.event.event_hash == event_hash]
    fresh = [one.row for one in judged if one.fate is Fate.FRESH]
    attributions = []
    for one in occurrences:
        if one.fate is not Fate.FRESH:
            continue
        for definition in sorted(log.control.definitions.values(), key=lambda d: d.ordinal):
            found = attribute(one.row, definition, fresh)
            if found is not None:
                attributions.append(found)
    return Story(occurrences, attributions, log)


def as_json(story: Story) -> Json:
    """Return the story for a machine."""
    return {
        "found": bool(story.occurrences),
        "rows": [_row_json(one) for one in story.occurrences],
        "experiments": [_attribution_json(one, story) for one in story.attributions],
    }


def _row_json(one: Judged) -> Json:
    row, event = one.row, one.row.event
    return {
        "offset": row.offset,
        "row": row.row,
        "door": row.door,
        "received_at": format_time_ms(event.received_ms),
        **event_json(event),
        "outcome": one.fate.value,
        "of": None if one.of is None else {"offset": one.of.offset, "row": one.of.row},
        "differs": {name: {"first": there, "here": here} for name, there, here in one.differs},
        "why": one.why or None,
        "horizon": format_time_ms(row.times.horizon_ms),
        "tick_after": row.tick_after,
        "tick_after_at": _time(row.tick_after_ms),
    }


def event_json(event: Event) -> Json:
    """Return what an event says."""
    return {
        "type": event.kind,
        "event_id": event.event_id,
        "experiment_id": event.experiment_id,
        "variant": event.variant,
        "metric": event.metric,
        "value": event.value if event.kind == "metric" else None,
        "timestamp": format_time_ms(event.timestamp_ms),
        "timestamp_given": event.timestamp_given,
    }


def _attribution_json(one: Attribution, story: Story) -> Json:
    standing = one.standing
    definition, first, other = standing.definition, standing.first, standing.other
    stopped_ms, times = definition.stopped_at_ms, story.log.times
    return {
        "experiment_id": definition.id,
        "outcome": one.outcome.value,
        "status": definition.status,
        "tracked_since": _time(one.since_ms),
        "stopped_at": _time(stopped_ms),
        "final": stopped_ms is not None and times.horizon_ms > stopped_ms,
        "intervals": [
            {"start": format_time_ms(i.start_ms), "end": _time(i.end_ms)}
            for i in definition.intervals
        ],
        "entry": _assignment_json(first),
        "crossover": _assignment_json(other),
        "crossover_policy": definition.crossover,
        "metrics": [_share_json(share, one, times.settled_ms) for share in one.shares],
        "first_look": None,
    }


def _assignment_json(row: Row | None) -> Json | None:
    if row is None:
        return None
    return {
        "variant": row.event.variant,
        "event_id": row.event.event_id,
        "timestamp": format_time_ms(row.event.timestamp_ms),
        "offset": row.offset,
        "row": row.row,
    }


def _share_json(share: Share, one: Attribution, settled_ms: int) -> Json:
    metric = share.metric
    counted = one.outcome is Outcome.COUNTED and share.adds is not None
    scale = 10**metric.precision if metric.kind == "sum" else 1
    return {
        "metric_id": metric.id,
        "kind": metric.kind,
        "counted": counted,
        "window": None if metric.window_ms is None else format_duration_ms(metric.window_ms),
        "window_ends": _time(share.ends_ms),
        "units_since": format_time_ms(metric.added_at_ms) if metric.added_at_ms else None,
        "adds": share.adds / scale if counted and share.adds is not None else 0,
        "unit_total": None if share.total is None else share.total / scale,
        "overflowed": share.total is None,
        "matures_at": _time(share.matured_ms),
        "matured": share.matured_ms is not None and share.matured_ms <= settled_ms,
    }


def _time(milliseconds: int | None) -> str | None:
    return None if milliseconds is None else format_time_ms(milliseconds)
