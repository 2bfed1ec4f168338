"""The page on the real query API: posted events move it, and its numbers are the API's."""

import time
import uuid
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.page import browser as chromium
from tests.page.test_page import REPORTS, assert_equal_to_the_api, eventually
from tests.stack import Stack

pytestmark = [
    pytest.mark.skipif(
        chromium.CHROMIUM is None or chromium.DRIVER is None, reason=chromium.MISSING
    ),
]

UNITS_PER_VARIANT = 400
WINDOW_S = 2


@pytest.fixture
def driver(tmp_path: Path) -> Iterator[Any]:
    found = chromium.open_browser(tmp_path)
    yield found
    found.quit()


def start_experiment(stack: Stack) -> str:
    """Create and start an experiment whose window is over in seconds; return its id."""
    experiment_id = f"page-{uuid.uuid4().hex[:8]}"
    body = {
        "id": experiment_id,
        "name": "Checkout colour",
        "hypothesis": {"alternative": "A green button gets more purchases"},
        "variants": [{"id": "control"}, {"id": "treatment"}],
        "metrics": [{"id": "purchase", "kind": "conversion", "window": f"{WINDOW_S}s"}],
    }
    experiments = f"{stack.gateway_url}/v1/experiments"
    httpx.post(experiments, json=body, timeout=60).raise_for_status()
    httpx.post(f"{experiments}/{experiment_id}/start", timeout=60).raise_for_status()
    return experiment_id


def post_units(stack: Stack, experiment_id: str, first: int, count: int) -> None:
    """Post units for both variants: every fifth unit of control converts, every fourth other."""
    now_ms = int(time.time() * 1000)
    events: list[dict[str, Any]] = []
    for number in range(first, first + count):
        for variant, every in (("control", 5), ("treatment", 4)):
            unit = f"{experiment_id}-{variant}-{number}"
            about = {"unit_id": unit, "timestamp": now_ms, "experiment_id": experiment_id}
            assignment = {"type": "assignment", "event_id": f"a-{unit}", "variant": variant}
            events.append({**about, **assignment})
            if number % every == 0:
                metric = {"type": "metric", "event_id": f"m-{unit}", "metric": "purchase"}
                events.append({**about, **metric})
    answer = httpx.post(f"{stack.gateway_url}/v1/events", json=events, timeout=60)
    answer.raise_for_status()
    assert answer.json()["rejected"] == []


def api_results(stack: Stack, experiment_id: str) -> dict[str, Any]:
    """Return the current look."""
    address = f"{stack.query_url}/v1/experiments/{experiment_id}/results"
    found: dict[str, Any] = httpx.get(address, timeout=60).raise_for_status().json()
    return found


def matured_units(results: dict[str, Any]) -> int:
    """Return the units of control whose window has passed."""
    if not results["metrics"]:
        return 0
    return int(results["metrics"][0]["variants"][0]["units"])


def shows_units(driver: Any, count: int) -> bool:
    """Return whether the page shows so many units of control."""
    found = chromium.read_fields(driver)
    return found is not None and found[1]["variants/control/units"] == (str(count), str(count))


def fields_equal_to_the_api(driver: Any, stack: Stack, experiment_id: str) -> None:
    """Wait until page and API show the same look; compare every field."""

    def both() -> tuple[dict[str, tuple[str, str]], dict[str, Any]] | None:
        shown = chromium.read_fields(driver)
        results = api_results(stack, experiment_id)
        same = shown is not None and results["look"] and shown[0] == results["look"]["tick"]
        return (shown[1], results) if shown is not None and same else None

    fields, results = eventually(both, "the API's look on the page")
    assert_equal_to_the_api(fields, results)


def test_posted_events_move_the_page_and_its_numbers_are_those_of_the_api(
    stack: Stack, driver: Any
) -> None:
    experiment_id = start_experiment(stack)
    address = f"{stack.query_url}/v1/experiments/{experiment_id}"
    eventually(lambda: httpx.get(address, timeout=60).is_success, "the query API knows it")
    driver.get(f"{stack.query_url}/#/experiments/{experiment_id}")
    for first in range(0, UNITS_PER_VARIANT, 100):
        post_units(stack, experiment_id, first, 100)
        eventually(partial(shows_units, driver, first + 100), f"{first + 100} units on the page")
    eventually(
        lambda: matured_units(api_results(stack, experiment_id)) == UNITS_PER_VARIANT,
        "every window is over",
    )
    fields_equal_to_the_api(driver, stack, experiment_id)
    # 80 of 400 against 100 of 400: shown as the API says, with an interval that includes 0.
    script = "return document.querySelector('.effect .headline').textContent"
    headline = driver.execute_script(script)
    assert headline == "No difference shown yet"

    driver.refresh()
    eventually(
        lambda: driver.execute_script("return document.querySelectorAll('.uplot').length"),
        "the chart, from the history",
    )
    fields_equal_to_the_api(driver, stack, experiment_id)
    chromium.screenshot(driver, REPORTS / "page-on-the-stack.png")
    assert chromium.console_errors(driver) == []
