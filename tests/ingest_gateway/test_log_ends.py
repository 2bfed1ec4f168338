"""A question for the end of a partition is answered, also when its client is replaced meanwhile."""

import time

import pytest
from confluent_kafka import KafkaException, TopicPartition

from ingest_gateway.log_ends import RENEWAL_INTERVAL_S, LogEnds
from schemas.topics import CONTROL
from tools.ports import free_ports

TIMEOUT_S = 2.0


def test_a_question_is_answered_although_its_client_is_replaced() -> None:
    (port,) = free_ports(1)  # nobody listens: the answer is that there is none
    ends = LogEnds({"bootstrap.servers": f"127.0.0.1:{port}", "log_level": 0}, timeout_s=TIMEOUT_S)
    partition = TopicPartition(CONTROL.name, 0)
    time.sleep(RENEWAL_INTERVAL_S)  # its first client may be replaced from now on
    waiting = ends.ask([partition])[partition]

    ends.failed(TimeoutError())

    assert ends.ask([partition])[partition] is not waiting
    with pytest.raises(KafkaException):
        waiting.result(60)
