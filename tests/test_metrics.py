"""The metrics documented are those that the processes of a real stack answer; alerts use them."""

import re
from collections.abc import Iterator

import httpx
import pytest

from ingest_gateway.errors import RejectionCode
from tests.stack import Stack
from tools.settings import CHECKOUT

DOCUMENT = (CHECKOUT / "docs" / "metrics.md").read_text()
ALERTS = (CHECKOUT / "deploy" / "alerts.yml").read_text()
TABLE_ROW = re.compile(r"^\| `(litmus_\w+)` \| (\w+) \| (.*?) \| (.+) \|$", re.MULTILINE)
FAMILY = re.compile(r"^# HELP (litmus_\w+) (.+)\n# TYPE \1 (\w+)$", re.MULTILINE)
NAME = re.compile(r"\blitmus_\w+")

documented = {name: (kind, meaning) for name, kind, _, meaning in TABLE_ROW.findall(DOCUMENT)}


def answers(stack: Stack) -> Iterator[str]:
    for process in stack.describe()["processes"]:
        if process["name"] != "kafka":
            answer = httpx.get(f"http://127.0.0.1:{process['port']}/metrics", timeout=10)
            yield answer.raise_for_status().text


@pytest.mark.timeout(300)
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
