"""The terminal shows the latest looks: as a live table, or as lines where there is no terminal."""

from io import StringIO

from rich.console import Console

from tests.tools.demo.builders import ledger_of, results_of
from tools.demo.campaigns import Arm
from tools.demo.display import LINE_EVERY_S, Display, results_table
from tools.demo.producer import Sent
from tools.demo.watching import Watch

MEN = {"control": Arm(10_000, 46), "treatment": Arm(10_000, 69)}


def watched() -> Watch:
    watch = Watch(ledger=ledger_of(fresh=100, duplicate=2, counted={}))
    watch.take("men", results_of(MEN), now_s=0.0)
    warming = results_of(MEN)
    warming["metrics"][0]["effects"] = [
        {"status": "warming_up", "absolute": {"fixed_horizon": None, "always_valid": None}}
    ]
    watch.take("women", warming, now_s=0.0)
    return watch


def text_of(renderable: object) -> str:
    console = Console(file=StringIO(), width=160)
    console.print(renderable)
    return console.file.getvalue()  # type: ignore[attr-defined]


def test_the_table_shows_counts_intervals_and_what_is_not_there_yet() -> None:
    all_items, men, women = text_of(results_table(watched())).splitlines()[-5:-2]

    assert all_items.count("…") == 8 - 1
    for shown in ("10,000", "46", "69", "+0.230 pp", "-0.104 pp … +0.564 pp", "0.031"):
        assert shown in men
    assert "warming up" in women


def test_without_a_terminal_a_line_comes_every_few_seconds() -> None:
    console = Console(file=StringIO(), width=300, force_terminal=False)
    display = Display(console, sent=Sent(http_events=5), watch=watched(), event_count=100)

    with display:
        for now_s in (100.0, 100.1, 100.0 + LINE_EVERY_S):
            display.refresh(now_s)
        display.phase("done")

    first, second, phase = console.file.getvalue().splitlines()  # type: ignore[attr-defined]
    assert first == second
    assert first.startswith("5/100 events | all … | men 46/69 clicks [-0.104 pp, +0.564 pp]")
    assert "ledger: 102 received = 100 fresh + 2 duplicate" in first
    assert phase == "done"


def test_a_terminal_gets_a_live_table() -> None:
    console = Console(file=StringIO(), width=160, force_terminal=True, _environ={"TERM": "xterm"})

    with Display(console, sent=Sent(), watch=watched(), event_count=100) as display:
        display.phase("streaming")
        display.refresh(0.0)

    assert "men's items" in console.file.getvalue()  # type: ignore[attr-defined]
