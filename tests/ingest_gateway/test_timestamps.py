"""A column of times is read as one time is."""

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ingest_gateway.timestamps import NOT_A_TIME, parse_times_ms
from schemas.times import parse_time_ms

two_digits = st.integers(0, 99).map(lambda number: f"{number:02d}")
offsets = st.one_of(
    st.sampled_from(["Z", "z", "", "+00:00", "-00:00", "+0100", "+23:59", "-24:00", "+01:60"]),
    st.builds(
        lambda sign, h, m: f"{sign}{h:02d}:{m:02d}",
        st.sampled_from("+-"),
        st.integers(0, 23),
        st.integers(0, 59),
    ),
)
fractions = st.just("") | st.text("0123456789", max_size=10).map(lambda digits: f".{digits}")
days = st.one_of(
    st.dates().map(str),
    st.builds(
        lambda y, m, d: f"{y:04d}-{m:02d}-{d:02d}",
        st.integers(0, 9999),
        st.integers(0, 13),
        st.integers(0, 32),
    ),
    st.sampled_from(["1970-01-01", "1969-12-31", "9999-12-31", "2000-02-29", "1900-02-29"]),
)
clocks = st.one_of(
    st.times().map(lambda time: f"{time:%H:%M:%S}"),
    st.builds(lambda h, m, s: f"{h}:{m}:{s}", two_digits, two_digits, two_digits),
)
times = st.builds(
    lambda day, separator, clock, fraction, offset: day + separator + clock + fraction + offset,
    days,
    st.sampled_from(["T", "T", "t", " ", "_"]),
    clocks,
    fractions,
    offsets,
)


def one_time_ms(text: str) -> int:
    try:
        return parse_time_ms(text)
    except ValueError:
        return NOT_A_TIME


@settings(max_examples=1_000)
@given(st.lists(times | st.text("0123456789-T:.Z+ é", max_size=30), max_size=5))
@example(["1969-12-31T23:59:59.999Z", "9999-12-31T23:59:59.999-00:01", "1970-01-01T00:00:00Z"])
@example(["2026-11-21T18:00:00.123456789+05:30", "2026-11-21T18:00:60Z", "2026-11-21T24:00:00Z"])
@example(["\u0662\u066026-11-21T18:00:00Z"])
def test_a_column_is_read_as_each_of_its_texts(texts: list[str]) -> None:
    assert parse_times_ms(texts).tolist() == [one_time_ms(text) for text in texts]


@pytest.mark.parametrize(
    ("text", "milliseconds"),
    [
        ("2026-11-21T18:00:00.123Z", 1_795_284_000_123),
        ("2026-11-21T19:30:00.1239+01:30", 1_795_284_000_123),
        ("1970-01-01T00:00:00Z", 0),
    ],
)
def test_known_times(text: str, milliseconds: int) -> None:
    assert parse_times_ms([text]).tolist() == [milliseconds]
