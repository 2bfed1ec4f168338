"""A person can read what became of an event, also when there is no trace of it."""

from typing import Any

from schemas.control import DefinitionChange
from tests.stream_processors.accumulate.builders import (
    T0,
    Message,
    assignment,
    batch,
    definition,
    measured,
    tick,
)
from tools.tracing.explaining import as_json, explain
from tools.tracing.reading import letter_matches
from tools.tracing.rows import Unit, UnitLog
from tools.tracing.telling import tell

UNIT = Unit.of("user", "u")


def story(messages: list[Message], event_id: str, **found: Any) -> str:
    log = UnitLog(UNIT)
    for offset, message in enumerate(messages):
        log.take(offset, *message)
    searched = {
        "partitions": [{"topic": "litmus.events", "partition": 3, "begin": 0, "end": 9}],
        "rows": log.row_count,
        "unit_rows": len(log.rows),
        "event_ids": [row.event.event_id for row in log.rows],
        "other_types": sorted(log.other_types),
        "door_backlog": {"litmus.metrics/1": 12},
    }
    told = {
        "event_id": event_id,
        "unit": {"unit_type": "user", "unit_id": "u", "partition": 3},
        **as_json(explain(log, UNIT.event_hash(event_id))),
        "late": [],
        "dead_letters": [],
        "clickhouse": None,
        "query_api_failure": "no stack runs from this home",
        "searched": searched,
    }
    return "\n".join(tell(told | found))


LOG = [
    tick(1, T0, DefinitionChange(definition())),
    batch([assignment("u", "a", T0 + 1), measured("u", "m-1", T0 + 5)]),
    batch([measured("u", "m-1", T0 + 5)]),
    tick(2, T0 + 50),
]


def test_a_counted_event_and_its_resend() -> None:
    text = story(LOG, "m-1")

    assert "offset 1, row 1: fresh" in text
    assert "offset 2, row 0: duplicate of offset 1, row 1: a resend, not counted again" in text
    assert "counted: the unit was exposed to c at 2023-11-14T22:13:20.001Z" in text
    assert "bought: adds 1, the unit's total is 1 (window 10s" in text
    assert "ClickHouse was not asked: no stack runs from this home" in text


def test_an_unknown_event_says_where_it_looked_and_what_is_alike() -> None:
    text = story(LOG, "m1")

    assert "This event is not in the log" in text
    assert "litmus.events/3: offsets 0 to 9" in text
    assert "alike event ids of the unit: m-1" in text
    assert "litmus.metrics/1: the Kafka door has yet to take in 12 records" in text


def test_a_unit_of_another_type_is_hinted_at() -> None:
    log = [tick(1, T0), batch([measured("u", "m", T0)._replace(unit_type="device")])]

    assert "the unit id does occur with --unit-type device" in story(log, "m")


def test_a_refused_event_is_no_mystery() -> None:
    letter = {
        "offset": 4,
        "match": "is",
        "set_aside_at": "2023-11-14T22:13:20.000Z",
        "door": "http",
        "code": "timestamp_ahead",
        "message": "timestamp == tomorrow",
    }
    text = story(LOG, "m-9", dead_letters=[letter])

    assert "refused at the http door with code timestamp_ahead: timestamp == tomorrow" in text
    assert "what is late or refused is set aside and not counted" in text


def test_a_dead_letter_is_the_event_or_at_least_names_it() -> None:
    assert letter_matches(b'{"unit_id": "u", "event_id": "m", "value": "many"}', UNIT, "m") == "is"
    assert letter_matches(b'{"unit_id": "u", "event_id": "n"}', UNIT, "m") == ""
    other = b'{"unit_id": "u", "event_id": "m", "unit_type": "device"}'
    assert letter_matches(other, UNIT, "m") == ""
    assert letter_matches(b'{"unit_id": "u", "event_id": "m",', UNIT, "m") == "mentions"
