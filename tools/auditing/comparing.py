"""Looks that were published, against what replayed partitions amount to at their ticks. Pure."""

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from stream_processors.merge.totals import totals_of
from tools.auditing.replaying import Difference, ReplayedPartition, Reported

Json = dict[str, Any]


class Compared(NamedTuple):
    """What was compared.

    Attributes:
        looks: How many looks.
        experiments: Of how many experiments.
        skipped: Looks that lie before the replay knows all sums.
        differences: What was found.
    """

    looks: int
    experiments: set[str]
    skipped: int
    differences: list[Difference]


def compare_looks(
    replayed: Mapping[int, ReplayedPartition], looks: Iterable[Json], last_tick: int
) -> Compared:
    """Compare records of ``litmus.looks`` with what was replayed.

    Args:
        replayed: Every partition of the log.
        looks: In the order of the log; of experiments without one in the time that was replayed,
            their last.
        last_tick: Looks beyond it are not compared: not all was read.
    """
    by_experiment: dict[str, dict[int, Json]] = {}
    for one in looks:
        tick = one["look"]["tick"]
        if tick <= last_tick:
            by_experiment.setdefault(one["experiment_id"], {})[tick] = one
    reports = _by_tick(replayed)
    compared, skipped = 0, 0
    differences: list[Difference] = []
    for experiment_id, its_looks in by_experiment.items():
        known: dict[int, Reported] = {}
        last_known: Json | None = None
        for tick in sorted(set(its_looks) | {t for t, _ in reports.get(experiment_id, {})}):
            for number in replayed:
                found = reports.get(experiment_id, {}).get((tick, number))
                if found is not None:
                    known[number] = found
            if len(known) < len(replayed):
                skipped += tick in its_looks
                last_known = its_looks.get(tick, last_known)
                continue
            look = its_looks.get(tick, last_known)
            if look is None:
                continue
            last_known = look
            compared += 1
            differences += _differences(experiment_id, look, known)
    return Compared(compared, set(by_experiment), skipped, differences)


def _by_tick(
    replayed: Mapping[int, ReplayedPartition],
) -> dict[str, dict[tuple[int, int], Reported]]:
    found: dict[str, dict[tuple[int, int], Reported]] = {}
    for number, one in replayed.items():
        for tick, reports in one.reports.items():
            for experiment_id, reported in reports.items():
                found.setdefault(experiment_id, {})[tick, number] = reported
    return found


def _differences(experiment_id: str, look: Json, known: Mapping[int, Reported]) -> list[Difference]:
    newest = max((one.definition for one in known.values()), key=lambda d: d.version)
    totals = totals_of((one.sums for one in known.values()), newest)
    expected, found = totals.as_strings(), look["integers"]
    return [
        Difference(
            experiment_id, look["look"]["tick"], name, str(expected[name]), str(found.get(name))
        )
        for name in expected
        if expected[name] != found.get(name)
    ]
