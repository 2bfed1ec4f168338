"""The end is waited for as long as something moves, and not longer."""

import httpx
import pytest

from tests.tools.demo.builders import ledger_of, results_of, small_dataset
from tools.demo import command
from tools.demo.campaigns import truth_of
from tools.demo.command import End
from tools.demo.producer import Sent
from tools.demo.schedule import make_schedule

DATASET = small_dataset(rows=2_000)
TRUTH = truth_of(DATASET)
SCHEDULE = make_schedule(DATASET, seconds=5)
LEDGER = ledger_of(fresh=SCHEDULE.fresh_count, duplicate=SCHEDULE.repeated_count, counted={})


class QueryApi(httpx.AsyncBaseTransport):
    """Shows one look more at every reading of the ledger, and the last one for ever.

    An entry None is an answer of 503.
    """

    def __init__(self, *fresh_counts: int | None) -> None:
        self.fresh_counts = list(fresh_counts)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        if request.url.path != "/v1/ledger":
            arms = TRUTH[request.url.path.split("/")[3].removeprefix("obd-")]
            return httpx.Response(200, json=results_of(arms))
        fresh = self.fresh_counts[0]
        if len(self.fresh_counts) > 1:
            self.fresh_counts.pop(0)
        if fresh is None:
            return httpx.Response(503)
        rows = LEDGER["rows"] | {"fresh": fresh}
        return httpx.Response(200, json=LEDGER | {"rows": rows})


@pytest.fixture(autouse=True)
def _quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, "ASK_EVERY_S", 0.01)


async def wait_for_the_data(query_api: QueryApi) -> tuple[bool, End]:
    async with httpx.AsyncClient(base_url="http://query-api", transport=query_api) as client:
        end = End(client, truth=TRUTH, schedule=SCHEDULE, sent=Sent())
        return await end.wait(lambda: not end.differences()), end


async def test_it_waits_while_the_ledger_moves_however_slowly() -> None:
    came, end = await wait_for_the_data(QueryApi(None, *range(50), SCHEDULE.fresh_count))

    assert came
    assert end.are_stopped()


async def test_it_gives_up_when_nothing_moves_and_says_what_is_wrong(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(command, "STALL_TIMEOUT_S", 0.2)
    came, end = await wait_for_the_data(QueryApi(SCHEDULE.fresh_count - 1))

    assert not came
    assert end.differences() == [
        f"ledger: {SCHEDULE.fresh_count - 1} fresh rows, must be {SCHEDULE.fresh_count}"
    ]
