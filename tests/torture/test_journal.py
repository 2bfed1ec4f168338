"""The journal holds all that was sent and answered, in order, also after a kill."""

from pathlib import Path

import pytest

from tools.torture.journal import (
    Attempt,
    Command,
    CommandAttempt,
    Delivery,
    Entry,
    Event,
    FaultNote,
    Hostile,
    Journal,
    Posting,
    read_journal,
)

EVENT = Event("u-1", "e-1", 1_000, metric="buy", value=2.5)
ASSIGNED = Event("u-1", None, None, "x", "c", attributes={"country": "CA"})
HOSTILE = Hostile(b'\xff{"', "malformed")


def write_all(path: Path) -> list[Entry]:
    """Write an entry of each kind and return what must be read again."""
    attempt = Attempt(1, 20, 202, accepted=1, rejected={1: "malformed"}, log={3: 17})
    with Journal(path) as journal:
        assert journal.post("http", [EVENT, HOSTILE], at_ms=10, wanted={1: "malformed"}) == 1
        assert journal.post("kafka", [ASSIGNED], at_ms=11, topic="litmus.assignments") == 2
        journal.append(attempt)
        journal.append(Delivery(2, 21, 0, 5))
        assert journal.command("POST", "/v1/experiments/x/start", b"{}", at_ms=30) == 1
        journal.append(CommandAttempt(1, 31, 0))
        journal.append(FaultNote(0, 40, "began", "kill gateway", "gateway"))
        assert journal.events_sent == 2
    return [
        Posting(1, 10, "http", "", [EVENT, HOSTILE], {1: "malformed"}),
        Posting(2, 11, "kafka", "litmus.assignments", [ASSIGNED]),
        attempt,
        Delivery(2, 21, 0, 5),
        Command(1, 30, "POST", "/v1/experiments/x/start", b"{}"),
        CommandAttempt(1, 31, 0),
        FaultNote(0, 40, "began", "kill gateway", "gateway"),
    ]


def test_what_was_written_is_read_in_order(tmp_path: Path) -> None:
    written = write_all(tmp_path / "journal")

    assert list(read_journal(tmp_path / "journal")) == written


def test_an_entry_that_was_cut_off_by_a_kill_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    written = write_all(path)
    whole = path.read_bytes()
    for cut in range(1, 12):
        path.write_bytes(whole[:-cut])

        assert list(read_journal(path)) == written[:-1]


@pytest.mark.parametrize(
    ("status", "fate"),
    [(202, "accepted"), (422, "rejected"), (400, "rejected"), (503, "unknown"), (0, "unknown")],
)
def test_a_client_that_got_no_answer_or_a_5xx_does_not_know(status: int, fate: str) -> None:
    assert Attempt(1, 0, status).fate == fate


def test_a_record_that_kafka_did_not_acknowledge_may_be_there_all_the_same() -> None:
    assert Delivery(1, 0, 0, -1, "timed out").fate == "unknown"
    assert Delivery(1, 0, 0, 4).fate == "accepted"
