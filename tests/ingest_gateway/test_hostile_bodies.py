"""JSON that decoders disagree about: every row alone, in an array and in NDJSON.

Each has one answer, the same in all three forms, and in NDJSON and in an array that can be told
apart it costs no neighbour. Nothing but a refused body is ever raised.
"""

import json

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ingest_gateway.errors import MalformedBodyError, RejectionCode
from ingest_gateway.splitting import BodyForm
from ingest_gateway.validator import admit
from tests.ingest_gateway.builders import (
    NOW_MS,
    admit_json,
    admit_lines,
    admit_record,
    control,
    metric,
)

Code = RejectionCode
GOOD = json.dumps(metric()).encode()
START = (
    b'{"type":"metric","event_id":"m","unit_id":"u","metric":"purchase","timestamp":1795284000123'
)


def valued(value: bytes) -> bytes:
    return START + b',"value":' + value + b"}"


def named(name: bytes) -> bytes:
    return START.replace(b'"unit_id":"u"', b'"unit_id":"' + name + b'"') + b"}"


def attributed(attributes: bytes) -> bytes:
    return START + b',"attributes":' + attributes + b"}"


REFUSED: dict[str, tuple[bytes, Code, str | None]] = {
    "duplicate value": (valued(b'1,"value":2'), Code.MALFORMED, "value"),
    "duplicate key, equal values": (valued(b'1,"value":1'), Code.MALFORMED, "value"),
    "duplicate key, escaped": (valued(b'1,"v\\u0061lue":1'), Code.MALFORMED, "value"),
    "duplicate attribute": (attributed(b'{"a":1,"a":2}'), Code.MALFORMED, "a"),
    "duplicate key deep inside": (attributed(b'{"a":[{"b":1,"b":2}]}'), Code.MALFORMED, "b"),
    "NaN": (valued(b"NaN"), Code.VALUE_NOT_FINITE, "value"),
    "Infinity": (valued(b"Infinity"), Code.VALUE_NOT_FINITE, "value"),
    "-Infinity": (valued(b"-Infinity"), Code.VALUE_NOT_FINITE, "value"),
    "1e999": (valued(b"1e999"), Code.VALUE_NOT_FINITE, "value"),
    "-1e999": (valued(b"-1e999"), Code.VALUE_NOT_FINITE, "value"),
    "integer of 400 digits": (valued(b"9" * 400), Code.VALUE_OUT_OF_RANGE, "value"),
    "integer of 5000 digits": (valued(b"-" + b"9" * 5000), Code.VALUE_OUT_OF_RANGE, "value"),
    "quoted number": (valued(b'"1.5"'), Code.MALFORMED, "value"),
    "true": (valued(b"true"), Code.MALFORMED, "value"),
    "null": (valued(b"null"), Code.MALFORMED, "value"),
    "leading zero": (valued(b"01"), Code.MALFORMED, None),
    "plus sign": (valued(b"+1"), Code.MALFORMED, None),
    "hexadecimal": (valued(b"0x10"), Code.MALFORMED, None),
    "nan in small letters": (valued(b"nan"), Code.MALFORMED, None),
    "comment": (valued(b"1/*one*/"), Code.MALFORMED, None),
    "invalid UTF-8": (named(b"\xff\xfe"), Code.MALFORMED, None),
    "overlong UTF-8": (named(b"\xc0\x80"), Code.MALFORMED, None),
    "surrogate in UTF-8": (named(b"\xed\xa0\x80"), Code.MALFORMED, None),
    "UTF-8 cut off": (named(b"\xe2\x82"), Code.MALFORMED, None),
    "invalid UTF-8 in attributes": (attributed(b'{"a":"\xff"}'), Code.MALFORMED, None),
    "lone surrogate": (named(b"\\ud800"), Code.MALFORMED, None),
    "lone low surrogate": (named(b"a\\uDC00"), Code.MALFORMED, None),
    "lone surrogate in attributes": (attributed(b'{"a":"\\ud800"}'), Code.MALFORMED, None),
    "lone surrogate in a key": (valued(b'1,"\\ud800":1'), Code.MALFORMED, None),
    "raw control character": (named(b"a\x01"), Code.MALFORMED, None),
    "raw tab": (named(b"a\tb"), Code.MALFORMED, None),
    "byte order mark": (b"\xef\xbb\xbf" + valued(b"1"), Code.MALFORMED, None),
    "NUL escaped": (named(b"\\u0000"), Code.ID_INVALID, "unit_id"),
    "newline escaped": (named(b"a\\nb"), Code.ID_INVALID, "unit_id"),
    "2,000 nested": (attributed(b"[" * 2_000 + b"]" * 2_000), Code.MALFORMED, None),
    "15,000 nested": (attributed(b"[" * 15_000 + b"]" * 15_000), Code.MALFORMED, None),
    "20,000 nested": (attributed(b"[" * 20_000 + b"]" * 20_000), Code.TOO_LARGE, None),
    "5,000 nested objects": (
        attributed(b'{"a":' * 5_000 + b"1" + b"}" * 5_000),
        Code.MALFORMED,
        None,
    ),
    "trailing comma": (START + b",}", Code.MALFORMED, None),
    "single quotes": (START.replace(b'"', b"'") + b"}", Code.MALFORMED, None),
    "unquoted key": (START + b",value:1}", Code.MALFORMED, None),
    "array": (b"[" + valued(b"1") + b"]", Code.MALFORMED, None),
    "number": (b"1", Code.MALFORMED, None),
    "null event": (b"null", Code.MALFORMED, None),
    "text": (b'"event"', Code.MALFORMED, None),
    "unknown escape": (named(b"\\x41"), Code.MALFORMED, None),
    "mismatched brackets": (attributed(b"[1}]"), Code.MALFORMED, None),
    "unterminated string": (START + b',"value":"1}', Code.MALFORMED, None),
    "unterminated object": (START, Code.MALFORMED, None),
    "closed twice": (START + b"}}", Code.MALFORMED, None),
    "a NUL byte": (b"\0", Code.MALFORMED, None),
    "UTF-16": (valued(b"1").decode().encode("utf-16"), Code.MALFORMED, None),
}
NOT_SPLIT_IN_ARRAYS = {
    "mismatched brackets",
    "unterminated string",
    "unterminated object",
    "closed twice",
}
NOT_ONE_EVENT = NOT_SPLIT_IN_ARRAYS | {
    "byte order mark",
    "number",
    "null event",
    "text",
    "a NUL byte",
    "UTF-16",
}
TAKEN_APART = {"array"}
"""Alone it is a good array of one good event."""

rows = pytest.mark.parametrize("name", REFUSED)


@rows
def test_alone(name: str) -> None:
    raw, code, field = REFUSED[name]
    if name in NOT_ONE_EVENT:
        with pytest.raises(MalformedBodyError):
            admit_json(raw)
        return
    admission = admit_json(raw)
    if name in TAKEN_APART:
        assert len(admission.accepted) == 1
        return
    (item,) = admission.rejected
    assert (item.rejection.code, item.rejection.field, item.raw) == (code, field, raw)
    assert not admission.accepted


@rows
def test_in_an_array_between_good_neighbours(name: str) -> None:
    raw, code, field = REFUSED[name]
    body = b"[" + b", ".join([GOOD, raw, GOOD]) + b"]"
    if name in NOT_SPLIT_IN_ARRAYS:
        with pytest.raises(MalformedBodyError):
            admit_json(body)
        return

    admission = admit_json(body)

    assert len(admission.accepted) == 2
    (item,) = admission.rejected
    assert item.rejection.index == 1
    assert (item.rejection.code, item.rejection.field, item.raw) == (code, field, raw)


@rows
def test_in_ndjson_between_good_neighbours(name: str) -> None:
    raw, code, field = REFUSED[name]
    if name == "UTF-16":
        code = Code.MALFORMED

    admission = admit_lines([GOOD, raw, GOOD])

    assert len(admission.accepted) == 2
    (item,) = admission.rejected
    assert item.rejection.index == 1
    assert (item.rejection.code, item.rejection.field, item.raw) == (code, field, raw)


@rows
def test_as_a_record(name: str) -> None:
    raw, code, field = REFUSED[name]

    admission = admit_record(
        raw, topic_type="metric", received_at_ms=NOW_MS, control=control(), position_id="t:0:0"
    )

    (item,) = admission.rejected
    assert (item.rejection.code, item.rejection.field, item.raw) == (code, field, raw)


@rows
def test_every_answer_can_be_written(name: str) -> None:
    (item,) = admit_lines([REFUSED[name][0]]).rejected

    assert len(item.rejection.message) <= 400
    item.rejection.message.encode()
    (item.rejection.field or "").encode()


def test_many_hostile_lines_cost_no_neighbour() -> None:
    lines = [line for raw, _, _ in REFUSED.values() for line in (raw, GOOD)]

    admission = admit_lines(lines)

    assert len(admission.accepted) == len(REFUSED)
    assert [item.rejection.index for item in admission.rejected] == list(range(0, len(lines), 2))


def test_value_defaults_to_one_only_where_it_is_missing() -> None:
    assert admit_json(START + b"}").accepted[0].value == 1.0


pieces = st.sampled_from(
    [
        *(bytes([octet]) for octet in b'{}[],:"\\\n\r 1\0\xff'),
        *(GOOD, START, b'"value"', b'"attributes"', b"NaN", b"\\ud800", b"1e999"),
        *(b"\xef\xbb\xbf", b"[" * 3_000),
    ]
)


@settings(max_examples=500)
@given(st.binary(max_size=60) | st.lists(pieces, max_size=12).map(b"".join))
@example(b"[" * 100_000)
@example(b'{"a":' * 100_000)
@example(b"\\" * 1_000)
def test_any_bytes_are_sorted_out_or_refused_as_a_body(body: bytes) -> None:
    for form in BodyForm:
        for key in (None, "k"):
            try:
                admission = admit(
                    body,
                    form=form,
                    received_at_ms=NOW_MS,
                    control=control(),
                    idempotency_key=key,
                )
            except MalformedBodyError:
                assert form is BodyForm.JSON
                continue
            for item in admission.rejected:
                item.rejection.message.encode()
    record = admit_record(
        body, topic_type="metric", received_at_ms=NOW_MS, control=control(), position_id="t:0:0"
    )
    assert len(record.accepted) + len(record.late) + len(record.rejected) == 1


@settings(max_examples=300)
@given(st.lists(st.binary(max_size=30).filter(lambda raw: b"\n" not in raw), max_size=5))
def test_good_lines_survive_any_other_lines(others: list[bytes]) -> None:
    lines = [line for other in others for line in (GOOD, other)]

    assert len(admit_lines(lines).accepted) == len(others)


@settings(max_examples=300)
@given(st.integers(0, len(GOOD) - 1), st.integers(0, 255))
def test_one_changed_byte_is_judged_alike_in_every_form(position: int, octet: int) -> None:
    changed = bytearray(GOOD)
    changed[position] = octet
    raw = bytes(changed).replace(b"\n", b" ").replace(b"\r", b" ").strip(b" \t")

    line = admit_lines([GOOD, raw])
    record = admit_record(
        raw, topic_type="metric", received_at_ms=NOW_MS, control=control(), position_id="m-1"
    )

    assert line.accepted[1:] == record.accepted or line.rejected[0].rejection.code in (
        Code.UNKNOWN_TYPE,
        Code.EVENT_ID_MISSING,
    )
    try:
        array = admit_json(b"[" + GOOD + b"," + raw + b"]")
    except MalformedBodyError:
        assert line.rejected
        return
    if len(array.accepted) + len(array.rejected) == 2:
        assert (array.accepted, array.rejected) == (line.accepted, line.rejected)
