"""A worker waits for a broker before it joins its group.

Faust gives up when none answers at the start. A process that ends and is started again spends a
second of CPU on imports each time, when the broker that comes back needs it most.
"""

import asyncio
import logging
import time

from aiokafka.client import AIOKafkaClient
from aiokafka.errors import KafkaError

PAUSE_S = 0.25
SAY_AGAIN_S = 10.0

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
