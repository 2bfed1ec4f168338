"""The page of a soak needs no other file and holds every line that was measured."""

import re
from xml.etree import ElementTree as ET

from tests.tools.soak.test_judging import GOOD, sample, verdict
from tools.soak.judging import Latency
from tools.soak.page import POINTS_MAX, make_page, plot

SAMPLES = [
    sample(at, name=name) for at in range(0, 3_600, 10) for name in ("kafka", "accumulate-0")
]
LATENCIES = [Latency(10.0 * number, 400.0) for number in range(360)]


def page_of(**changed: object) -> str:
    found = verdict(SAMPLES, GOOD._replace(**changed))  # type: ignore[arg-type]
    return make_page(found | {"events_per_second": 5_000.0}, SAMPLES, LATENCIES)


def test_the_page_loads_nothing_and_shows_three_plots() -> None:
    page = page_of()

    assert re.findall(r"""(?:src|href|url)\s*[=(]""", page) == []
    assert page.count("<svg") == 3
    assert page.count(">kafka</text>") == 2
    assert "passed" in page


def test_problems_are_shown_and_escaped() -> None:
    page = page_of(refused=["<script>"])

    assert "failed" in page
    assert "refused: &lt;script&gt;" in page


def test_a_plot_is_well_formed_thin_and_keeps_the_peak() -> None:
    points = [(float(at), 999.0 if at == 4_321 else 1.0) for at in range(10_000)]

    svg = ET.fromstring(plot({"one": points}, judged_from_s=100))

    [line] = [one for one in svg.iter() if one.tag == "polyline"]
    places = [tuple(map(float, point.split(","))) for point in line.attrib["points"].split()]
    assert len(places) <= POINTS_MAX
    assert min(y for _, y in places) < 40
    assert len([one for one in svg.iter() if one.get("stroke-dasharray")]) == 1


def test_a_plot_of_nothing_says_so() -> None:
    assert plot({"one": []}, judged_from_s=0) == "<p>Nothing was measured.</p>"
