"""Times and durations survive the way out and back in; what is not one is refused."""

import re
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.times import (
    TIMESTAMP_MS_MAX,
    TIMESTAMP_MS_MIN,
    format_day,
    format_duration_ms,
    format_time_ms,
    parse_day,
    parse_duration_ms,
    parse_time_ms,
)

timestamps = st.integers(TIMESTAMP_MS_MIN, TIMESTAMP_MS_MAX)


@given(timestamps)
def test_a_time_comes_back_from_its_text(milliseconds: int) -> None:
    assert parse_time_ms(format_time_ms(milliseconds)) == milliseconds


@given(timestamps, timestamps)
def test_texts_sort_like_the_times_they_stand_for(one: int, other: int) -> None:
    assert (format_time_ms(one) < format_time_ms(other)) == (one < other)


@given(
    st.datetimes(datetime(1971, 1, 1), datetime(9999, 12, 30)),  # noqa: DTZ001  # zone follows
    st.integers(-23 * 60 - 59, 23 * 60 + 59),
    st.sampled_from("Tt "),
)
def test_the_offset_says_which_moment_is_meant(
    local: datetime, offset_minutes: int, separator: str
) -> None:
    moment = local.replace(tzinfo=timezone(timedelta(minutes=offset_minutes)))
    since = moment.astimezone(UTC) - datetime(1970, 1, 1, tzinfo=UTC)

    text = moment.isoformat(separator, timespec="microseconds")

    assert parse_time_ms(text) == since // timedelta(milliseconds=1)


@pytest.mark.parametrize(
    ("text", "milliseconds"),
    [
        ("1970-01-01T00:00:00Z", 0),
        ("1970-01-01T00:00:01.5Z", 1_500),
        ("1970-01-01T00:00:00.123456789z", 123),
        ("1970-01-01T00:00:00.0009Z", 0),
        ("1970-01-01T01:00:00+01:00", 0),
        ("1969-12-31T23:00:00-01:00", 0),
        ("9999-12-31T23:59:59.999Z", TIMESTAMP_MS_MAX),
        ("2024-02-29T00:00:00Z", 1_709_164_800_000),
    ],
)
def test_a_time_is_read_to_the_millisecond_and_finer_digits_are_cut_off(
    text: str, milliseconds: int
) -> None:
    assert parse_time_ms(text) == milliseconds


@pytest.mark.parametrize(
    "text",
    [
        "",
        "2026-11-21",
        "2026-11-21T18:00:00",
        "2026-11-21T18:00Z",
        "20261121T180000Z",
        "2026-W47-6T18:00:00Z",
        "2026-02-29T18:00:00Z",
        "2026-11-21T24:00:00Z",
        "2026-11-21T18:00:60Z",
        "2026-11-21T18:00:00,5Z",
        "2026-11-21T18:00:00.Z",
        "2026-11-21T18:00:00.1234567890Z",
        "2026-11-21T18:00:00+0100",
        "2026-11-21T18:00:00+24:00",
        "2026-11-21T18:00:00Z\n",
        " 2026-11-21T18:00:00Z",
        "٢٠٢٦-11-21T18:00:00Z",
        "0000-01-01T00:00:00Z",
        "1969-12-31T23:59:59.999Z",
        "1970-01-01T00:59:59.999+01:00",
        "9999-12-31T23:59:59.999-00:01",
    ],
)
def test_what_is_no_time_between_1970_and_9999_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"^.*"):
        parse_time_ms(text)


@given(st.text())
def test_any_text_is_a_time_or_refused_with_a_value_error(text: str) -> None:
    with pytest.raises(ValueError, match="RFC 3339"):
        parse_time_ms(text)


@given(st.integers(1, 10**9 - 1))
def test_a_duration_comes_back_from_its_text(milliseconds: int) -> None:
    assert parse_duration_ms(format_duration_ms(milliseconds)) == milliseconds


@pytest.mark.parametrize(
    ("text", "milliseconds"),
    [("72h", 259_200_000), ("30m", 1_800_000), ("45s", 45_000), ("5ms", 5), ("2d", 172_800_000)],
)
def test_a_duration_is_a_number_and_a_unit(text: str, milliseconds: int) -> None:
    assert parse_duration_ms(text) == milliseconds


@pytest.mark.parametrize(
    ("milliseconds", "text"),
    [(259_200_000, "72h"), (1_800_000, "30m"), (90_000, "90s"), (3_600_001, "3600001ms")],
)
def test_a_duration_is_shown_in_the_largest_unit_that_holds_it(
    milliseconds: int, text: str
) -> None:
    assert format_duration_ms(milliseconds) == text


@pytest.mark.parametrize(
    "text", ["", "0s", "00h", "-1h", "+1h", "1.5h", "1", "h", "1 h", "1H", "1h30m", "٣h", "1h\n"]
)
def test_what_is_no_whole_number_above_0_with_a_unit_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="must be a whole number above 0 and a unit"):
        parse_duration_ms(text)


@pytest.mark.parametrize("text", ["1970-01-01", "2024-02-29", "2026-11-20", "9999-12-31"])
def test_a_day_is_written_as_it_was_read(text: str) -> None:
    assert format_day(parse_day(text)) == text


@pytest.mark.parametrize(
    "text", ["", "2026-11-31", "2026-13-01", "20261120", "2026-W40-1", "1969-12-31", "2026-11-20Z"]
)
def test_what_is_no_day_is_refused_by_name(text: str) -> None:
    with pytest.raises(ValueError, match=re.escape(repr(text))):
        parse_day(text)


def test_days_count_from_the_epoch() -> None:
    assert parse_day("1970-01-01") == 0
    assert parse_day("2026-11-20") * 86_400_000 == parse_time_ms("2026-11-20T00:00:00Z")
