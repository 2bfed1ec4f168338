"""A commit holds when the broker has answered it: one that failed, or was not answered, is due."""

from confluent_kafka import Consumer, KafkaError, TopicPartition

from ingest_gateway.offset_commits import OffsetCommits
from schemas.topics import METRICS
from tests.stack import wait_until

SOURCE = (METRICS.name, 0)


def due(commits: OffsetCommits, offset: int) -> list[int]:
    return [one.offset for one in commits.due({SOURCE: offset})]


def test_a_commit_that_was_sent_stays_due_until_the_broker_has_answered_it() -> None:
    commits = OffsetCommits()
    commits.begin(SOURCE, 10)
    assert due(commits, 10) == []

    sent = commits.due({SOURCE: 50})
    assert due(commits, 50) == [50]  # of the last commit before the process ends too
    commits.answered(KafkaError(KafkaError._TIMED_OUT), sent)
    assert due(commits, 50) == [50]
    commits.answered(None, sent)
    assert due(commits, 50) == []
    assert due(commits, 60) == [60]


def test_where_the_broker_holds_no_commit_or_another_one_the_start_itself_is_due() -> None:
    commits = OffsetCommits()
    commits.begin(SOURCE, None)
    assert due(commits, 5_000) == [5_000]
    commits.begin(SOURCE, 1_000)  # and an operator has accepted that 1000 to 4999 are gone
    assert due(commits, 5_000) == [5_000]


def test_an_answer_for_a_partition_that_was_taken_away_is_forgotten() -> None:
    commits = OffsetCommits()
    commits.begin(SOURCE, 10)
    sent = commits.due({SOURCE: 50})
    commits.forget(SOURCE)
    commits.answered(None, sent)
    commits.begin(SOURCE, 10)
    assert due(commits, 50) == [50]


def test_a_broker_answers_a_commit_of_a_consumer_that_polls(gateway_broker: str) -> None:
    commits = OffsetCommits()
    consumer = Consumer(
        {
            "bootstrap.servers": gateway_broker,
            "group.id": "commits-of-tests",
            "enable.auto.commit": False,
            "on_commit": commits.answered,
        }
    )
    try:
        commits.begin(SOURCE, None)
        consumer.assign([TopicPartition(*SOURCE, 0)])
        consumer.commit(offsets=commits.due({SOURCE: 0}), asynchronous=True)
        assert due(commits, 0) == [0]

        def is_answered() -> bool:
            consumer.consume(1, 0.05)
            return not due(commits, 0)

        wait_until(is_answered, "the commit is answered")
        (held,) = consumer.committed([TopicPartition(*SOURCE)], timeout=60)
        assert held.offset == 0
    finally:
        consumer.close()
