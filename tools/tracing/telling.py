"""The story of an event for a person: what happened, in the order in which it did. Pure."""

import difflib
from collections.abc import Iterable
from typing import Any

Json = dict[str, Any]

ROLES = {
    "fresh": "fresh: the first of its id, it counts by the rules below",
    "refused": "refused: {why}",
    "stale": "stale: older than the horizon of that moment ({horizon}), so it could be a resend "
    "whose id is forgotten; kept in the log, not counted",
}


def tell(trace: Json) -> list[str]:
    """Return the lines of the story."""
    unit = trace["unit"]
    lines = [f"Event {trace['event_id']!r} of {unit['unit_type']} {unit['unit_id']!r}", ""]
    lines += _at_the_door(trace)
    lines += _in_the_log(trace)
    for one in trace["experiments"]:
        lines += _in_experiment(one)
    lines += _in_clickhouse(trace)
    if not trace["found"]:
        lines += _where_it_looked(trace)
    return lines


def _at_the_door(trace: Json) -> Iterable[str]:
    for row in trace["rows"]:
        asked = "" if row["timestamp_given"] else " (given by the door: the event had none)"
        yield (
            f"{row['received_at']}  accepted by the {row['door'] or 'unknown'} door"
            f" · happened {row['timestamp']}{asked} · {_content(row)}"
        )
    for late in trace["late"]:
        yield (
            f"{late['received_at']}  late at the {late['door']} door by "
            f"{late['late_by_ms'] / 1_000:.1f} s · {_content(late)}: kept in litmus.late at offset "
            f"{late['offset']}, row {late['row']}, counted nowhere"
        )
    for letter in trace["dead_letters"]:
        what = "refused" if letter["match"] == "is" else "something that names it was refused"
        yield (
            f"{letter['set_aside_at']}  {what} at the {letter['door']} door with code "
            f"{letter['code']}: {letter['message']} · kept in litmus.dlq at offset "
            f"{letter['offset']}"
        )
    yield ""


def _content(row: Json) -> str:
    if row["type"] == "assignment":
        return f"assignment to {row['variant']} of {row['experiment_id']}"
    only = f" for {row['experiment_id']} only" if row["experiment_id"] else ""
    return f"{row['metric']} = {row['value']:g}{only}"


def _in_the_log(trace: Json) -> Iterable[str]:
    if not trace["rows"]:
        return
    yield f"In litmus.events/{trace['unit']['partition']}"
    for row in trace["rows"]:
        yield f"  offset {row['offset']}, row {row['row']}: {_fate(row)}"
    yield ""


def _fate(row: Json) -> str:
    of = row["of"]
    if row["outcome"] == "duplicate":
        return f"duplicate of offset {of['offset']}, row {of['row']}: a resend, not counted again"
    if row["outcome"] == "conflict":
        said = ", ".join(
            f"{name} {one['first']!r} there, {one['here']!r} here"
            for name, one in row["differs"].items()
        )
        return (
            f"conflict with offset {of['offset']}, row {of['row']}: the same id says something "
            f"else ({said}); the first stays"
        )
    return ROLES[row["outcome"]].format(why=row["why"], horizon=row["horizon"])


def _in_experiment(one: Json) -> Iterable[str]:
    yield f"In {one['experiment_id']} ({one['status']}{', final' if one['final'] else ''})"
    yield f"  {_outcome(one)}"
    for share in one["metrics"]:
        yield f"  {_share(share, one)}"
    look = one["first_look"]
    if look is not None:
        yield f"  first look that holds it: tick {look['tick']}, as of {look['as_of']}"
    elif one["outcome"] not in ("not_tracked", "not_running"):
        yield "  no look holds it yet"
    yield ""


def _outcome(one: Json) -> str:
    entry, other = one["entry"], one["crossover"]
    entered = f"exposed to {entry['variant']} at {entry['timestamp']}" if entry else ""
    both = f"{entered}, to {other['variant']} at {other['timestamp']}" if entry and other else ""
    texts = {
        "counted": f"counted: the unit was {entered}",
        "outside_window": f"outside the window: the unit was {entered}",
        "excluded": f"excluded: a crossover leaves all variants; it was {both}",
        "no_assignment": "no assignment: "
        + (f"the unit was {entered}, after the event" if entry else "the unit was never exposed"),
        "not_tracked": f"not tracked: the experiment attributes this metric from "
        f"{one['tracked_since'] or 'its start'} on",
        "entry": f"the unit's entry: {entered}; windows begin here",
        "repeated_assignment": f"changes nothing: the unit was {entered}, the first decides",
        "first_stays": f"changes nothing: {both}, and by policy the first stays",
        "crossover": f"the unit left all variants: it was {both}",
        "not_running": "does not count: the experiment did not run at that moment",
    }
    return texts[one["outcome"]]


def _share(share: Json, one: Json) -> str:
    window = f"window {share['window']}, until {share['window_ends']}"
    window = window if share["window"] else "no window"
    if one["stopped_at"]:
        window += f", stopped {one['stopped_at']}"
    name = share["metric_id"]
    if share["overflowed"]:
        return f"{name}: the unit left the metric, its values are too large for exact sums"
    if one["outcome"] == "excluded":
        return f"{name}: not counted"
    if not share["counted"]:
        late_joiner = share["units_since"]
        if late_joiner and one["entry"] and one["entry"]["timestamp"] < late_joiner:
            return f"{name}: counts units that entered from {late_joiner} on, when it was added"
        return f"{name}: not within it ({window})"
    if share["matures_at"] is None:
        matured = "descriptive only" if share["window"] is None else "never matures: stopped before"
    else:
        matured = "matured" if share["matured"] else f"matures {share['matures_at']}"
    total = f"{share['unit_total']:g}"
    return f"{name}: adds {share['adds']:g}, the unit's total is {total} ({window}; {matured})"


def _in_clickhouse(trace: Json) -> Iterable[str]:
    stored = trace["clickhouse"]
    if stored is None:
        yield f"ClickHouse was not asked: {trace['query_api_failure']}"
        return
    wanted = {(row["offset"], row["row"]) for row in trace["rows"]}
    found = {(row["offset"], row["row"]) for row in stored["events"]}
    if wanted == found and wanted:
        yield f"In ClickHouse: {len(found)} of {len(wanted)} rows, as in the log"
    elif wanted:
        yield (
            f"In ClickHouse: {len(found & wanted)} of {len(wanted)} rows; the history is read from "
            "the log about once a second, `GET /v1/ledger` says how far it is"
        )
    if stored["late"]:
        yield f"In ClickHouse's late events: {len(stored['late'])} rows"


def _where_it_looked(trace: Json) -> Iterable[str]:
    searched = trace["searched"]
    if trace["late"] or any(one["match"] == "is" for one in trace["dead_letters"]):
        yield "It is not in litmus.events: what is late or refused is set aside and not counted."
        return
    yield "This event is not in the log. What was searched:"
    for one in searched["partitions"]:
        kept = f"offsets {one['begin']} to {one['end']}" if one["end"] > one["begin"] else "empty"
        yield f"  {one['topic']}/{one['partition']}: {kept}"
    yield f"  {searched['unit_rows']} of {searched['rows']} rows there are of this unit"
    if searched["other_types"]:
        types = ", ".join(searched["other_types"])
        yield f"  the unit id does occur with --unit-type {types}"
    if searched["unit_rows"]:
        close = difflib.get_close_matches(trace["event_id"], searched["event_ids"], n=5)
        named = ", ".join(close or searched["event_ids"][-5:])
        yield f"  {'alike' if close else 'newest'} event ids of the unit: {named}"
    for source, count in searched["door_backlog"].items():
        yield f"  {source}: the Kafka door has yet to take in {count} records"
    yield (
        "If a gateway answered 202, look at the answer's `rejected`; without an answer, or after "
        "a 5xx, send it again with the same ids."
    )
