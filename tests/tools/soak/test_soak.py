"""A short soak on a real stack: everything is sampled, counted and reported."""

import json
from pathlib import Path

from rich.console import Console

from tests.stack import Stack
from tools.soak.command import Plan, run_soak, write_reports
from tools.soak.sampling import DRIVER

SECONDS = 8.0
SETTLE_S = 90.0


async def test_a_short_soak_counts_everything_and_samples_every_process(
    stack: Stack, tmp_path: Path
) -> None:
    plan = Plan(
        SECONDS,
        rate=300,
        unit_count=100,
        seed=1,
        sample_every_s=0.5,
        lateness_ms=3_600_000,
        settle_s=SETTLE_S,
    )

    soaked = await run_soak(Console(quiet=True), stack.home, plan)

    verdict = soaked.verdict
    assert verdict["problems"] == []
    # Of 300 a second, and a hundred units in three experiments, and a probe twice a second.
    assert verdict["events"]["sent"] >= 300 * SECONDS + 300
    assert verdict["events"]["repeated"] >= 60
    names = {entry["name"] for entry in stack.describe()["processes"]}
    assert verdict["processes"].keys() == names | {DRIVER}
    assert verdict["latency"]["probes"] >= 3
    assert not verdict["memory_judged"]
    page = write_reports(soaked, tmp_path)
    assert json.loads((tmp_path / "soak.json").read_text())["passed"]
    assert "Litmus soak" in page.read_text()
