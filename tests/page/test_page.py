"""The page shows the API's numbers, follows them, and says when they may not be read.

In a real browser, against a double of the query API that moves when told to.
"""

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.page import browser as chromium
from tests.page.stub import Experiment, StubServer, World, every_state

pytestmark = [
    pytest.mark.machine,
    pytest.mark.skipif(
        chromium.CHROMIUM is None or chromium.DRIVER is None, reason=chromium.MISSING
    ),
]

REPORTS = Path(__file__).parents[2] / ".litmus" / "reports"
PATIENCE_S = 20.0


def eventually(condition: Callable[[], Any], what: str) -> Any:
    """Return the condition's first true value."""
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        if found := condition():
            return found
        time.sleep(0.05)
    raise AssertionError(f"{what}: not within {PATIENCE_S:.0f} s")


def flatten(value: Any, path: str = "") -> dict[str, Any]:
    """Return path → value of a results object: the page's paths, written down apart."""
    if isinstance(value, list):
        flat: dict[str, Any] = {}
        for index, item in enumerate(value):
            key = str(index)
            if isinstance(item, dict) and "metric_id" in item:
                key = f"{item['metric_id']}/{item['basis']}"
            elif isinstance(item, dict) and "variant" in item:
                key = item["variant"]
            flat |= flatten(item, f"{path}/{key}")
        return flat
    if isinstance(value, dict):
        flat = {}
        for name, inner in value.items():
            flat |= flatten(inner, f"{path}/{name}" if path else name)
        return flat
    return {path: value}


def as_raw(value: Any) -> Any:
    """Return a value of the API as it is read back from an attribute."""
    return float(value) if isinstance(value, int | float) else str(value or "null")


def read_back(text: str) -> Any:
    """Return what an attribute holds."""
    try:
        return float(text)
    except ValueError:
        return text


class Page:
    """The page in the browser, over a world of the test's own."""

    def __init__(self, driver: Any) -> None:
        self.driver = driver
        self.world = World()
        self.server = StubServer(self.world)
        self.server.start()

    def close(self) -> None:
        """Leave the page and stop serving."""
        self.driver.get("about:blank")
        self.server.stop()

    def open(self, fragment: str = "", world: World | None = None) -> None:
        """Show "#/…"."""
        if world is not None:
            self.world.experiments.update(world.experiments)
        self.driver.get("about:blank")
        self.driver.get(f"{self.server.address}/#/{fragment}")

    def texts(self, selector: str) -> list[str]:
        """Return the visible text of every element."""
        script = "return [...document.querySelectorAll(arguments[0])].map((e) => e.innerText)"
        found: list[str] = self.driver.execute_script(script, selector)
        return found

    def says(self, text: str, selector: str = "main") -> None:
        """Wait until an element says so."""
        eventually(
            lambda: any(text in found for found in self.texts(selector)), f"{selector}: {text!r}"
        )

    def at_tick(self, tick: int) -> dict[str, tuple[str, str]]:
        """Wait until a look is shown; return its fields."""

        def fields() -> dict[str, tuple[str, str]] | None:
            found = chromium.read_fields(self.driver)
            return found[1] if found and found[0] == tick else None

        shown: dict[str, tuple[str, str]] = eventually(fields, f"look of tick {tick}")
        return shown


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


def running(world: World, **about: Any) -> Experiment:
    """Add an experiment that has had a look."""
    about = {"units": (2_400, 2_410), "rates": (0.113, 0.116), **about}
    experiment = world.add(Experiment("checkout-color", **about))
    world.advance("checkout-color")
    return experiment


def assert_equal_to_the_api(fields: dict[str, tuple[str, str]], results: dict[str, Any]) -> None:
    flat = flatten(results)
    shown = {path: read_back(value) for path, (value, _) in fields.items()}
    assert shown == {path: as_raw(flat.get(path)) for path in fields}


def test_numbers_on_the_page_are_those_of_the_api_for_the_same_look(page: Page) -> None:
    experiment = running(page.world, guardrail=True)
    page.open("experiments/checkout-color")
    fields = page.at_tick(experiment.tick)
    assert_equal_to_the_api(fields, experiment.looks[experiment.tick])
    effect = "metrics/purchase/matured/effects/treatment"
    assert fields.keys() >= {
        "look/tick",
        "crossovers",
        "variants/control/units",
        "variants/treatment/units",
        "sample_ratio/sequential_p_value",
        "metrics/purchase/matured/variants/control/total",
        "metrics/purchase/matured/variants/treatment/mean",
        "metrics/purchase/open/variants/treatment/std_error",
        f"{effect}/absolute/estimate",
        f"{effect}/absolute/always_valid/low",
        f"{effect}/absolute/always_valid/running_high",
        f"{effect}/absolute/fixed_horizon/p_value",
        f"{effect}/relative/estimate",
        "metrics/refund/matured/effects/treatment/absolute/always_valid/high",
    }
    assert chromium.console_errors(page.driver) == []


def test_the_page_moves_when_the_look_moves_and_nothing_else_does(page: Page) -> None:
    experiment = running(page.world)
    page.open("experiments/checkout-color")
    before = page.at_tick(experiment.tick)
    height = "return document.querySelector('.experiment').offsetHeight"
    height_before = page.driver.execute_script(height)
    for _ in range(5):
        results = page.world.advance("checkout-color")
        fields = page.at_tick(experiment.tick)
        assert_equal_to_the_api(fields, results)
    assert fields["variants/control/units"] == ("2442", "2,442")
    assert before["variants/control/units"] == ("2407", "2,407")
    assert page.driver.execute_script(height) == height_before


def test_numbers_are_written_for_people(page: Page) -> None:
    # 2,407 · 0.8 = 1925 matured units of control, of which rint(1925 · 0.113) = 218 converted.
    experiment = running(page.world)
    page.open("experiments/checkout-color")
    fields = page.at_tick(experiment.tick)
    assert fields["metrics/purchase/matured/variants/control/units"][1] == "1,925"
    assert fields["metrics/purchase/matured/variants/control/total"][1] == "218"
    assert fields["metrics/purchase/matured/variants/control/mean"][1] == "11.32 %"


def test_an_interval_that_includes_zero_shows_no_difference_yet(page: Page) -> None:
    running(page.world)
    page.open("experiments/checkout-color")
    page.says("No difference shown yet", ".headline")
    page.says("You may look at any time", ".detail")
    page.says("only valid at one look planned in advance", ".fixed")
    page.says("descriptive: totals still growing", ".open")


def test_an_interval_that_excludes_zero_says_which_is_higher(page: Page) -> None:
    running(page.world, units=(30_000, 30_000), rates=(0.10, 0.13))
    page.open("experiments/checkout-color")
    page.says("treatment is higher than control", ".headline")


READ = """
const [effect, metric, done] = arguments;
import("/static/words.js").then(({ reading }) => {
  const { tone, headline } = reading(effect, metric);
  done([tone, headline]);
});
"""
MORE = {"role": "decision", "direction": "increase"}
LESS = {"role": "decision", "direction": "decrease"}
KEEP_HIGH = {"role": "guardrail", "direction": "increase", "margin": {"absolute": 0.01}}
KEEP_LOW = {"role": "guardrail", "direction": "decrease", "margin": {"absolute": 0.01}}
KEEP_LOW_RELATIVE = {**KEEP_LOW, "margin": {"relative": 0.02}}


@pytest.mark.parametrize(
    ("interval", "over_all_looks", "metric", "tone", "headline"),
    [
        ((0.1, 0.2), (0.1, 0.2), MORE, "good", "b is higher than a"),
        ((0.1, 0.2), (0.1, 0.2), LESS, "bad", "b is higher than a"),
        ((-0.2, -0.1), (-0.2, -0.1), LESS, "good", "b is lower than a"),
        ((0.0, 0.2), (0.0, 0.2), MORE, "open", "No difference shown yet"),
        ((-0.1, 0.2), (0.01, 0.1), MORE, "good", "Earlier looks showed b higher"),
        ((-0.1, 0.2), (None, None), MORE, "open", "No difference shown yet"),
        ((-0.009, 0.2), (-0.009, 0.2), KEEP_HIGH, "good", "Within the margin"),
        ((-0.011, 0.2), (-0.011, 0.2), KEEP_HIGH, "open", "Not settled yet"),
        ((-0.2, -0.02), (-0.2, -0.02), KEEP_HIGH, "bad", "The guardrail is broken"),
        ((-0.2, 0.009), (-0.2, 0.009), KEEP_LOW, "good", "Within the margin"),
        ((0.02, 0.03), (0.02, 0.03), KEEP_LOW, "bad", "The guardrail is broken"),
        ((-1.0, 1.0), (-1.0, 1.0), KEEP_LOW_RELATIVE, "bad", "The guardrail is broken"),
    ],
)
def test_words_follow_the_interval(
    page: Page,
    interval: tuple[float, float],
    over_all_looks: tuple[float | None, float | None],
    metric: dict[str, Any],
    tone: str,
    headline: str,
) -> None:
    page.open()
    ends = dict(zip(("low", "high"), interval, strict=True))
    running_ends = dict(zip(("running_low", "running_high"), over_all_looks, strict=True))
    effect = {
        "variant": "b",
        "control": "a",
        "status": "ok",
        "absolute": {"estimate": 0.0, "always_valid": {**ends, **running_ends}},
        "relative": {"always_valid": {"low": 0.021, "high": 0.03}},
    }
    assert page.driver.execute_async_script(READ, effect, metric) == [tone, headline]


def test_before_the_burn_in_there_is_no_interval(page: Page) -> None:
    experiment = running(page.world, units=(20, 20))
    page.open("experiments/checkout-color")
    page.says("Warming up: no interval yet", ".headline")
    fields = page.at_tick(experiment.tick)
    low = "metrics/purchase/matured/effects/treatment/absolute/always_valid/low"
    assert fields[low] == ("null", "\N{EN DASH}")
    page.says("The line begins when the first interval does", ".chart")


def test_a_sample_ratio_mismatch_forbids_reading(page: Page) -> None:
    running(page.world, mismatch=True, units=(30_000, 27_000), rates=(0.10, 0.13))
    page.open("experiments/checkout-color")
    page.says("do not read the results", "[role=alert]")
    page.says("Do not read this result", ".headline")
    page.open()
    page.says("Sample-ratio mismatch: do not read", ".list .headline")


def test_a_final_look_says_so(page: Page) -> None:
    experiment = running(page.world, status="stopped")
    experiment.final = True
    page.world.advance("checkout-color")
    page.open("experiments/checkout-color")
    page.says("final look", ".freshness")
    page.says("will not change again", ".final-note")


def test_a_draft_tells_how_to_start_it_and_shows_looks_once_it_runs(page: Page) -> None:
    experiment = page.world.add(Experiment("checkout-color", status="draft"))
    page.open("experiments/checkout-color")
    page.says("/v1/experiments/checkout-color/start", "pre")
    experiment.status, experiment.version = "running", 4
    page.world.advance("checkout-color")
    page.at_tick(experiment.tick)
    page.says("running", ".status")


def test_no_experiments_tells_how_to_create_the_first(page: Page) -> None:
    page.open()
    page.says("No experiments yet", "[data-state=empty]")
    page.says("curl -X POST", "pre")
    running(page.world)
    page.says("checkout-color", ".list")
    assert chromium.console_errors(page.driver) == []


def test_an_api_that_is_down_is_said_and_tried_again(page: Page) -> None:
    running(page.world)
    page.world.broken = True
    page.open()
    page.says("Kafka does not answer", "[data-state=error]")
    page.world.broken = False
    page.driver.execute_script("document.querySelector('[data-state=error] button').click()")
    page.says("checkout-color", ".list")
    page.world.broken = True
    page.says("What is below is old", ".notice")


def test_an_unknown_experiment_is_said_and_shown_once_it_is_known(page: Page) -> None:
    page.open("experiments/checkout-color")
    page.says("There is no experiment “checkout-color”", "[data-state=error]")
    experiment = running(page.world)
    page.at_tick(experiment.tick)


def test_a_lost_connection_is_shown_and_comes_back(page: Page) -> None:
    experiment = running(page.world)
    page.open("experiments/checkout-color")
    page.says("s ago", ".freshness[data-state=fresh]")
    page.world.broken = True
    page.world.disconnect()
    page.says("connection lost", ".freshness[data-state=amber]")
    page.world.broken = False
    page.world.advance("checkout-color")
    page.at_tick(experiment.tick)
    page.says("s ago", ".freshness[data-state=fresh]")


def test_a_socket_that_is_dead_without_saying_so_is_replaced(page: Page) -> None:
    experiment = running(page.world)
    page.open("experiments/checkout-color")
    page.at_tick(experiment.tick)
    page.world.muted = True
    page.world.advance("checkout-color")
    page.says("s ago", ".freshness[data-state=red]")
    page.at_tick(experiment.tick)
    page.world.muted = False
    page.world.advance("checkout-color")
    page.at_tick(experiment.tick)


def test_a_look_turns_amber_when_it_is_old(page: Page) -> None:
    running(page.world)
    page.open("experiments/checkout-color")
    page.says("s ago", ".freshness[data-state=fresh]")
    page.says("s ago", ".freshness[data-state=amber]")


def test_names_are_text_and_never_markup(page: Page) -> None:
    experiment = running(page.world, name="<img src=x onerror=alert(1)><b>bold</b>")
    page.open("experiments/checkout-color")
    page.at_tick(experiment.tick)
    assert page.texts("h1") == ["<img src=x onerror=alert(1)><b>bold</b>"]
    page.open()
    page.says("<img src=x", ".list strong")
    assert page.driver.execute_script("return document.querySelectorAll('main img').length") == 0


def test_the_page_fits_a_phone(page: Page) -> None:
    experiment = running(page.world, guardrail=True)
    chromium.set_media(page.driver, width=380, scheme="dark")
    page.open("experiments/checkout-color")
    page.at_tick(experiment.tick)
    width = "return document.documentElement.scrollWidth"
    assert page.driver.execute_script(width) <= 380
    page.open()
    page.says("checkout-color", ".list")
    assert page.driver.execute_script(width) <= 380


def test_every_state_in_one_picture_without_errors(page: Page) -> None:
    page.open(world=every_state())
    page.says("dark-mode", ".list")
    page.says("New sign-up <form>", ".list")
    page.open("experiments/checkout-color")
    experiment = page.world.experiments["checkout-color"]
    for _ in range(20):
        page.world.advance("checkout-color")
    page.at_tick(experiment.tick)
    eventually(
        lambda: page.driver.execute_script("return document.querySelectorAll('.uplot').length"),
        "a chart",
    )
    chromium.screenshot(page.driver, REPORTS / "page.png")
    assert (REPORTS / "page.png").stat().st_size > 10_000
    assert chromium.console_errors(page.driver) == []
