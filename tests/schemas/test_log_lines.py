"""A broker that is away is said three times in ten seconds, not three thousand times."""

import logging

from schemas.log_lines import REPEAT_WINDOW_S, REPEATS_MAX, RepeatedWarnings


class _Clock:
    now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


def _record(text: str, *args: object, level: int = logging.ERROR) -> logging.LogRecord:
    return logging.LogRecord("aiokafka", level, __file__, 1, text, args, None)


def test_a_warning_that_repeats_is_let_through_three_times() -> None:
    repeats = RepeatedWarnings(_Clock())
    passed = [repeats.filter(_record("no node %d", 1)) for _ in range(1_000)]
    assert passed == [True] * REPEATS_MAX + [False] * (1_000 - REPEATS_MAX)


def test_after_the_window_a_line_says_how_many_were_left_out() -> None:
    clock = _Clock()
    repeats = RepeatedWarnings(clock)
    for _ in range(100):
        repeats.filter(_record("no node %d", 1))
    clock.now_s = REPEAT_WINDOW_S
    record = _record("no node %d", 1)
    assert repeats.filter(record)
    assert record.getMessage() == "no node 1 (left out since 10 s ago: 97)"
    assert repeats.filter(_record("no node %d", 1)), "a window begins with that line"


def test_lines_that_differ_in_digits_only_are_the_same() -> None:
    repeats = RepeatedWarnings(_Clock())
    passed = [repeats.filter(_record(f"node {n} closed after {n} ms")) for n in range(10)]
    assert passed.count(True) == REPEATS_MAX


def test_other_lines_and_what_is_no_warning_are_never_left_out() -> None:
    repeats = RepeatedWarnings(_Clock())
    for _ in range(100):
        repeats.filter(_record("no node"))
    assert repeats.filter(_record("no coordinator"))
    assert all(repeats.filter(_record("recovered", level=logging.INFO)) for _ in range(100))


def test_a_traceback_is_never_left_out() -> None:
    repeats = RepeatedWarnings(_Clock())
    record = _record("failed")
    record.exc_info = (ValueError, ValueError("x"), None)
    assert all(repeats.filter(record) for _ in range(100))
