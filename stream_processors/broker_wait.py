"""A worker waits for a broker before it joins its group.

Faust gives up when none answers at the start. A process that ends and is started again spends a
second of CPU on imports each time, when the broker that comes back needs it most.
"""

import asyncio
import logging
import time

from aiokafka.client import AIOKafkaClient
from aiokafka.errors import KafkaError
from confluent_kafka import Consumer, KafkaException

from schemas.partition_count import require_partition_count
from schemas.topics import EVENTS

PAUSE_S = 0.25
SAY_AGAIN_S = 10.0
_ANSWER_S = 5.0

_log = logging.getLogger(__name__)


async def wait_for_broker(servers: str, *, pause_s: float = PAUSE_S) -> None:
    """Return once a broker has told who is in its cluster.

    Args:
        servers: ``host:port``, several separated by commas.
        pause_s: Between two tries.
    """
    said_at_s = -SAY_AGAIN_S
    while True:
        client = AIOKafkaClient(bootstrap_servers=servers)
        try:
            await client.bootstrap()
        except KafkaError:
            if time.monotonic() - said_at_s >= SAY_AGAIN_S:
                said_at_s = time.monotonic()
                _log.warning("no broker answers at %s (LITMUS_KAFKA); waits for one", servers)
        else:
            return
        finally:
            await client.close()
        await asyncio.sleep(pause_s)


def await_partitions(servers: str, wanted: int, *, pause_s: float = PAUSE_S) -> None:
    """Return once ``litmus.events`` is there, with as many partitions as the setting says. Blocks.

    Args:
        servers: ``host:port``, several separated by commas.
        wanted: ``LITMUS_PARTITIONS``.
        pause_s: Between two questions.

    Raises:
        PartitionCountError: If it has another number of them.
    """
    # Never joins a group; a consumer creates no topic by asking for it.
    asking = Consumer({"bootstrap.servers": servers, "group.id": "litmus-asks", "log_level": 0})
    said_at_s = -SAY_AGAIN_S
    try:
        while True:
            found, problem = _partitions_of_events(asking)
            if not problem:
                require_partition_count(found, wanted)
                return
            if time.monotonic() - said_at_s >= SAY_AGAIN_S:
                said_at_s = time.monotonic()
                _log.warning("%s: %s (`litmus topics create`); waits", EVENTS.name, problem)
            time.sleep(pause_s)
    finally:
        asking.close()


def _partitions_of_events(asking: Consumer) -> tuple[int, str]:
    """Return how many there are, or what keeps the broker from saying so."""
    try:
        topic = asking.list_topics(EVENTS.name, timeout=_ANSWER_S).topics[EVENTS.name]
    except KafkaException as error:
        return 0, str(error.args[0].str())
    return len(topic.partitions), "" if topic.error is None else str(topic.error.str())
