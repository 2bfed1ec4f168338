"""The page shows the API's numbers, follows them, and says when they may not be read.

In a real browser, against a double of the query API that moves when told to.
"""

import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from schemas.definitions import Analysis, Prior
from tests.page import browser as chromium
from tests.page.stub import Experiment, RichExperiment, StubServer, World, every_state

pytestmark = [
    pytest.mark.machine,
    pytest.mark.skipif(
        chromium.CHROMIUM is None or chromium.DRIVER is None, reason=chromium.MISSING
    ),
]

REPORTS = Path(__file__).parents[2] / ".litmus" / "reports"
PATIENCE_S = 60.0


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
            if isinstance(item, dict) and "basis" in item:
                key = f"{item['metric_id']}/{item['basis']}"
            elif isinstance(item, dict) and "variant" in item and "code" not in item:
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
    page.says("Errs with probability 0.05 at most over all looks together", ".method-line")
    page.says("descriptive: totals still growing", ".open")


def test_an_interval_that_excludes_zero_says_which_is_higher(page: Page) -> None:
    running(page.world, units=(30_000, 30_000), rates=(0.10, 0.13))
    page.open("experiments/checkout-color")
    page.says("treatment is higher than control", ".headline")


READ = """
const [effect, metric, context, done] = arguments;
import("/static/words.js").then(({ reading }) => {
  const { tone, headline } = reading(effect, metric, context);
  done([tone, headline]);
});
"""
MORE = {"role": "decision", "direction": "increase"}
LESS = {"role": "decision", "direction": "decrease"}
GUARDED = {"role": "guardrail", "direction": "decrease", "margin": {"absolute": 0.01}}
BESIDE = {"role": "secondary", "direction": "increase"}
ADJUSTED = {**BESIDE, "covariate_days": 14}


@pytest.mark.parametrize(
    ("code", "metric", "tone", "headline"),
    [
        ("decision_better", MORE, "good", "b is higher than a"),
        ("decision_better", LESS, "good", "b is lower than a"),
        ("decision_worse", MORE, "bad", "b is lower than a"),
        ("decision_worse", LESS, "bad", "b is higher than a"),
        ("decision_nothing", MORE, "open", "No difference shown yet"),
        ("decision_small", MORE, "open", "No difference worth having"),
        ("decision_planned", MORE, "waiting", "Wait for the planned look"),
        ("decision_inconsistent", MORE, "open", "The looks contradict each other"),
        ("guardrail_pass", GUARDED, "good", "Within the margin"),
        ("guardrail_undecided", GUARDED, "open", "Not settled yet"),
        ("guardrail_fail", GUARDED, "bad", "The guardrail is broken"),
        ("guardrail_harm", GUARDED, "bad", "It got worse"),
        # Nothing is said of a secondary metric, and of what is not known yet.
        (None, BESIDE, "good", "b is higher than a"),
        (None, ADJUSTED, "open", "No difference shown"),
        ("something_new", BESIDE, "good", "b is higher than a"),
    ],
)
def test_words_follow_the_verdict(
    page: Page, code: str | None, metric: dict[str, Any], tone: str, headline: str
) -> None:
    page.open()
    effect = {
        "variant": "b",
        "control": "a",
        "status": "ok",
        "absolute": {"estimate": 0.1, "always_valid": {"low": 0.05, "high": 0.15}},
        "cuped": {"estimate": 0.1, "always_valid": {"low": -0.05, "high": 0.25}},
        "adjusted": None,
    }
    context = {"reason": {"code": code}} if code else {}
    assert page.driver.execute_async_script(READ, effect, metric, context) == [tone, headline]


def test_what_does_not_survive_the_correction_is_no_finding(page: Page) -> None:
    page.open()
    effect = {
        "variant": "b",
        "control": "a",
        "status": "ok",
        "absolute": {"estimate": 0.1, "always_valid": {"low": 0.05, "high": 0.15}},
        "adjusted": {"rejects": False},
    }
    read = page.driver.execute_async_script(READ, effect, BESIDE, {})
    assert read == ["open", "b is higher than a, taken alone"]


def test_before_the_burn_in_there_is_no_interval(page: Page) -> None:
    experiment = running(page.world, units=(20, 20))
    page.open("experiments/checkout-color")
    page.says("Warming up: no interval yet", ".headline")
    fields = page.at_tick(experiment.tick)
    low = "metrics/purchase/matured/effects/treatment/absolute/always_valid/low"
    assert fields[low] == ("null", "\N{EN DASH}")
    page.says("The line begins when the first interval does", ".chart")


def rich(page: Page, **about: Any) -> RichExperiment:
    """Add an experiment with a metric of every kind, of which there was a look; show it."""
    experiment = RichExperiment("new-basket", **about)
    page.world.add(experiment)
    page.world.advance("new-basket")
    page.open("experiments/new-basket")
    return experiment


def test_the_verdict_stands_first_in_plain_words(page: Page) -> None:
    experiment = rich(page)
    page.at_tick(experiment.tick)
    verdict = experiment.results()["verdict"]
    assert page.texts(".body > section, .body > article")[0].startswith(verdict["text"])
    assert page.texts(".overall .guarantee") == [verdict["guarantee"]]
    assert page.texts(".overall li") == [reason["text"] for reason in verdict["reasons"]]
    assert verdict["reading"] == "improvement"
    assert page.texts(".overall[data-tone=good]")
    page.open()
    page.says("Improvement", ".list .headline")


def test_every_kind_of_metric_shows_the_numbers_of_the_api(page: Page) -> None:
    experiment = rich(page)
    fields = page.at_tick(experiment.tick)
    assert_equal_to_the_api(fields, experiment.looks[experiment.tick])
    assert fields.keys() >= {
        "metrics/order_value/matured/variants/control/denominator",
        "metrics/basket/matured/variants/treatment/mean",
        "metrics/load_time/matured/effects/treatment/guardrail/room_low",
        "metrics/spend/matured/effects/treatment/cuped/always_valid/running_low",
        "metrics/spend/matured/effects/treatment/cuped/relative/estimate",
        "metrics/spend/matured/effects/treatment/cuped/variance_reduction",
        "metrics/spend/matured/effects/treatment/absolute/estimate",
        "metrics/usual_spend/matured/cap/capped_units/1",
        "metrics/orders/open/variants/control/total",
    }
    assert chromium.console_errors(page.driver) == []


def test_kinds_covariates_caps_and_margins_are_said_in_words(page: Page) -> None:
    experiment = rich(page)
    page.at_tick(experiment.tick)
    page.says("total of order over total of orders", "[data-metric=order_value]")
    page.says("mean value of one order event", "[data-metric=basket]")
    page.says("90\N{NO-BREAK SPACE}% quantile of the values of load", "[data-metric=load_time]")
    page.says("less variance", "[data-metric=spend] .cuped")
    page.says("Unadjusted", "[data-metric=spend] .cuped")
    page.says("Totals above 128 count as that", "[data-metric=usual_spend]")
    page.says("just above the 99.00", "[data-metric=usual_spend]")
    page.says("Margin: at most 5.00", "[data-metric=load_time] .margin-state")
    page.says("Corrected for 2 comparisons that decide (Holm)", "[data-metric=purchase]")
    page.says("(e-BH): e", "[data-metric=usual_spend]")
    page.says("Worth having from", ".hypothesis")


def methods_shown(fields: dict[str, tuple[str, str]]) -> set[str]:
    """Return the methods whose p-value or chance is shown of matured units."""
    shown = set()
    for path in fields:
        match = re.search(r"/matured/.*/(\w+)/(?:p_value|running_p_value|chance)$", path)
        if match:
            shown.add(match.group(1))
    return shown


METHODS = {
    "always_valid": Analysis(),
    "group_sequential": Analysis(method="group_sequential", units_max=8_000),
    "fixed_horizon": Analysis(method="fixed_horizon"),
    "bayesian": Analysis(method="bayesian", prior=Prior(sd=1.0)),
}
FIELDS_OF = {name: "posterior" if name == "bayesian" else name for name in METHODS}


@pytest.mark.parametrize("method", METHODS)
def test_a_display_never_holds_p_values_of_two_methods(page: Page, method: str) -> None:
    experiment = rich(page, analysis=METHODS[method])
    fields = page.at_tick(experiment.tick)
    assert methods_shown(fields) == {FIELDS_OF[method]}
    assert_equal_to_the_api(fields, experiment.looks[experiment.tick])
    options = "return [...document.querySelectorAll('.method-line option')].map((o) => o.value)"
    offered = page.driver.execute_script(options)
    assert offered[0] == method
    for other in offered[1:]:
        choose = """
            const select = document.querySelector(".method-line select");
            select.value = arguments[0];
            select.dispatchEvent(new Event("change"));
        """
        page.driver.execute_script(choose, other)
        page.says("Shown for comparison: it decides nothing here", ".headline")
        switched = page.at_tick(experiment.tick)
        assert methods_shown(switched) == {FIELDS_OF[other]}
        assert_equal_to_the_api(switched, experiment.looks[experiment.tick])
    assert chromium.console_errors(page.driver) == []


def test_open_totals_are_descriptive_and_have_no_p_value(page: Page) -> None:
    experiment = rich(page)
    fields = page.at_tick(experiment.tick)
    assert not [path for path in fields if "/open/" in path and path.endswith("p_value")]
    assert set(page.texts(".open .chip")) == {"descriptive: totals still growing"}


def test_results_by_segment_are_those_of_the_api(page: Page) -> None:
    experiment = rich(page)
    page.at_tick(experiment.tick)
    page.says("US", ".segments tbody")
    script = """
        const cells = document.querySelectorAll("[data-segment-field]");
        return [...cells].map((cell) => [cell.dataset.segmentField, cell.dataset.value]);
    """
    shown = {path: read_back(value) for path, value in page.driver.execute_script(script)}
    flat: dict[str, Any] = {}
    for segment in experiment.by_attribute["country"]:
        prefix = f"segments/country/{segment['value']}"
        flat |= {f"{prefix}/{path}": value for path, value in flatten(segment).items()}
    assert len(shown) == 9
    assert shown == {path: as_raw(flat[path]) for path in shown}
    page.says("to look at, not for deciding", ".segments")
    choose = """
        const select = document.querySelectorAll(".segments select")[1];
        select.value = "spend";
        select.dispatchEvent(new Event("change"));
    """
    page.driver.execute_script(choose)
    eventually(
        lambda: any("/spend/" in path for path, _ in page.driver.execute_script(script)),
        "segments of another metric",
    )


def test_a_sample_ratio_mismatch_forbids_reading(page: Page) -> None:
    running(page.world, units=(30_000, 27_000), rates=(0.10, 0.13))
    page.open("experiments/checkout-color")
    page.says("do not read the results", "[role=alert]")
    page.says("Do not read this result", ".headline")
    page.open()
    page.says("Sample-ratio mismatch: do not read", ".list .headline")


def test_a_mismatch_within_a_segment_forbids_reading_and_names_the_segment(page: Page) -> None:
    experiment = rich(page, lift=1.0, lost_country="US")
    page.at_tick(experiment.tick)
    results = experiment.results()
    assert not results["sample_ratio"]["mismatch"]
    assert results["verdict"]["reading"] == "sample_ratio_mismatch"
    page.says("do not read the results", "[role=alert]")
    page.says("country CA, country US", "[role=alert]")
    page.says("in 2 segments", ".units .alarm-chip")
    page.says("Do not read this result", ".effect .headline")
    script = """
        const tones = [...document.querySelectorAll(".effect")].map((one) => one.dataset.tone);
        return [tones, document.querySelectorAll(".good-chip").length];
    """
    tones, good_chips = page.driver.execute_script(script)
    assert (set(tones), good_chips) == ({"alarm"}, 0)
    assert chromium.console_errors(page.driver) == []


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


def test_a_plan_is_worked_out_from_the_numbers_of_the_experiment(page: Page) -> None:
    experiment = rich(page)
    page.at_tick(experiment.tick)
    page.driver.execute_script("document.querySelector('.planner').open = true")
    page.says("matured units show an effect of +2.0", ".planner .answer")
    page.says("days in all at", ".planner .answer")
    page.says("By always_valid", ".planner .formula")
    assert page.texts(".planner svg text")
    script = """
        const input = document.querySelector(".planner input");
        input.value = "25";
        input.dispatchEvent(new Event("change"));
    """
    page.driver.execute_script(script)
    page.says("matured units show an effect of +25.0", ".planner .answer")
    experiment.advance()
    assert chromium.console_errors(page.driver) == []


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


def test_every_kind_of_metric_fits_a_phone(page: Page) -> None:
    chromium.set_media(page.driver, width=380)
    experiment = rich(page)
    page.at_tick(experiment.tick)
    page.says("US", ".segments tbody")
    width = "return document.documentElement.scrollWidth"
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
    page.open("experiments/new-basket")
    page.says("US", ".segments tbody")
    chromium.screenshot(page.driver, REPORTS / "page-kinds.png")
    assert chromium.console_errors(page.driver) == []
