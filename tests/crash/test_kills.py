"""Processes killed at random moments under load lose nothing, double nothing, misplace nothing."""

import asyncio
import time
from collections import Counter
from pathlib import Path
from random import Random
from typing import Any

import pytest

from tests.crash.audit import fates_of
from tests.crash.conftest import Report
from tests.crash.figures import recovery_figures
from tests.crash.killing import Killer
from tests.crash.load import Load
from tests.crash.settling import settle_and_audit, start_experiments
from tests.stack import Stack

PARTITIONS = 8
ROUNDS = 2
"""How often each of the five processes is killed; raise it for a longer siege."""

SEED = 20_261_121
UNITS_PER_SECOND = 40.0
EXPERIMENTS = {"excluding": "exclude", "first-stays": "first"}


@pytest.mark.timeout(60 * ROUNDS + 300)
def test_kills_at_random_moments_under_load_change_no_number(
    tmp_path: Path, report: Report
) -> None:
    environment = {"LITMUS_PARTITIONS": str(PARTITIONS)}
    with Stack(tmp_path / "home", environment=environment) as stack:
        start_experiments(stack, EXPERIMENTS)
        started_s = time.monotonic()
        load, killer = asyncio.run(besiege(stack, SEED))
        loaded_s = time.monotonic()
        outcome, differences = settle_and_audit(stack, load.journal, PARTITIONS)

        fates = sum(fates_of(outcome.log.rows).counts.values(), Counter())
        figures: dict[str, Any] = {
            "kills": len(killer.recoveries),
            "events accepted": len(load.journal.accepted),
            "rows in the log": len(outcome.log.rows),
            "duplicates": fates["duplicate"],
            "conflicts": fates["conflict"],
            "requests sent again": load.retries,
            "units compared": len(outcome.cells),
            "looks": len(outcome.looks),
            "differences": len(differences),
            "load seconds": round(loaded_s - started_s, 1),
            "settle, audit seconds": round(time.monotonic() - loaded_s, 1),
            "recovery": recovery_figures(killer.recoveries),
        }
        report("kills", figures)
        assert differences == []
        assert len(killer.recoveries) >= 5 * ROUNDS
        assert load.retries, "no request ever met a dead gateway"
        assert fates["duplicate"]
        assert fates["conflict"]
        assert any(running_intervals(look) for look in outcome.looks), "still in the burn-in"


async def besiege(stack: Stack, seed: int) -> tuple[Load, Killer]:
    """Send a load, and kill until every process was killed often enough and is back."""
    random = Random(seed)
    load = Load(
        stack.gateway_url,
        stack.kafka,
        experiments=list(EXPERIMENTS),
        seed=seed,
        rate=UNITS_PER_SECOND,
    )
    killer, is_over = Killer(stack, random), asyncio.Event()

    async def kill() -> None:
        await killer.kill_many(ROUNDS)
        is_over.set()

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(load.run(is_over))
        tasks.create_task(kill())
    return load, killer


def running_intervals(look: dict[str, Any]) -> list[Any]:
    return [
        effect["absolute"]["always_valid"]
        for metric in look["metrics"]
        for effect in metric["effects"]
        if effect["absolute"].get("always_valid")
    ]
