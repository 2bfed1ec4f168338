"""A dead letter is the refused bytes as they came, and all that is known of the refusal."""

import pytest

from ingest_gateway.dead_letters import Source, dead_letter, http_source
from ingest_gateway.errors import Rejection, RejectionCode
from schemas.topics import MESSAGE_BYTES_MAX

REJECTION = Rejection(3, RejectionCode.VALUE_NOT_FINITE, "value", "value == nan, must be finite")


def test_a_record_is_set_aside_with_where_it_was_and_why() -> None:
    source = Source("litmus.metrics", 2, 17, b"u-123")

    message = dead_letter(REJECTION, b'{"value": NaN}', source)

    assert (message.topic, message.key, message.value) == (
        "litmus.dlq",
        b"u-123",
        b'{"value": NaN}',
    )
    assert dict(message.headers) == {
        "litmus.dlq.topic": b"litmus.metrics",
        "litmus.dlq.partition": b"2",
        "litmus.dlq.offset": b"17",
        "litmus.dlq.code": b"value_not_finite",
        "litmus.dlq.error.class": b"Rejection",
        "litmus.dlq.error.message": b"value == nan, must be finite",
        "litmus.dlq.field": b"value",
    }


def test_an_event_over_http_says_its_place_in_the_request() -> None:
    message = dead_letter(REJECTION, b"\xff", http_source(REJECTION))
    headers = dict(message.headers)

    assert message.key is None
    assert message.value == b"\xff"
    assert headers["litmus.dlq.topic"] == b"http"
    assert headers["litmus.dlq.offset"] == b"3"


def test_a_refusal_of_the_whole_event_has_an_empty_field() -> None:
    whole = Rejection(0, RejectionCode.MALFORMED, None, "not JSON")

    assert dict(dead_letter(whole, b"", http_source(whole)).headers)["litmus.dlq.field"] == b""


@pytest.mark.parametrize("key", [None, b"k", b"k" * 1_000_000])
def test_what_no_message_can_hold_is_cut_and_says_so(key: bytes | None) -> None:
    raw = bytes(range(256)) * 8_000

    message = dead_letter(REJECTION, raw, Source("litmus.metrics", 0, 0, key))

    headers = sum(len(name) + len(value) for name, value in message.headers)
    assert len(message.key or b"") + len(message.value) + headers < MESSAGE_BYTES_MAX
    assert raw.startswith(message.value)
    assert dict(message.headers)["litmus.dlq.bytes"] == b"2048000"


def test_what_fits_is_not_cut() -> None:
    message = dead_letter(REJECTION, b"x" * 400_000, http_source(REJECTION))

    assert len(message.value) == 400_000
    assert "litmus.dlq.bytes" not in dict(message.headers)
