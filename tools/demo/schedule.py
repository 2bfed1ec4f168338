"""When each event of the demo happens, through which door it goes, what is sent twice. Pure.

The week of the dataset is mapped linearly onto the seconds that the run lasts. Everything that
looks like chance comes from one seed, so two runs of the same length send the same things.
"""

from itertools import groupby
from typing import Any, NamedTuple

import numpy as np

from tools.demo.campaigns import METRIC, UNIT_TYPE, VARIANTS, experiment_id
from tools.demo.dataset import CAMPAIGNS, Dataset

SEED = 20_191_124
WEEK_START_US = 1_574_553_600_000_000
"""2019-11-24T00:00:00Z; all logs lie in the seven days from then on."""

WEEK_US = 7 * 86_400 * 1_000_000

REQUEST_MS = 100
"""Events of one request happened within so many milliseconds."""

REPEATED_SHARE = 0.02
REPEATED_AFTER_MS = 1_000

CLICKED_AFTER_MS = (200, 2_000)
"""The dataset does not say when a click came; here it comes between these after the showing."""


class Event(NamedTuple):
    """Something that happened ``due_ms`` after the start of the run."""

    due_ms: int
    campaign: str
    variant: str
    row: int
    is_click: bool

    @property
    def unit_id(self) -> str:
        """Return the id of the impression."""
        return f"{self.campaign}-{VARIANTS[self.variant]}-{self.row:05d}"

    def body(self, start_ms: int) -> dict[str, Any]:
        """Return the event as it is posted, given the epoch milliseconds of the start."""
        common = {
            "unit_id": self.unit_id,
            "unit_type": UNIT_TYPE,
            "timestamp": start_ms + self.due_ms,
        }
        if self.is_click:
            return {
                "type": "metric",
                "event_id": f"click-{self.unit_id}",
                "experiment_id": experiment_id(self.campaign),
                "metric": METRIC,
            } | common
        return {
            "type": "assignment",
            "event_id": f"shown-{self.unit_id}",
            "experiment_id": experiment_id(self.campaign),
            "variant": self.variant,
        } | common


class Request(NamedTuple):
    """A batch for the HTTP door.

    Attributes:
        due_ms: When it is sent, after the start.
        events: What it holds, oldest first.
        is_repeat: Whether it was sent before, with the same ids.
    """

    due_ms: int
    events: list[Event]
    is_repeat: bool


class Record(NamedTuple):
    """A record for the Kafka door."""

    due_ms: int
    event: Event
    is_repeat: bool


class Schedule(NamedTuple):
    """Everything that will be sent, each list in the order of sending.

    Attributes:
        requests: Batches for the HTTP door.
        records: Records for the Kafka door.
        fresh_count: Events, each counted once.
        repeated_count: Events that are sent a second time.
        end_ms: When the last of it is due, after the start.
    """

    requests: list[Request]
    records: list[Record]
    fresh_count: int
    repeated_count: int
    end_ms: int

    @property
    def event_count(self) -> int:
        """Return how many events are sent, the repeated ones included."""
        return self.fresh_count + self.repeated_count


def make_schedule(dataset: Dataset, *, seconds: int, seed: int = SEED) -> Schedule:
    """Return when, where and how often each event of the dataset is sent.

    Half of the impressions of each log go through HTTP, half through Kafka, with their clicks;
    2 % of the requests and of the records are sent again a second later.
    """
    rng = np.random.default_rng(seed)
    http, kafka = _events_by_door(dataset, seconds, rng)
    requests = _requests(http, rng)
    records = _records(kafka, rng)
    repeated = sum(len(request.events) for request in requests if request.is_repeat)
    repeated += sum(record.is_repeat for record in records)
    end_ms = max(requests[-1].due_ms, records[-1].due_ms)
    return Schedule(requests, records, len(http) + len(kafka), repeated, end_ms)


def _events_by_door(
    dataset: Dataset, seconds: int, rng: np.random.Generator
) -> tuple[list[Event], list[Event]]:
    doors: tuple[list[Event], list[Event]] = ([], [])
    for campaign in CAMPAIGNS:
        for variant, policy in VARIANTS.items():
            shown_us, clicked = dataset[campaign, policy]
            due_ms = (shown_us - WEEK_START_US) * (seconds * 1_000) // WEEK_US
            through_kafka = rng.permutation(len(shown_us)) % 2
            clicked_after_ms = rng.integers(*CLICKED_AFTER_MS, size=len(shown_us))
            for row, (due, door) in enumerate(
                zip(due_ms.tolist(), through_kafka.tolist(), strict=True)
            ):
                doors[door].append(Event(due, campaign, variant, row, is_click=False))
                if clicked[row]:
                    clicked_ms = due + int(clicked_after_ms[row])
                    doors[door].append(Event(clicked_ms, campaign, variant, row, is_click=True))
    for events in doors:
        events.sort(key=lambda event: event.due_ms)
    return doors


def _requests(events: list[Event], rng: np.random.Generator) -> list[Request]:
    """Cut events into requests; each is due when the last of its span has happened."""
    first = [
        Request((span + 1) * REQUEST_MS, list(group), is_repeat=False)
        for span, group in groupby(events, key=lambda event: event.due_ms // REQUEST_MS)
    ]
    again = [
        Request(first[index].due_ms + REPEATED_AFTER_MS, first[index].events, is_repeat=True)
        for index in _repeated(len(first), rng)
    ]
    return sorted(first + again, key=lambda request: request.due_ms)


def _records(events: list[Event], rng: np.random.Generator) -> list[Record]:
    first = [Record(event.due_ms, event, is_repeat=False) for event in events]
    again = [
        Record(first[index].due_ms + REPEATED_AFTER_MS, first[index].event, is_repeat=True)
        for index in _repeated(len(first), rng)
    ]
    return sorted(first + again, key=lambda record: record.due_ms)


def _repeated(count: int, rng: np.random.Generator) -> list[int]:
    """Return which of ``count`` sends are made twice: 2 %, one at least."""
    if not count:
        return []
    chosen = max(1, round(count * REPEATED_SHARE))
    return sorted(rng.choice(count, size=chosen, replace=False).tolist())
