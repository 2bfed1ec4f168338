"""The gateway of a test: in memory, and the same suite on a real broker."""

from collections.abc import AsyncIterator, Iterator

import pytest

from ingest_gateway.warm_up import compile_kernels
from tests.ingest_gateway.worlds import (
    PARTITIONS,
    World,
    broker_world,
    control_on,
    memory_world,
)
from tests.stack import Broker, create_fresh_topics


@pytest.fixture(scope="package", autouse=True)
def _compiled() -> None:
    """Compile what a gateway compiles before it serves: a request has a deadline."""
    compile_kernels()


@pytest.fixture(scope="package")
def gateway_broker(broker: Broker) -> Iterator[str]:
    """A broker with topics and a control process; its address."""
    create_fresh_topics(broker.bootstrap, PARTITIONS)
    with control_on(broker.bootstrap):
        yield broker.bootstrap


@pytest.fixture(params=["memory", "broker"])
async def world(request: pytest.FixtureRequest) -> AsyncIterator[World]:
    """A running gateway."""
    if request.param == "memory":
        opened = memory_world()
    else:
        opened = broker_world(request.getfixturevalue("gateway_broker"))
    async with opened as running:
        yield running


@pytest.fixture
async def memory() -> AsyncIterator[World]:
    """A gateway in memory, for what needs a sink that misbehaves."""
    async with memory_world() as running:
        yield running
