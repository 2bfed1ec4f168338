"""What the samples of a soak say: slopes, drifts, and whether they are within bounds. Pure.

State grows with units and with ids that have not expired. The population is fixed, so memory is
judged from when the first ids have expired, and in the second half of a run only.
"""

from collections.abc import Iterable, Sequence
from itertools import groupby
from typing import Any, NamedTuple

import numpy as np

from schemas.control import HORIZON_SLACK_MS
from tools.soak.sampling import DRIVER, Sample

SLOPE_MB_PER_MINUTE_MAX = 1.0
FDS_GROWTH_MAX = 8
"""Descriptors come and go with connections; more than this many to stay are a leak."""

LATENCY_DRIFT_MAX = 2.0
LATENCY_DRIFT_MS_MIN = 250.0
"""Latency may double, or grow by this much: the machine has other work."""

SAMPLES_MIN = 8
MB = 1_000_000


class Latency(NamedTuple):
    """One event from the 202 to the look that holds it."""

    at_s: float
    ms: float


class Outcome(NamedTuple):
    """What became of the load.

    Attributes:
        sent: Acknowledged events, each once.
        repeated: Sent on purpose a second time.
        resent: Sent again for want of an answer.
        refused: Answers that were no acknowledgement.
        fresh: What the ledger counts as new, less what it did before the run.
        balanced: What the ledger says of itself.
        status: The same, in a word.
        views_sent: Events of the count metric by variant.
        views_counted: The same as the results say, by experiment.
    """

    sent: int
    repeated: int
    resent: int
    refused: list[str]
    fresh: int
    balanced: bool
    status: str
    views_sent: list[int]
    views_counted: dict[str, list[int]]

    @property
    def problems(self) -> list[str]:
        """Return in what the counts are not those of the load."""
        problems = [f"refused: {text}" for text in self.refused[:5]]
        if not self.balanced:
            problems.append(f"the ledger does not balance: {self.status}")
        if self.fresh != self.sent:
            problems.append(f"fresh rows == {self.fresh:,}, must be the {self.sent:,} sent")
        problems += [
            f"{experiment}: views == {counted}, must be {self.views_sent}"
            for experiment, counted in self.views_counted.items()
            if counted != self.views_sent
        ]
        return problems


def warm_up_s(lateness_ms: int) -> float:
    """Return from when memory is judged: as many ids are forgotten as arrive.

    An id may be forgotten once it is older than lateness and slack; it is as soon as a quarter of
    all may be.
    """
    return (lateness_ms + HORIZON_SLACK_MS) * 1.34 / 1_000


def slope_mb_per_minute(samples: Sequence[tuple[float, float]]) -> float:
    """Return how fast something grows, by Theil and Sen: a third of the samples may be outliers.

    Args:
        samples: Seconds and bytes, at least two.
    """
    from scipy.stats import theilslopes  # noqa: PLC0415  # a second of CPU, for every command

    at, size = np.array(samples, np.float64).T
    return float(theilslopes(size, at)[0]) * 60 / MB


def judge(
    samples: Iterable[Sample],
    latencies: Sequence[Latency],
    outcome: Outcome,
    *,
    seconds: float,
    lateness_ms: int,
) -> dict[str, Any]:
    """Return figures by process, of latency and of the ledger, and what is out of bounds."""
    # Heaps and pools of threads fill to their bounds first, some in half an hour.
    judged_from_s = max(warm_up_s(lateness_ms), seconds / 2)
    by_name = sorted(samples, key=lambda one: (one.name, one.at_s))
    processes = {
        name: _process(list(group), judged_from_s)
        for name, group in groupby(by_name, key=lambda one: one.name)
    }
    latency = _latency(latencies, judged_from_s)
    problems = [
        *outcome.problems,
        *(problem for figures in processes.values() for problem in figures["problems"]),
        *latency.pop("problems"),
    ]
    judged = all(figures["judged"] for figures in processes.values())
    return {
        "passed": not problems,
        "memory_judged": judged,
        "judged_from_s": round(judged_from_s, 1),
        "seconds": round(seconds, 1),
        "slope_mb_per_minute_max": max(
            (one["slope_mb_per_minute"] for one in processes.values() if one["judged"]),
            default=None,
        ),
        "processes": processes,
        "latency": latency,
        "events": outcome._asdict(),
        "problems": problems,
    }


def _process(samples: list[Sample], judged_from_s: float) -> dict[str, Any]:
    name = samples[0].name
    rest = [one for one in samples if one.at_s >= judged_from_s]
    judged = len(rest) >= SAMPLES_MIN
    slope = slope_mb_per_minute([(one.at_s, one.rss_bytes) for one in rest]) if judged else None
    fds = _growth([one.fds - one.held_files for one in rest]) if judged else None
    pids = len({one.pid for one in samples})
    problems = []
    if pids > 1:
        problems.append(f"{name}: was restarted {pids - 1} times")
    if slope is not None and slope > SLOPE_MB_PER_MINUTE_MAX and name != DRIVER:
        problems.append(f"{name}: RSS grows {slope:.2f} MB/min, must be <= 1")
    if fds is not None and fds > FDS_GROWTH_MAX:
        problems.append(f"{name}: {fds:.0f} more descriptors at the end, must be <= 8")
    uss = [one.uss_bytes for one in samples if one.uss_bytes is not None]
    span_s = samples[-1].at_s - samples[0].at_s
    cpu_s = samples[-1].cpu_s - samples[0].cpu_s
    return {
        "judged": judged,
        "slope_mb_per_minute": None if slope is None else round(slope, 3),
        "rss_mb_first": round(samples[0].rss_bytes / MB, 1),
        "rss_mb_last": round(samples[-1].rss_bytes / MB, 1),
        "rss_mb_max": round(max(one.rss_bytes for one in samples) / MB, 1),
        "uss_mb_last": round(uss[-1] / MB, 1) if uss else None,
        "fds_first": samples[0].fds,
        "fds_last": samples[-1].fds,
        "fds_growth": fds,
        "threads_last": samples[-1].threads,
        "cpu_percent": round(100 * cpu_s / span_s, 1) if span_s and pids == 1 else None,
        "problems": problems,
    }


def _growth(counts: Sequence[int]) -> float:
    """Return by how much the median of the last third is above that of the first."""
    third = max(1, len(counts) // 3)
    return float(np.median(counts[-third:]) - np.median(counts[:third]))


def _latency(latencies: Sequence[Latency], judged_from_s: float) -> dict[str, Any]:
    if not latencies:
        return {"probes": 0, "problems": ["no event was seen in a look"]}
    spans = np.array([one.ms for one in latencies])
    rest = [one.ms for one in latencies if one.at_s >= judged_from_s]
    figures: dict[str, Any] = {
        "probes": len(spans),
        "p50_ms": round(float(np.percentile(spans, 50)), 1),
        "p99_ms": round(float(np.percentile(spans, 99)), 1),
        "max_ms": round(float(spans.max()), 1),
        "drift": None,
        "problems": [],
    }
    third = len(rest) // 3
    if third >= SAMPLES_MIN:
        first, last = float(np.median(rest[:third])), float(np.median(rest[-third:]))
        figures["drift"] = round(last / first, 2)
        if last > max(LATENCY_DRIFT_MAX * first, first + LATENCY_DRIFT_MS_MIN):
            figures["problems"] = [f"latency drifts from {first:.0f} to {last:.0f} ms"]
    return figures
