"""The run itself, on a real stack, with a small dataset: what comes out equals what went in."""

from collections.abc import Iterator
from io import StringIO

import pytest
from rich.console import Console

from tests.stack import Stack
from tests.tools.demo.builders import small_dataset
from tools.demo.campaigns import truth_of
from tools.demo.command import stream
from tools.demo.results import arms_on
from tools.demo.schedule import make_schedule
from tools.demo.stack import Addresses

pytestmark = pytest.mark.machine

ROWS = 2_000
"""40 clicks per arm: past the burn-in."""

SECONDS = 8


@pytest.fixture(scope="module")
def addresses(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Addresses]:
    """A stack of its own, because the ledger is compared as a whole."""
    with Stack(tmp_path_factory.mktemp("demo")) as running:
        yield Addresses(running.gateway_url, running.query_url, running.kafka)


async def test_a_run_through_both_doors_ends_with_the_data(addresses: Addresses) -> None:
    dataset = small_dataset(ROWS)
    schedule, truth = make_schedule(dataset, seconds=SECONDS), truth_of(dataset)
    console = Console(file=StringIO(), width=200)

    run = await stream(console, addresses, schedule, truth)

    assert run.problems == []
    assert {name: arms_on(results, "matured") for name, results in run.results.items()} == truth
    assert {results["status"] for results in run.results.values()} == {"stopped"}
    assert run.ledger is not None
    assert run.ledger["rows"]["duplicate"] == schedule.repeated_count > 0
    assert run.latency.requests > 0
    assert all(path.looks > 0 for path in run.paths.values())
