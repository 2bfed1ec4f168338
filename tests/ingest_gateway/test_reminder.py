"""What lasts is said at once, then each minute, and once more when it is over."""

from ingest_gateway.reminder import REPEAT_S, Reminder


def test_a_state_is_said_when_it_is_new_and_each_minute_that_it_lasts() -> None:
    reminder = Reminder("calm")
    states = ["calm", "bad", "bad", "bad", "bad", "worse", "worse", "calm", "calm", "bad"]
    times_s = [0, 1, 2, 1 + REPEAT_S, 2 + REPEAT_S, 70, 71, 72, 300, 301]

    said = [
        (state, now_s)
        for state, now_s in zip(states, times_s, strict=True)
        if reminder.is_due(state, now_s)
    ]

    assert said == [
        ("bad", 1),
        ("bad", 1 + REPEAT_S),
        ("worse", 70),
        ("calm", 72),
        ("bad", 301),
    ]
