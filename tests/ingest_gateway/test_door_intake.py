"""Records are judged together as each would be alone, whatever stands beside them."""

import json
import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingest_gateway.door_intake import DoorIntake, Record
from ingest_gateway.errors import Rejection
from ingest_gateway.rules import Refusal, Terms, Verdict, judge
from ingest_gateway.validator import Records, RejectedItem, admit_records
from schemas.batch import read_batch
from schemas.control import ControlState
from schemas.topics import ASSIGNMENTS, DEAD_LETTERS, EVENTS, LATE, METRICS
from tests.ingest_gateway.builders import (
    HOUR_MS,
    MINUTE_MS,
    NOW_MS,
    assignment,
    control,
    definition,
    metric,
)
from tests.ingest_gateway.test_hostile_bodies import REFUSED

ONE_BY_ONE = [
    *(raw for raw, _, _ in REFUSED.values()),
    *(b"", b" ", b"\n", b"\r\n", b"\t{}", b"{}\r", b"null", b"[]"),
    json.dumps(metric(), indent=2).encode(),
    json.dumps(metric()).encode() + b"\n" + json.dumps(metric()).encode(),
    b"\r\n" + json.dumps(metric(event_id=...)).encode() + b"\r\n",
    *(
        json.dumps(event).encode()
        for event in (
            metric(),
            metric(type=...),
            metric(event_id=...),
            metric(timestamp=...),
            metric(timestamp=NOW_MS - 2 * HOUR_MS),
            metric(timestamp=NOW_MS + 6 * MINUTE_MS),
            metric(timestamp="2026-11-21T18:00:00.123Z", type=...),
            metric(attributes={"country": "CA"}),
            metric(experiment_id="checkout-color"),
            metric(experiment_id="nobody"),
            metric(metric="x" * 129),
            metric(unit_id="\u00e9" * 200),
            assignment(),
            assignment(type=..., event_id=...),
            assignment(variant="another"),
            assignment(allocation_version=7, timestamp=...),
            assignment(timestamp=NOW_MS - 200 * HOUR_MS),
        )
    ),
]


def judged_alone(records: Records, known: ControlState) -> list[Verdict | RejectedItem]:
    found: list[Verdict | RejectedItem] = []
    for row, value in enumerate(records.values):
        received_at_ms = records.received_at_ms[row]
        terms = Terms(received_at_ms, known, records.topic_type, records.id_of(row))
        try:
            found.append(judge(value, terms))
        except Refusal as refusal:
            rejection = Rejection(0, refusal.code, refusal.field, refusal.message)
            found.append(RejectedItem(rejection, value))
    return found


@settings(max_examples=300)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(ONE_BY_ONE) | st.binary(max_size=20),
            st.sampled_from([NOW_MS, NOW_MS + 2 * HOUR_MS, NOW_MS - 6 * MINUTE_MS, NOW_MS + 1]),
        ),
        max_size=30,
    ),
    st.sampled_from(["metric", "assignment"]),
)
def test_together_is_as_alone(rows: list[tuple[bytes, int]], topic_type: Any) -> None:
    values, received = [value for value, _ in rows], [at_ms for _, at_ms in rows]
    records = Records(values, topic_type, received, lambda row: f"topic/0/{row}")

    assert admit_records(records, control()) == judged_alone(records, control())


@pytest.mark.parametrize("topic_type", ["metric", "assignment"])
def test_more_records_than_a_request_may_hold_are_judged_as_well(topic_type: Any) -> None:
    rng = random.Random(7)
    values = [rng.choice(ONE_BY_ONE) for _ in range(25_000)]
    received = [NOW_MS + rng.randrange(-HOUR_MS, HOUR_MS) for _ in values]
    records = Records(values, topic_type, received, lambda row: f"topic/1/{row}")

    assert admit_records(records, control()) == judged_alone(records, control())


def record(topic: str, offset: int, event: dict[str, Any]) -> Record:
    return Record(topic, 1, offset, b"key", json.dumps(event).encode(), NOW_MS + offset)


def test_every_record_of_a_poll_is_in_one_message_and_refusals_are_asked_about_again() -> None:
    """The second view knows an experiment that the first one did not."""
    views = [control(), control(definition(), definition("new"))]
    intake = DoorIntake(
        topic_ids={METRICS.name: "m", ASSIGNMENTS.name: "a"},
        partition_count=3,
        usable=lambda: views[0],
        fresh=lambda: views[1],
    )
    records = [
        record(METRICS.name, 0, metric(type=..., event_id=...)),
        record(ASSIGNMENTS.name, 0, assignment(experiment_id="new")),
        record(METRICS.name, 1, metric(timestamp=NOW_MS - 2 * HOUR_MS)),
        record(ASSIGNMENTS.name, 1, assignment(experiment_id="nobody")),
        record(METRICS.name, 2, metric(value="many")),
        record(ASSIGNMENTS.name, 2, assignment(type=...)),
    ]

    outgoing = intake.take(records)

    rows = [
        (message.topic, row["event_id"], row["experiment_id"], row["received_at"])
        for message in outgoing.messages
        if message.topic != DEAD_LETTERS.name
        for row in read_batch(message.value).to_pylist()
    ]
    assert sorted(rows, key=str) == [
        (EVENTS.name, "a-1", "checkout-color", NOW_MS + 2),
        (EVENTS.name, "a-1", "new", NOW_MS),
        (EVENTS.name, "m/1/0", None, NOW_MS),
        (LATE.name, "m-1", None, NOW_MS + 1),
    ]
    letters = [one for one in outgoing.messages if one.topic == DEAD_LETTERS.name]
    assert [dict(one.headers)["litmus.dlq.code"] for one in letters] == [
        b"unknown_experiment",
        b"malformed",
    ]
    assert [one.value for one in letters] == [records[3].value, records[4].value]
    assert (outgoing.accepted, outgoing.late, len(outgoing.rejections)) == (3, 1, 2)
    assert outgoing.dead_letter_bytes > 0
