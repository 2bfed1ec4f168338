"""Two doors of one name: the group keeps the newer one, so the older has to end."""

import pytest

from tests.ingest_gateway.test_kafka_door import running_door, started_door

FENCED_SECONDS_MAX = 120


@pytest.mark.machine
def test_a_door_whose_place_another_one_took_ends_instead_of_standing_still(
    gateway_broker: str,
) -> None:
    with running_door(gateway_broker) as old, started_door(gateway_broker) as new:
        assert old.process.wait(FENCED_SECONDS_MAX) != 0
        new.wait_ready()
