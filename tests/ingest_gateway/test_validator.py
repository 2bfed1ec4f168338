"""The contract's rules of an event, each broken alone and each kept at its limit.

Then the promise that joins the two ways through them: whatever a request holds, its events fare
as they would one by one.
"""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingest_gateway.errors import MalformedBodyError, RejectionCode, TooManyEventsError
from ingest_gateway.events import KIND_ASSIGNMENT, KIND_METRIC, Admitted
from ingest_gateway.rules import Refusal, Terms, judge
from ingest_gateway.validator import Admission, BodyForm, admit
from schemas.control import ControlState
from schemas.definitions import Interval
from tests.ingest_gateway.builders import (
    HOUR_MS,
    MINUTE_MS,
    NOW_MS,
    admit_json,
    admit_lines,
    admit_record,
    admitted,
    assignment,
    control,
    definition,
    metric,
    refusal,
)

Code = RejectionCode


def only(admission: Admission) -> Admitted:
    (event,) = admission.accepted
    assert not admission.late
    assert not admission.rejected
    return event


def test_an_assignment_is_admitted_with_its_defaults() -> None:
    assert only(admit_json([assignment()])) == admitted(
        kind=KIND_ASSIGNMENT,
        event_id="a-1",
        experiment_id="checkout-color",
        variant="treatment",
        metric=None,
        value=0.0,
    )


def test_an_assignment_is_admitted_with_all_that_it_may_say() -> None:
    everything = assignment(
        unit_type="user",
        attributes={"plan": "pro", "country": "CA"},
        allocation_version=8976311,
        timestamp="2026-11-21T19:00:00.123+01:00",
    )

    event = only(admit_json(everything))

    assert event.attributes == '{"country":"CA","plan":"pro"}'
    assert event.allocation_version == 8976311
    assert event.timestamp_ms == NOW_MS
    assert event.timestamp_given


def test_a_metric_event_is_admitted_with_its_defaults() -> None:
    event = only(admit_json([metric(value=..., timestamp=...)]))

    assert event == admitted(value=1.0, timestamp_given=False)


def test_metric_names_and_units_need_not_be_known() -> None:
    event = only(admit_json(metric(metric="never.seen:before", unit_type="session", value=-3)))

    assert (event.metric, event.unit_type, event.value) == ("never.seen:before", "session", -3.0)


def test_a_metric_event_may_name_an_experiment_that_does_not_run() -> None:
    stopped = definition(intervals=[Interval(0, 1)], status="stopped")

    event = only(admit_json(metric(experiment_id="checkout-color"), control=control(stopped)))

    assert event.experiment_id == "checkout-color"


def test_null_is_nothing_where_the_contract_knows_null() -> None:
    event = only(admit_json(metric(experiment_id=None, attributes=None)))

    assert (event.experiment_id, event.attributes) == (None, None)
    assert only(admit_json(assignment(allocation_version=None))).allocation_version is None


def test_empty_attributes_are_none() -> None:
    assert only(admit_json(metric(attributes={}))).attributes is None


REFUSED: list[tuple[str, dict[str, Any], Code, str | None]] = [
    ("no type", metric(type=...), Code.MALFORMED, "type"),
    ("another type", metric(type="pageview"), Code.UNKNOWN_TYPE, "type"),
    ("a type that is no text", metric(type=1), Code.UNKNOWN_TYPE, "type"),
    ("no event id", metric(event_id=...), Code.EVENT_ID_MISSING, "event_id"),
    ("null as event id", metric(event_id=None), Code.MALFORMED, "event_id"),
    ("empty event id", metric(event_id=""), Code.ID_INVALID, "event_id"),
    ("event id with NUL", metric(event_id="m\0"), Code.ID_INVALID, "event_id"),
    ("no unit id", metric(unit_id=...), Code.MALFORMED, "unit_id"),
    ("empty unit id", metric(unit_id=""), Code.ID_INVALID, "unit_id"),
    ("a number as unit id", metric(unit_id=123), Code.MALFORMED, "unit_id"),
    ("unit id with NUL", metric(unit_id="u\0"), Code.ID_INVALID, "unit_id"),
    ("unit id with newline", metric(unit_id="u\n"), Code.ID_INVALID, "unit_id"),
    ("unit id with DEL", metric(unit_id="u\x7f"), Code.ID_INVALID, "unit_id"),
    ("unit id with C1", metric(unit_id="u\x85"), Code.ID_INVALID, "unit_id"),
    ("257 bytes of unit id", metric(unit_id="u" * 257), Code.ID_INVALID, "unit_id"),
    ("258 bytes in 86 characters", metric(unit_id="€" * 86), Code.ID_INVALID, "unit_id"),
    ("unit type with a slash", metric(unit_type="a/b"), Code.ID_INVALID, "unit_type"),
    ("null as unit type", metric(unit_type=None), Code.MALFORMED, "unit_type"),
    ("no metric", metric(metric=...), Code.MALFORMED, "metric"),
    ("metric with a space", metric(metric="a b"), Code.ID_INVALID, "metric"),
    ("129 characters of metric", metric(metric="m" * 129), Code.ID_INVALID, "metric"),
    ("a metric with a variant", metric(variant="control"), Code.MALFORMED, "variant"),
    ("a metric with a null variant", metric(variant=None), Code.MALFORMED, "variant"),
    (
        "a metric with an allocation",
        metric(allocation_version=1),
        Code.MALFORMED,
        "allocation_version",
    ),
    ("null as value", metric(value=None), Code.MALFORMED, "value"),
    ("true as value", metric(value=True), Code.MALFORMED, "value"),
    ("text as value", metric(value="1.5"), Code.MALFORMED, "value"),
    ("NaN as value", metric(value=float("nan")), Code.VALUE_NOT_FINITE, "value"),
    ("infinity as value", metric(value=float("-inf")), Code.VALUE_NOT_FINITE, "value"),
    ("a value above 1e12", metric(value=1000000000001), Code.VALUE_OUT_OF_RANGE, "value"),
    ("a value below -1e12", metric(value=-1.1e12), Code.VALUE_OUT_OF_RANGE, "value"),
    ("a value above 2**64", metric(value=2**70), Code.VALUE_OUT_OF_RANGE, "value"),
    (
        "a metric of no experiment",
        metric(experiment_id="x"),
        Code.UNKNOWN_EXPERIMENT,
        "experiment_id",
    ),
    ("an unknown field", metric(user="u"), Code.MALFORMED, "user"),
    ("time without offset", metric(timestamp="2026-11-21T18:00:00"), Code.MALFORMED, "timestamp"),
    ("a day that is none", metric(timestamp="2026-02-30T00:00:00Z"), Code.MALFORMED, "timestamp"),
    ("null as time", metric(timestamp=None), Code.MALFORMED, "timestamp"),
    ("a fraction as time", metric(timestamp=1.5), Code.MALFORMED, "timestamp"),
    ("true as time", metric(timestamp=True), Code.MALFORMED, "timestamp"),
    ("time before 1970", metric(timestamp=-1), Code.MALFORMED, "timestamp"),
    ("microseconds as time", metric(timestamp=NOW_MS * 1000), Code.TIMESTAMP_AHEAD, "timestamp"),
    ("time of 23 digits", metric(timestamp=10**22), Code.TIMESTAMP_AHEAD, "timestamp"),
    ("attributes as a list", metric(attributes=[1]), Code.MALFORMED, "attributes"),
    ("nested attributes", metric(attributes={"a": {}}), Code.MALFORMED, "attributes.a"),
    ("an attribute with a space", metric(attributes={"a b": 1}), Code.ID_INVALID, "attributes.a b"),
    ("an attribute with NUL", metric(attributes={"a": "\0"}), Code.MALFORMED, "attributes.a"),
    ("a huge attribute", metric(attributes={"a": 2**53 + 1}), Code.MALFORMED, "attributes.a"),
    ("NaN as attribute", metric(attributes={"a": float("nan")}), Code.MALFORMED, "attributes.a"),
    ("too many attributes", metric(attributes={"a": "x" * 4089}), Code.TOO_LARGE, "attributes"),
    ("no experiment", assignment(experiment_id=...), Code.MALFORMED, "experiment_id"),
    ("null as experiment", assignment(experiment_id=None), Code.MALFORMED, "experiment_id"),
    ("experiment with a space", assignment(experiment_id="a b"), Code.ID_INVALID, "experiment_id"),
    (
        "an unknown experiment",
        assignment(experiment_id="x"),
        Code.UNKNOWN_EXPERIMENT,
        "experiment_id",
    ),
    ("no variant", assignment(variant=...), Code.MALFORMED, "variant"),
    ("an unknown variant", assignment(variant="blue"), Code.UNKNOWN_VARIANT, "variant"),
    ("units of another type", assignment(unit_type="session"), Code.ID_INVALID, "unit_type"),
    ("an assignment with a value", assignment(value=1), Code.MALFORMED, "value"),
    ("an assignment with a metric", assignment(metric="m"), Code.MALFORMED, "metric"),
    (
        "a negative allocation",
        assignment(allocation_version=-1),
        Code.MALFORMED,
        "allocation_version",
    ),
    (
        "an allocation above 2**63",
        assignment(allocation_version=2**63),
        Code.MALFORMED,
        "allocation_version",
    ),
    (
        "before it ran",
        assignment(experiment_id="young"),
        Code.EXPERIMENT_NOT_RUNNING,
        "timestamp",
    ),
    ("a draft", assignment(experiment_id="draft"), Code.EXPERIMENT_NOT_RUNNING, "timestamp"),
]
WORLD = control(
    definition(),
    definition("young", intervals=[Interval(NOW_MS + 1)]),
    definition("draft", intervals=[], status="draft"),
)


@pytest.mark.parametrize(
    ("event", "code", "field"), [row[1:] for row in REFUSED], ids=[row[0] for row in REFUSED]
)
@pytest.mark.parametrize("form", BodyForm)
def test_a_broken_rule_is_named_and_costs_no_neighbour(
    event: dict[str, Any], code: Code, field: str | None, form: BodyForm
) -> None:
    assert refusal(admit_json(event, control=WORLD)) == (code, field)

    events = [metric(event_id="before"), event, metric(event_id="after")]
    if form is BodyForm.NDJSON:
        body = b"\n".join(json.dumps(one).encode() for one in events)
    else:
        body = json.dumps(events).encode()
    admission = admit(body, form=form, received_at_ms=NOW_MS, control=WORLD)

    assert [one.event_id for one in admission.accepted] == ["before", "after"]
    (item,) = admission.rejected
    assert (item.rejection.index, item.rejection.code, item.rejection.field) == (1, code, field)
    assert item.raw == json.dumps(event).encode()
    assert "must" in item.rejection.message or item.rejection.code is Code.MALFORMED
    json.dumps(item.rejection.message).encode()


AT_THE_LIMIT = [
    metric(value=10**12),
    metric(value=-1e12),
    metric(value=-0.0),
    metric(value=5e-324),
    metric(unit_id="u" * 256, event_id="€" * 85),
    metric(unit_id="u/\u00a0\u2028 x"),
    metric(metric="m" * 128, unit_type=":" * 128),
    metric(timestamp=NOW_MS + 5 * MINUTE_MS),
    metric(timestamp=NOW_MS - HOUR_MS),
    metric(attributes={"a": "x" * 4087}),
    metric(attributes={"a": 2**53, "b": -1.5, "c": True, "d": None, "e": "ü"}),
    assignment(allocation_version=2**63 - 1),
    assignment(allocation_version=0),
]


@pytest.mark.parametrize("event", AT_THE_LIMIT)
def test_what_just_keeps_a_rule_is_accepted_in_a_request_and_alone(event: dict[str, Any]) -> None:
    accepted = only(admit_json([event]))

    assert accepted.unit_id == event["unit_id"]
    assert judge(json.dumps(event).encode(), Terms(NOW_MS, control())) == (accepted, False)


def test_a_timestamp_one_millisecond_too_far_ahead_is_refused() -> None:
    ahead = metric(timestamp=NOW_MS + 5 * MINUTE_MS + 1)

    assert refusal(admit_json(ahead)) == (Code.TIMESTAMP_AHEAD, "timestamp")


@pytest.mark.parametrize("event", [assignment(timestamp=NOW_MS - HOUR_MS - 1)])
def test_an_event_older_than_the_lateness_is_late_and_not_refused(event: dict[str, Any]) -> None:
    admission = admit_json([metric(), event])

    assert [one.event_id for one in admission.accepted] == ["m-1"]
    assert [one.event_id for one in admission.late] == ["a-1"]
    assert not admission.rejected


def test_a_late_assignment_is_late_even_if_it_was_not_running_then() -> None:
    """Its experiment and its variant must be known all the same."""
    young = control(definition(intervals=[Interval(NOW_MS)]))
    event = assignment(timestamp=NOW_MS - HOUR_MS - 1)

    assert admit_json(event, control=young).late
    unknown = admit_json(event | {"variant": "blue"}, control=young)
    assert refusal(unknown) == (Code.UNKNOWN_VARIANT, "variant")


@pytest.mark.parametrize(
    ("timestamp_ms", "counts"),
    [
        (9, False),
        (10, True),
        (19, True),
        (20, False),
        (29, False),
        (30, True),
        (39, True),
        (40, False),
    ],
)
def test_whether_it_ran_is_decided_by_the_timestamp(timestamp_ms: int, counts: bool) -> None:
    """Ran from 10 to 20, paused, ran from 30 to 40; now it is stopped."""
    stopped = definition(intervals=[Interval(10, 20), Interval(30, 40)], status="stopped")
    state = control(stopped, lateness_ms=HOUR_MS)

    admission = admit_json([assignment(timestamp=timestamp_ms)], control=state, received_at_ms=50)

    assert bool(admission.accepted) == counts
    assert admission.depends_on_control != counts


@pytest.mark.parametrize(
    ("event", "depends"),
    [
        (assignment(experiment_id="new"), True),
        (assignment(variant="new"), True),
        (metric(experiment_id="new"), True),
        (assignment(experiment_id="young"), True),
        (metric(value="x"), False),
        (metric(), False),
    ],
)
def test_a_door_is_told_when_newer_control_might_accept_more(
    event: dict[str, Any], depends: bool
) -> None:
    assert admit_json([metric(), event], control=WORLD).depends_on_control == depends


def test_an_event_that_is_too_large_is_refused_and_its_neighbours_are_not() -> None:
    good = json.dumps(metric()).encode()
    at_the_limit = good[:-1] + b" " * (32_000 - len(good)) + b"}"
    too_large = good[:-1] + b" " * (32_001 - len(good)) + b"}"

    for admission in (
        admit_json(b"[" + b",".join([at_the_limit, too_large]) + b"]"),
        admit_lines([at_the_limit, too_large]),
    ):
        assert len(admission.accepted) == 1
        (item,) = admission.rejected
        assert (item.rejection.index, item.rejection.code) == (1, Code.TOO_LARGE)
        assert item.raw == too_large


def test_ten_thousand_events_are_taken_and_one_more_is_not() -> None:
    line = json.dumps(metric()).encode()

    assert len(admit_lines([line] * 10_000).accepted) == 10_000
    for body, form in (
        (b"\n".join([line] * 10_001), BodyForm.NDJSON),
        (b"[" + b",".join([line] * 10_001) + b"]", BodyForm.JSON),
        (b"[" + b"1," * 10_000 + b"1]", BodyForm.JSON),
    ):
        with pytest.raises(TooManyEventsError):
            admit_json(body, form=form)


@pytest.mark.parametrize("body", [b"[]", b" [ \n] ", b"[\t]"])
def test_an_empty_array_holds_no_events(body: bytes) -> None:
    assert admit_json(body) == Admission([], [], [], depends_on_control=False)


def test_blank_lines_are_skipped_and_not_counted() -> None:
    lines = [b"", json.dumps(metric()).encode() + b"\r", b" \t\r", b"nonsense", b""]

    admission = admit_lines(lines)

    assert len(admission.accepted) == 1
    assert [item.rejection.index for item in admission.rejected] == [1]
    assert admit_lines([b"", b" "]) == Admission([], [], [], depends_on_control=False)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"  ",
        b"null",
        b'"text"',
        b"\xef\xbb\xbf[]",
        b"[",
        b"[}",
        b"]",
        b"[1,]",
        b"[,1]",
        b"[1,,2]",
        b"[] []",
        b'{"a": 1',
        b'{"a": "1}',
        b'{"a": 1} {"a": 2}',
        b'{"a": 1}\n{"a": 2}',
        '[{"type": "metric"}]'.encode("utf-16"),
    ],
)
def test_a_body_that_cannot_be_split_is_refused_whole(body: bytes) -> None:
    with pytest.raises(MalformedBodyError):
        admit_json(body)


def test_an_object_over_several_lines_is_no_ndjson() -> None:
    pretty = json.dumps(metric(), indent=1).encode()

    admission = admit_json(pretty, form=BodyForm.NDJSON)

    assert not admission.accepted
    assert len(admission.rejected) == len(pretty.splitlines())


def test_two_objects_on_one_line_are_one_bad_line() -> None:
    line = json.dumps(metric()).encode()
    halves = json.dumps(metric(), indent=0).replace("\n", "", 1).encode().split(b"\n", 1)

    admission = admit_lines([line + line, *halves])

    assert not admission.accepted
    assert [item.rejection.code for item in admission.rejected][:1] == [Code.MALFORMED]


class TestIdempotencyKey:
    def ids(self, events: list[dict[str, Any]], key: str = "k", **changed: Any) -> list[str]:
        admission = admit_json(events, idempotency_key=key, **changed)
        assert not admission.rejected
        return [event.event_id for event in admission.accepted + admission.late]

    def test_it_stands_for_ids_and_a_resend_has_the_same(self) -> None:
        events = [metric(event_id=..., timestamp=...), metric(event_id=..., value=2), metric()]

        first = self.ids(events)

        assert first[2] == "m-1"
        assert len(set(first)) == 3
        assert self.ids(events, received_at_ms=NOW_MS + 5) == first

    def test_another_key_or_other_content_gives_other_ids(self) -> None:
        known = self.ids([metric(event_id=...)])

        changes: tuple[dict[str, Any], ...] = (
            {"value": 2},
            {"metric": "other"},
            {"unit_id": "u-2"},
            {"unit_type": "session"},
            {"timestamp": NOW_MS - 1},
            {"timestamp": ...},
            {"attributes": {"a": 1}},
            {"experiment_id": "checkout-color"},
        )
        for changed in changes:
            assert self.ids([metric(**({"event_id": ...} | changed))]) != known
        assert self.ids([metric(event_id=...)], key="other") != known

    def test_equal_events_of_a_request_differ_by_their_occurrence(self) -> None:
        first, second = self.ids([metric(event_id=...)] * 2)

        assert first != second
        assert self.ids([metric(event_id=...)]) == [first]

    def test_how_it_is_written_is_no_part_of_the_content(self) -> None:
        plain = metric(event_id=..., value=1, attributes={"a": 1, "b": 2})
        other = {"attributes": {"b": 2, "a": 1}, "timestamp": "2026-11-21T18:00:00.123Z"}

        assert self.ids([plain]) == self.ids([plain | other | {"value": 1.0}])

    def test_late_events_have_ids_too(self) -> None:
        old = metric(event_id=..., timestamp=NOW_MS - 2 * HOUR_MS)

        assert len(set(self.ids([old, old, metric(event_id=...)]))) == 3

    def test_a_key_that_could_be_no_id_is_refused(self) -> None:
        with pytest.raises(MalformedBodyError, match="Idempotency-Key"):
            admit_json([metric()], idempotency_key="")

    def test_an_empty_event_id_is_refused_all_the_same(self) -> None:
        assert refusal(admit_json([metric(event_id="")], idempotency_key="k")) == (
            Code.ID_INVALID,
            "event_id",
        )


class TestRecord:
    def admit(self, event: dict[str, Any] | bytes, topic_type: Any = "metric") -> Admission:
        value = event if isinstance(event, bytes) else json.dumps(event).encode()
        return admit_record(
            value,
            topic_type=topic_type,
            received_at_ms=NOW_MS,
            control=WORLD,
            position_id="topic:3:17",
        )

    def test_the_topic_says_the_type_and_the_position_is_the_id(self) -> None:
        event = only(self.admit(metric(type=..., event_id=...)))

        assert (event.kind, event.event_id) == (KIND_METRIC, "topic:3:17")
        assert only(self.admit(assignment(type=...), "assignment")).kind == KIND_ASSIGNMENT

    def test_its_own_id_and_type_are_kept(self) -> None:
        assert only(self.admit(metric())) == only(admit_json(metric()))

    def test_a_type_that_contradicts_the_topic_is_refused(self) -> None:
        assert refusal(self.admit(assignment())) == (Code.UNKNOWN_TYPE, "type")

    def test_late_and_refused_records_are_sorted_out(self) -> None:
        assert self.admit(metric(timestamp=1)).late
        assert refusal(self.admit(b"[]")) == (Code.MALFORMED, None)
        assert refusal(self.admit(b"")) == (Code.MALFORMED, None)
        assert self.admit(assignment(experiment_id="x"), "assignment").depends_on_control


texts = st.sampled_from(
    ["", "u-1", "user", "session", "checkout-color", "young", "treatment", "control", "purchase"]
) | st.sampled_from(["é", "a\0", "a\x80", "x" * 257, "\ud800", "metric", "assignment", "ü" * 127])
times = st.sampled_from(
    [0, 1, NOW_MS, NOW_MS - HOUR_MS, NOW_MS - HOUR_MS - 1, NOW_MS + 5 * MINUTE_MS + 1, -1, 2**64]
) | st.sampled_from(
    ["2026-11-21T18:00:00.123Z", "2026-11-21t16:59:59,5Z", "2026-11-21 17:59:00+00:00", "1970"]
)
anything = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 3),
    st.floats(),
    texts,
    times,
    st.sampled_from([10**12, 10**13, 1e12, [], {}, {"a": 1}, {"a": [1]}, 2**63]),
)
fields = st.sampled_from(
    [*assignment(), "metric", "value", "attributes", "unit_type", "allocation_version", "other"]
)
events = st.builds(
    lambda event, changed, dropped: {
        name: value for name, value in (event | changed).items() if name not in dropped
    },
    st.sampled_from([metric(), assignment(), metric(attributes={"b": 1}), assignment(timestamp=1)]),
    st.dictionaries(fields, anything, max_size=2),
    st.sets(fields, max_size=1),
)


def one_by_one(raws: list[bytes], world: ControlState, substitute_id: str | None) -> list[Any]:
    terms = Terms(NOW_MS, world, substitute_id=substitute_id)
    fates: list[Any] = []
    for raw in raws:
        try:
            fates.append(judge(raw, terms))
        except Refusal as refused:
            fates.append((refused.code, refused.field, refused.message))
    return fates


@settings(max_examples=300)
@given(st.lists(events, max_size=6), st.sampled_from(BodyForm))
def test_events_fare_in_a_request_as_they_would_alone(
    posted: list[dict[str, Any]], form: BodyForm
) -> None:
    raws = [json.dumps(event).encode() for event in posted]
    body = b"\n".join(raws) if form is BodyForm.NDJSON else b"[" + b", ".join(raws) + b"]"

    admission = admit(body, form=form, received_at_ms=NOW_MS, control=WORLD)

    fates = one_by_one(raws, WORLD, None)
    refusals = [(row, fate) for row, fate in enumerate(fates) if len(fate) == 3]
    verdicts = [fate for fate in fates if len(fate) == 2]
    assert admission.accepted == [event for event, is_late in verdicts if not is_late]
    assert admission.late == [event for event, is_late in verdicts if is_late]
    assert [
        (item.rejection.index, (item.rejection.code, item.rejection.field, item.rejection.message))
        for item in admission.rejected
    ] == refusals
    assert [item.raw for item in admission.rejected] == [raws[row] for row, _ in refusals]
