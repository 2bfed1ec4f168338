"""Names that producers make up do not add up, and forgetting them changes nothing that counts."""

from schemas.control import CatalogueChange, CatalogueEntry, DefinitionChange
from schemas.definitions import Metric
from schemas.partials import Ledger
from stream_processors.accumulate.partition import NAMES_MAX, Partition
from tests.stream_processors.accumulate.builders import (
    T0,
    Message,
    assignment,
    batch,
    definition,
    measured,
    tick,
)

DAY_MS = 86_400_000


def apply(partition: Partition, *messages: Message) -> None:
    for message in messages:
        partition.apply(partition.cursor, *message)


def made_up(prefix: str, timestamp: int) -> Message:
    names = [f"{prefix}-{i}" for i in range(NAMES_MAX // 2)]
    return batch([measured(f"u-{name}", name, timestamp, metric=name) for name in names])


def test_names_of_events_long_gone_are_forgotten() -> None:
    metric = Metric("bought", "sum", "buy", window_ms=10**9, covariate_days=2)
    partition = Partition(0, writer="w")
    apply(
        partition,
        tick(
            1,
            T0,
            CatalogueChange(CatalogueEntry("buy", 6, 2, T0 // DAY_MS)),
            DefinitionChange(definition(metrics=[metric])),
        ),
        made_up("old", T0),
        batch([measured("v", "before", T0 + 1)._replace(unit_type=f"type-{i}") for i in range(9)]),
        *(tick(number, T0 + number) for number in range(2, 26)),
        made_up("new", T0 + 50),
        *(tick(number, T0 + number) for number in range(26, 50)),
        # What came before the chunk of tick 25 falls behind the horizon.
        tick(50, T0 + 50, horizon=T0 + 40),
        batch([assignment("u", "a", T0 + 60), measured("u", "m", T0 + 61, value=3.0)]),
        batch([measured("u", "other", T0 + 62, metric="view")]),
    )

    apply(partition, *(tick(number, T0 + number, horizon=T0 + 40) for number in range(51, 101)))
    apply(partition, batch([measured("u", "m", T0 + 61, value=3.0)]))
    apply(partition, batch([measured("u", "other", T0 + 62, metric="look")]))

    names = set(partition.metrics.values)
    assert not any(name.startswith("old") for name in names)
    assert len(names) == NAMES_MAX // 2 + 3
    ledger = Ledger(*partition.state.ledger.sum(axis=0).tolist())
    assert (ledger.duplicate, ledger.conflict) == (1, 1)
    before = partition.sums()
    partition.refold()
    assert all((a == b).all() if hasattr(a, "all") else a == b
               for a, b in zip(before, partition.sums(), strict=True))  # fmt: skip
