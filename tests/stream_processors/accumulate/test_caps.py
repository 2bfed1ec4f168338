"""What caps make of totals on either side of every cap of a grid, by hand."""

import pytest

from schemas.control import DefinitionChange
from schemas.definitions import CapQuantile, Metric
from stream_processors.accumulate.partition import Partition
from stream_processors.stats.cap_grid import cap_grid
from stream_processors.stats.sums import CapSums
from tests.stream_processors.accumulate.builders import (
    T0,
    assignment,
    batch,
    definition,
    measured,
    tick,
)
from tests.stream_processors.accumulate.holding import equals_its_fold, integers_of


def capped(totals: list[int], cap: int) -> CapSums:
    """Return the sums of totals under a cap."""
    under = [min(total, cap) for total in totals]
    above = sum(total > cap for total in totals)
    return CapSums(above, sum(under), sum(total * total for total in under))


@pytest.mark.parametrize("precision", [0, 2, 6])
def test_totals_at_and_beside_every_cap_are_in_the_right_class(precision: int) -> None:
    caps = cap_grid(precision)
    totals = [cap + beside for cap in caps for beside in (-1, 0, 1)] + [0, -5, 3 * caps[-1]]
    leaving = range(0, len(totals), 7)
    metric = Metric(
        "spent", "sum", "buy", window_ms=10_000, precision=precision, cap=CapQuantile(0.9)
    )
    one = definition(metrics=[metric])
    partition = Partition(0, writer="w")
    for message in (
        tick(1, T0, DefinitionChange(one)),
        batch([assignment(f"u{unit}", "a", T0 + 1) for unit in range(len(totals))]),
        batch([
            measured(f"u{unit}", "m", T0 + 2, value=total / 10**precision)
            for unit, total in enumerate(totals)
        ]),
        batch([assignment(f"u{unit}", "b", T0 + 3, variant="t") for unit in leaving]),
        tick(2, T0 + 20_000),
    ):  # fmt: skip
        partition.apply(partition.cursor, *message)

    integers = integers_of(partition.experiment_sums(one, final=False), one)

    staying = [total for unit, total in enumerate(totals) if unit not in leaving]
    for basis in ("open", "matured"):
        assert integers[basis][0][0].caps == tuple(capped(staying, cap) for cap in caps)
    assert equals_its_fold(partition)
