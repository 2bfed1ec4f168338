"""docs/limits.md names the settings and metrics that there are, with their defaults."""

import re
from typing import Any

import prometheus_client

import query_api.metrics as query_metrics
from ingest_gateway.settings import GatewaySettings, KafkaDoorSettings
from ingest_gateway.telemetry import REGISTRY
from query_api.settings import Settings
from stream_processors.settings import WorkerSettings
from tools.settings import CHECKOUT

PAGE = (CHECKOUT / "docs" / "limits.md").read_text()


def defaults() -> dict[str, set[Any]]:
    found: dict[str, set[Any]] = {}
    settings = (GatewaySettings, KafkaDoorSettings, Settings, WorkerSettings)
    for one in settings:
        for name, field in one.model_fields.items():
            found.setdefault(f"LITMUS_{name.upper()}", set()).add(field.default)
    return found


def test_every_setting_has_the_default_that_the_page_says() -> None:
    known = defaults()
    named = re.findall(r"`(LITMUS_\w+)` \((\w+)\)", PAGE)

    assert len(named) > 15
    for name, default in named:
        assert default in {str(int(v) if isinstance(v, float) else v) for v in known[name]}, name
    assert set(re.findall(r"LITMUS_\w+", PAGE)) <= known.keys()


def test_every_metric_that_the_page_names_is_there() -> None:
    assert query_metrics.CONNECTIONS is not None
    collected = [*REGISTRY.collect(), *prometheus_client.REGISTRY.collect()]
    known = {metric.name for metric in collected}
    named = set(re.findall(r"`(litmus_(?:gateway|query)_\w+)", PAGE))

    assert len(named) > 15
    assert {name.removesuffix("_total") for name in named} <= known
