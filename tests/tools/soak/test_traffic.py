"""What the soak sends is valid, of a fixed population, and counted as it is made."""

from collections import Counter

import msgspec
import pytest

from tools.soak.driving import STEPS_PER_SECOND, Driver
from tools.soak.traffic import EXPERIMENTS, VARIANTS, Batch, Traffic, ndjson

NOW_MS = 1_700_000_000_000


def decoded(batch: Batch) -> list[dict]:  # type: ignore[type-arg]
    return [msgspec.json.decode(line) for line in ndjson(batch).splitlines()]


def test_every_unit_is_assigned_once_to_every_experiment() -> None:
    traffic = Traffic(unit_count=25, seed=1)

    events = [
        event for first in (0, 10, 20) for event in decoded(traffic.assignments(first, 10, NOW_MS))
    ]

    assert Counter((one["experiment_id"], one["unit_id"]) for one in events) == Counter(
        (experiment, f"soak-{unit}") for experiment in EXPERIMENTS for unit in range(25)
    )
    assert all(one["variant"] == VARIANTS[int(one["unit_id"][5:]) % 2] for one in events)
    assert len({(one["unit_id"], one["event_id"]) for one in events}) == 75


def test_metric_events_have_ids_of_their_own_and_views_are_counted_by_variant() -> None:
    traffic = Traffic(unit_count=25, seed=1)
    batches = [traffic.events(100, NOW_MS) for _ in range(3)]

    events = [event for batch in batches for event in decoded(batch)]

    assert len({one["event_id"] for one in events}) == 300 == traffic.made
    views = Counter(int(one["unit_id"][5:]) % 2 for one in events if one["metric"] == "view")
    assert [sum(batch.views[variant] for batch in batches) for variant in (0, 1)] == [
        views[0],
        views[1],
    ]
    for batch in batches:
        assert [event["unit_id"].encode() for event in decoded(batch)] == batch.keys


class Recorder:
    """Takes batches as a door does; every third one slowly."""

    def __init__(self) -> None:
        self.sizes: list[int] = []

    async def send(self, batch: Batch, *, again: bool = False) -> dict[str, int]:
        if not again:
            self.sizes.append(len(batch.bodies))
        return {}

    async def flush(self) -> None:
        pass


@pytest.mark.parametrize("rate", [7, 333, 1_000])
async def test_the_driver_keeps_its_rate_through_both_doors(rate: int) -> None:
    http, kafka = Recorder(), Recorder()
    driver = Driver(
        Traffic(unit_count=50, seed=1),
        http,  # type: ignore[arg-type]
        kafka,  # type: ignore[arg-type]
        rate=rate,
        now_ms=lambda: NOW_MS,
    )

    await driver.run(1.0)

    assert sum(http.sizes) + sum(kafka.sizes) == rate
    assert abs(sum(http.sizes) - sum(kafka.sizes)) <= STEPS_PER_SECOND
