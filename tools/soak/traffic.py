"""What the soak sends: events of a fixed population of units, as bytes. Pure but for the seed.

The population is fixed and ids expire, so a process whose memory still grows is one that leaks.
Every event has an id of its own; a batch in a hundred is sent twice.
"""

from typing import NamedTuple

import numpy as np

EXPERIMENTS = ("soak-a", "soak-b", "soak-c")
VARIANTS = ("control", "treatment")
EVENT_NAMES = (b"purchase", b"view")
PURCHASE, VIEW = range(2)
COUNT_METRIC = "views"

_ASSIGNMENT = (
    b'{"type":"assignment","event_id":"%s-%d","experiment_id":"%s","unit_id":"soak-%d",'
    b'"variant":"%s","timestamp":%d}'
)
_METRIC = (
    b'{"type":"metric","event_id":"m-%d","unit_id":"soak-%d","metric":"%s",'
    b'"value":%s,"timestamp":%d}'
)
_VALUES = [str(step / 4).encode() for step in range(400)]


class Batch(NamedTuple):
    """Events that are sent together.

    Attributes:
        bodies: JSON, one for each event.
        keys: Ids of their units.
        assigns: Whether they are assignments; else metric events.
        views: Events that the count metric counts, by variant.
    """

    bodies: list[bytes]
    keys: list[bytes]
    assigns: bool
    views: tuple[int, int]


def definition_of(experiment: str) -> dict[str, object]:
    """Return the body that creates an experiment."""
    return {
        "id": experiment,
        "variants": [{"id": variant} for variant in VARIANTS],
        "metrics": [
            {"id": "conversion", "kind": "conversion", "event": "purchase", "window": "24h"},
            {"id": COUNT_METRIC, "kind": "count", "event": "view", "window": "24h"},
            {"id": "revenue", "kind": "sum", "event": "purchase", "window": "24h"},
        ],
    }


class Traffic:
    """Makes the events of a run.

    Attributes:
        unit_count: Units there are; unit u has variant u mod 2 in every experiment.
        made: Metric events made so far.
    """

    def __init__(self, *, unit_count: int, seed: int) -> None:
        self.unit_count = unit_count
        self.made = 0
        self._rng = np.random.default_rng(seed)

    def assignments(self, first: int, count: int, now_ms: int) -> Batch:
        """Return the assignments of units ``first`` and on, to every experiment."""
        units = range(first, min(first + count, self.unit_count))
        pairs = [(experiment.encode(), unit) for unit in units for experiment in EXPERIMENTS]
        bodies = [
            _ASSIGNMENT % (name, unit, name, unit, VARIANTS[unit % 2].encode(), now_ms)
            for name, unit in pairs
        ]
        return Batch(bodies, [b"soak-%d" % unit for _, unit in pairs], assigns=True, views=(0, 0))

    def events(self, count: int, now_ms: int) -> Batch:
        """Return metric events of units drawn anew."""
        units = self._rng.integers(0, self.unit_count, count)
        names = self._rng.integers(0, len(EVENT_NAMES), count)
        steps = self._rng.integers(1, len(_VALUES), count)
        first, self.made = self.made, self.made + count
        bodies = [
            _METRIC % (first + place, unit, EVENT_NAMES[name], _VALUES[step], now_ms)
            for place, (unit, name, step) in enumerate(
                zip(units.tolist(), names.tolist(), steps.tolist(), strict=True)
            )
        ]
        viewed = np.bincount(units[names == VIEW] % 2, minlength=2)
        keys = [b"soak-%d" % unit for unit in units.tolist()]
        return Batch(bodies, keys, assigns=False, views=(int(viewed[0]), int(viewed[1])))


def ndjson(batch: Batch) -> bytes:
    """Return the body of a request."""
    return b"\n".join(batch.bodies)
