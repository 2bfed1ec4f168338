"""The page of the ledger says at a glance whether everything counted, and what to do if not."""

from collections.abc import Iterator
from typing import Any

import pytest

from tests.page import browser as chromium
from tests.page.stub import a_ledger
from tests.page.test_page import REPORTS, Page, eventually

pytestmark = [
    pytest.mark.machine,
    pytest.mark.skipif(
        chromium.CHROMIUM is None or chromium.DRIVER is None, reason=chromium.MISSING
    ),
]

FIELDS = """
return Object.fromEntries(
  [...document.querySelectorAll("[data-field]")].map((e) => [e.dataset.field, e.dataset.value]))
"""
STAGES = """
return Object.fromEntries([...document.querySelectorAll("[data-stage]")].map(
  (e) => [e.dataset.stage, [e.dataset.status, e.querySelector(".link").textContent]]))
"""


@pytest.fixture(scope="module")
def driver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    found = chromium.open_browser(tmp_path_factory.mktemp("chromium"))
    yield found
    found.quit()


@pytest.fixture
def page(driver: Any) -> Iterator[Page]:
    chromium.set_media(driver, width=1180)
    chromium.console_errors(driver)
    opened = Page(driver)
    yield opened
    opened.close()


def at_verdict(page: Page, text: str) -> dict[str, str]:
    """Wait until the verdict says so; return the fields."""
    page.says(text, ".ledger-verdict")
    found: dict[str, str] = page.driver.execute_script(FIELDS)
    return found


def stages(page: Page) -> dict[str, list[str]]:
    found: dict[str, list[str]] = page.driver.execute_script(STAGES)
    return found


def test_a_balanced_ledger_shows_the_api_s_counts_of_every_stage(page: Page) -> None:
    page.open("ledger")
    fields = at_verdict(page, "Everything counted")

    ledger = page.world.ledger
    assert ledger["balanced"]
    for index, stage in enumerate(ledger["stages"]):
        assert fields[f"stages/{index}/count"] == str(stage["count"])
    for name, count in ledger["rows"].items():
        assert name == "received" or fields[f"rows/{name}"] == str(count)
    assert fields["experiments/checkout-color/no_assignment"] == "207"
    assert fields["partitions/1/stale"] == "3"
    assert fields["imports/0/rows"] == fields["imports/0/log_rows"] == "12400"
    assert {status for status, _ in stages(page).values()} == {"balanced"}
    assert stages(page)["imports"][1] == "difference 0 · 5,000 rows of batches under way"
    assert not page.texts(".reasons li")
    chromium.screenshot(page.driver, REPORTS / "page-ledger.png")
    assert chromium.console_errors(page.driver) == []


def test_rows_above_an_offset_are_on_their_way_and_no_difference(page: Page) -> None:
    page.world.ledger = a_ledger(in_flight=40)
    page.open("ledger")
    at_verdict(page, "Everything counted")

    assert stages(page)["engine"] == [
        "balanced",
        "difference 0 · 40 rows on their way to the engine",
    ]


def test_a_history_that_is_behind_is_lag_and_said_so(page: Page) -> None:
    page.world.ledger = a_ledger(behind=120)
    page.open("ledger")
    at_verdict(page, "Catching up")

    [reason] = page.texts(".reasons li")
    assert "120 rows are not in the history yet" in reason
    assert "Lag, no difference" in reason
    clickhouse = stages(page)["clickhouse"]
    assert clickhouse == ["catching_up", "difference 0 · 120 rows on their way to ClickHouse"]
    chromium.screenshot(page.driver, REPORTS / "page-ledger-behind.png")


def test_a_difference_that_appears_turns_the_page_red_with_what_to_do(page: Page) -> None:
    page.open("ledger")
    at_verdict(page, "Everything counted")

    page.world.ledger = a_ledger(lost=7)
    at_verdict(page, "Does not balance")

    assert stages(page)["engine"] == ["unbalanced", "difference 7"]
    [reason] = page.texts(".reasons li")
    assert "the engine accounts for 893 of 900 rows" in reason
    assert "litmus audit" in reason
    assert [row for row in page.texts("tr.off") if row.startswith("1")]
    assert page.texts("#announcer") == ["Does not balance"]
    for width, scheme in ((1180, "light"), (420, "dark")):
        chromium.set_media(page.driver, width=width, scheme=scheme)
        chromium.screenshot(page.driver, REPORTS / f"page-ledger-difference-{scheme}.png")


def test_rows_of_an_import_that_the_log_lacks_are_named_with_what_to_do(page: Page) -> None:
    page.world.ledger = a_ledger(import_lost=400)
    page.open("ledger")
    at_verdict(page, "Does not balance")

    assert stages(page)["imports"][0] == "unbalanced"
    [reason] = page.texts(".reasons li")
    assert "import history-2025: 12400 rows of 3 batches are done, the log holds 12000" in reason
    assert [row for row in page.texts("tr.off") if row.startswith("history-2025")]
    chromium.screenshot(page.driver, REPORTS / "page-ledger-imports.png")


def test_an_api_that_fails_leaves_old_numbers_and_says_that_they_are_old(page: Page) -> None:
    page.open("ledger")
    at_verdict(page, "Everything counted")
    page.world.broken = True
    page.says("What is below is old", ".notice")
    page.world.broken = False
    eventually(lambda: not page.texts(".notice:not([hidden])"), "the notice is gone")
