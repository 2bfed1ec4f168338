"""From the 202 to the look: when did an answered request become readable? Pure.

The answer says where its events stand in the log. A look holds them as soon as its offset for
each of those partitions is past them.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np


class Latency(NamedTuple):
    """Milliseconds from an answer to the look that holds all of its events.

    Attributes:
        requests: Requests measured.
        p50: Half of them took no longer; None before the first.
        p99: All but a hundredth took no longer.
    """

    requests: int
    p50: float | None
    p99: float | None


@dataclass
class _Pending:
    answered_s: float
    log: Mapping[str, int]
    experiments: set[str] = field(default_factory=set)


class LatencyMeter:
    """Matches answers with looks; both may come first."""

    def __init__(self) -> None:
        self._pending: dict[str, list[_Pending]] = {}
        self._offsets: dict[str, Mapping[str, int]] = {}
        self._latencies_ms: list[float] = []

    def answered(self, log: Mapping[str, int], experiments: Iterable[str], now_s: float) -> None:
        """Note an answer whose events belong to ``experiments``."""
        pending = _Pending(now_s, log)
        for experiment in set(experiments):
            if not _is_past(self._offsets.get(experiment, {}), log):
                pending.experiments.add(experiment)
                self._pending.setdefault(experiment, []).append(pending)
        if not pending.experiments:
            self._latencies_ms.append(0.0)

    def looked(self, experiment: str, offsets: Mapping[str, int], now_s: float) -> None:
        """Note that a look of ``experiment`` was read that is complete up to ``offsets``."""
        self._offsets[experiment] = offsets
        waiting = []
        for pending in self._pending.get(experiment, []):
            if not _is_past(offsets, pending.log):
                waiting.append(pending)
                continue
            pending.experiments.discard(experiment)
            if not pending.experiments:
                self._latencies_ms.append((now_s - pending.answered_s) * 1_000)
        self._pending[experiment] = waiting

    @property
    def latency(self) -> Latency:
        """Return what was measured so far."""
        if not self._latencies_ms:
            return Latency(0, None, None)
        p50, p99 = np.percentile(self._latencies_ms, [50, 99])
        return Latency(len(self._latencies_ms), round(float(p50), 1), round(float(p99), 1))


def _is_past(offsets: Mapping[str, int], log: Mapping[str, int]) -> bool:
    return all(offsets.get(partition, -1) > offset for partition, offset in log.items())
