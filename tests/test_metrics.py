"""The metrics documented are those that the processes of a real stack answer; alerts use them."""

import re
from collections.abc import Iterator

import httpx
from prometheus_client.metrics import MetricWrapperBase

import ingest_gateway.telemetry
import query_api.metrics
import stream_processors.control.telemetry
import stream_processors.merge.telemetry
import stream_processors.telemetry
from ingest_gateway.errors import RejectionCode
from tests.stack import Stack
from tools.settings import CHECKOUT

DOCUMENT = (CHECKOUT / "docs" / "metrics.md").read_text()
ALERTS = (CHECKOUT / "deploy" / "alerts.yml").read_text()
TABLE_ROW = re.compile(r"^\| `(litmus_\w+)` \| (\w+) \| (.*?) \| (.+) \|$", re.MULTILINE)
FAMILY = re.compile(r"^# HELP (litmus_\w+) (.+)\n# TYPE \1 (\w+)$", re.MULTILINE)
NAME = re.compile(r"\blitmus_\w+")

documented = {name: (kind, meaning) for name, kind, _, meaning in TABLE_ROW.findall(DOCUMENT)}
documented_labels = {name: labels for name, _, labels, _ in TABLE_ROW.findall(DOCUMENT)}

MODULES = (
    ingest_gateway.telemetry,
    query_api.metrics,
    stream_processors.telemetry,
    stream_processors.control.telemetry,
    stream_processors.merge.telemetry,
)


def answers(stack: Stack) -> Iterator[str]:
    for process in stack.describe()["processes"]:
        if process["name"] != "kafka":
            answer = httpx.get(f"http://127.0.0.1:{process['port']}/metrics", timeout=60)
            yield answer.raise_for_status().text


def test_every_metric_of_every_process_is_documented_and_the_other_way_round(stack: Stack) -> None:
    stack.wait_ready()
    texts = list(answers(stack))

    shown = {
        name: (kind, meaning)
        for text in texts
        for name, meaning, kind in FAMILY.findall(text)
        if not name.endswith("_created")  # when a series began, beside each counter
    }

    assert shown == documented
    together = "\n".join(texts)
    for code in RejectionCode:
        for door in ("http", "kafka"):
            series = f'litmus_gateway_rejected_events_total{{code="{code}",door="{door}"}}'
            assert series in together


def test_alerts_and_advice_name_metrics_that_exist() -> None:
    assert len(NAME.findall(ALERTS)) > 10
    for text in (ALERTS, DOCUMENT):
        assert set(NAME.findall(text)) - {"litmus_"} <= documented.keys()


def labels_of_metrics() -> dict[str, str]:
    """Return the labels of every metric of the modules, as the tables have them."""
    metrics = [
        one
        for module in MODULES
        for one in vars(module).values()
        if isinstance(one, MetricWrapperBase)
    ]
    return {
        f"{one._name}_total" if one._type == "counter" else one._name: ", ".join(
            f"`{label}`" for label in sorted(one._labelnames)
        )
        for one in metrics
    }


def test_the_labels_documented_are_those_of_the_metrics() -> None:
    labels = labels_of_metrics()

    assert len(labels) > 50
    assert {name: documented_labels.get(name) for name in labels} == labels


def test_an_alert_on_the_rate_of_ticks_heeds_all_merge_workers() -> None:
    """One that stands by merges no tick: its rate is 0 as long as all is well."""
    assert "expr: sum(rate(litmus_merge_ticks_total[1m])) == 0" in ALERTS
