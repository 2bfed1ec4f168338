"""A worker's group is shown as it is, from before it starts on, and rebalances are counted."""

from prometheus_client import generate_latest
from prometheus_client.registry import REGISTRY

from stream_processors import telemetry
from stream_processors.settings import WorkerSettings
from stream_processors.worker import create_faust_app


def value(name: str) -> float | None:
    return REGISTRY.get_sample_value(name)


async def test_a_rebalance_is_counted_and_a_process_that_waits_owns_nothing() -> None:
    settings = WorkerSettings(kafka="127.0.0.1:1", instance="worker-0", probe_port=0)
    app = create_faust_app(settings, "litmus-test")
    telemetry.show(app)
    before = value("litmus_worker_rebalances_total")

    await app.on_partitions_assigned.send(set())

    assert before is not None
    assert value("litmus_worker_rebalances_total") == before + 1
    assert value("litmus_worker_assigned_partitions") == 0
    assert value("litmus_worker_rebalancing") == float(app.rebalancing)
    assert b"litmus_worker_lag_messages" in generate_latest()
