"""A request is sent until it is answered, with the same ids, and nothing that failed is hidden."""

from collections.abc import Callable, Mapping

import httpx
import msgspec
import pytest

from tools.demo import producer
from tools.demo.producer import Clock, Sent, send_requests
from tools.demo.schedule import Event, Request

EVENTS = [Event(0, "men", "control", row, is_click=False) for row in range(3)]
ACCEPTED = httpx.Response(202, json={"accepted": 3, "late": 0, "rejected": [], "log": {"2": 9}})


class Gateway(httpx.AsyncBaseTransport):
    """Answers in the order given; an exception is a connection that breaks."""

    def __init__(self, *answers: httpx.Response | Exception) -> None:
        self.answers = list(answers)
        self.bodies: list[bytes] = []

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self.bodies.append(await request.aread())
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return httpx.Response(answer.status_code, headers=answer.headers, content=answer.content)


async def send(gateway: Gateway, *requests: Request) -> tuple[Sent, list[Mapping[str, int]]]:
    sent = Sent()
    logs: list[Mapping[str, int]] = []
    on_accepted: Callable[[Request, Mapping[str, int]], None] = lambda _, log: logs.append(log)  # noqa: E731
    async with httpx.AsyncClient(base_url="http://gateway", transport=gateway) as client:
        await send_requests(
            requests, client=client, clock=Clock(), sent=sent, on_accepted=on_accepted
        )
    return sent, logs


async def test_an_accepted_request_is_counted_and_its_place_in_the_log_is_told() -> None:
    sent, logs = await send(Gateway(ACCEPTED), Request(1, EVENTS, is_repeat=False))

    assert sent == Sent(http_events=3)
    assert logs == [{"2": 9}]


@pytest.mark.parametrize(
    "failure",
    [httpx.Response(503, headers={"Retry-After": "0"}), httpx.Response(500), httpx.ReadError("")],
)
async def test_what_may_have_been_lost_is_sent_again_with_the_same_bytes(
    failure: httpx.Response | Exception,
) -> None:
    gateway = Gateway(failure, ACCEPTED)

    sent, logs = await send(gateway, Request(1, EVENTS, is_repeat=False))

    assert gateway.bodies[0] == gateway.bodies[1]
    assert [event["event_id"] for event in msgspec.json.decode(gateway.bodies[1])] == [
        f"shown-men-random-{row:05d}" for row in range(3)
    ]
    assert sent == Sent(http_events=3, resent_events=3)
    assert len(logs) == 1


async def test_a_repeat_is_counted_as_one() -> None:
    requests = [Request(1, EVENTS, is_repeat=False), Request(2, EVENTS, is_repeat=True)]

    sent, _ = await send(Gateway(ACCEPTED, ACCEPTED), *requests)

    assert sent == Sent(http_events=6, repeated_events=3)


async def test_a_refused_request_is_a_problem_and_is_not_sent_again() -> None:
    refusal = {"accepted": 0, "late": 0, "rejected": [{"index": 0, "code": "unknown_experiment"}]}
    gateway = Gateway(httpx.Response(422, json=refusal))

    sent, logs = await send(gateway, Request(1, EVENTS, is_repeat=False))

    assert sent.http_events == 0
    assert logs == []
    assert "unknown_experiment" in sent.problems[0]


async def test_a_gateway_that_stays_away_is_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(producer, "RESEND_FOR_S", 0)

    sent, _ = await send(
        Gateway(httpx.ConnectError("refused")), Request(1, EVENTS, is_repeat=False)
    )

    assert "a request of 3 events was lost" in sent.problems[0]


async def test_the_clock_starts_after_its_lead() -> None:
    clock = Clock(lead_ms=20)

    assert clock.elapsed_ms() < 0
    await clock.until(10)
    assert clock.elapsed_ms() >= 10
