"""A broker gone or frozen: quick refusals, decisions from memory, nothing lost, no human needed."""

import os
import signal
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Self

import httpx
import pytest

from tests.ingest_gateway.gateway_process import Gateway, running_gateway
from tests.ingest_gateway.test_gateway_process import event_ids, metrics
from tests.ingest_gateway.worlds import PARTITIONS, control_on
from tests.stack import create_fresh_topics, wait_until
from tools.broker import EmbeddedBroker

pytestmark = [pytest.mark.machine, pytest.mark.alone]

AWAY_S = float(os.environ.get("LITMUS_TEST_BROKER_AWAY_S", "4"))
ANSWER_S_MAX = 2.0
RECOVERY_S_MAX = 30.0

Outage = Callable[[EmbeddedBroker], AbstractContextManager[None]]


@pytest.fixture(scope="module")
def own_broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedBroker]:
    """A broker that may be frozen and killed."""
    with EmbeddedBroker(tmp_path_factory.mktemp("own-broker")) as broker:
        create_fresh_topics(broker.bootstrap, PARTITIONS)
        with control_on(broker.bootstrap):
            yield broker


@pytest.fixture(scope="module")
def gateway(own_broker: EmbeddedBroker) -> Iterator[Gateway]:
    """One gateway through all outages."""
    with running_gateway(own_broker.bootstrap) as running:
        yield running


@contextmanager
def frozen(broker: EmbeddedBroker) -> Iterator[None]:
    os.kill(broker.pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(broker.pid, signal.SIGCONT)


@contextmanager
def killed(broker: EmbeddedBroker) -> Iterator[None]:
    broker.stop(signal.SIGKILL)
    try:
        yield
    finally:
        broker.start()


class Load:
    """Posts events in lanes, each with new ids, and notes every answer.

    On threads of its own: nothing that the test waits for delays what is timed here.

    Attributes:
        durable: Ids of events answered with 202.
        statuses: How many answers had which status.
        slowest_s: The longest that a request took.
        failures: What should not have happened.
    """

    def __init__(self, url: str, lanes: int = 4) -> None:
        self._url = url
        self._stopping = threading.Event()
        self._threads = [threading.Thread(target=self._run, args=(lane,)) for lane in range(lanes)]
        self.prefix = uuid.uuid4().hex
        self.durable: set[str] = set()
        self.statuses: Counter[int] = Counter()
        self.slowest_s = 0.0
        self.failures: list[str] = []

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        for thread in self._threads:
            thread.join(30)

    def _run(self, lane: int) -> None:
        turn = lane * 1_000_000
        with httpx.Client(base_url=self._url, timeout=30) as client:
            while not self._stopping.is_set():
                turn += 1
                events = metrics(self.prefix, turn, 5)
                answer, took_s = timed(client, "/v1/events", events)
                self.slowest_s = max(self.slowest_s, took_s)
                self.statuses[answer.status_code] += 1
                if answer.status_code == 202:
                    self.durable.update(event["event_id"] for event in events)
                    continue
                if answer.status_code != 503 or int(answer.headers["Retry-After"]) < 1:
                    self.failures.append(answer.text)
                self._stopping.wait(0.05)


def timed(client: httpx.Client, path: str, body: object) -> tuple[httpx.Response, float]:
    began_s = time.monotonic()
    answer = client.post(path, json=body)
    return answer, time.monotonic() - began_s


def draft() -> dict[str, object]:
    return {
        "id": f"away-{uuid.uuid4().hex[:12]}",
        "variants": [{"id": "a"}, {"id": "b"}],
        "metrics": [{"id": "buy", "kind": "count"}],
    }


def running_experiment(client: httpx.Client) -> str:
    definition = draft()
    assert client.post("/v1/experiments", json=definition).status_code == 201
    started = client.post(f"/v1/experiments/{definition['id']}/start")
    assert started.status_code == 200, started.text
    return str(definition["id"])


def check_while_away(client: httpx.Client, experiment_id: str) -> None:
    """Decisions go on from memory, commands are refused soon."""
    question = {"unit_id": "u-1", "experiment_ids": [experiment_id]}
    decided, decision_s = timed(client, "/v1/decisions", question)
    refused, command_s = timed(client, "/v1/experiments", draft())
    assert decided.json()["decisions"][0]["variant"] in ("a", "b")
    assert decision_s < 0.5
    assert (refused.status_code, "Retry-After" in refused.headers) == (503, True)
    assert command_s < ANSWER_S_MAX


@pytest.mark.parametrize("outage", [frozen, killed])
def test_while_the_broker_is_away_all_is_answered_and_afterwards_nothing_is_missing(
    own_broker: EmbeddedBroker, gateway: Gateway, outage: Outage
) -> None:
    with httpx.Client(base_url=gateway.url, timeout=30) as client, Load(gateway.url) as load:
        experiment_id = running_experiment(client)
        wait_until(lambda: load.statuses[202] >= 20, "events are taken")

        with outage(own_broker):
            until_s = time.monotonic() + AWAY_S
            while time.monotonic() < until_s:
                check_while_away(client, experiment_id)
            refusals, readiness = load.statuses[503], client.get("/ready")
            taken_before = load.statuses[202]
        back_at_s = time.monotonic()
        wait_until(
            lambda: load.statuses[202] >= taken_before + 20, "events are taken", RECOVERY_S_MAX
        )
        recovery_s = time.monotonic() - back_at_s
        running_experiment(client)

    print(f"slowest answer {load.slowest_s:.2f} s, back after {recovery_s:.2f} s")
    assert not load.failures
    assert readiness.status_code == 503
    assert refusals > 0
    assert load.slowest_s < ANSWER_S_MAX
    assert load.durable <= event_ids(own_broker.bootstrap, load.prefix)
