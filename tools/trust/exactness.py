"""Whatever happens on the way, the integers are those of the batch: protocol 13."""

from functools import partial
from random import Random

from tools.trust.batch import differences
from tools.trust.checks import Found, Part, Protocol, Trial, exactly_none
from tools.trust.logs import Line, batch_answer, generate
from tools.trust.machine import Trouble, run

LOGS = 20
UNITS = 250
PARTITION_COUNTS = (1, 3, 7)

ROADS: dict[str, tuple[str, Trouble]] = {
    "shuffle": ("in any order", Trouble()),
    "exposures_last": ("exposures after all metric events", Trouble()),
    "resent": ("half of it sent again", Trouble()),
    "kills": ("accumulate killed six times a partition", Trouble(kills=6)),
    "rebalances": ("partitions moved six times", Trouble(rebalances=6)),
    "all_of_it": (
        "resent, killed, moved, merge killed too",
        Trouble(kills=4, rebalances=4, merge_kills=6),
    ),
}


def stream_is_batch(road: str, trial: Trial) -> Found:
    """Take random logs one road through the pipeline, on 1, 3 and 7 partitions."""
    title, trouble = ROADS[road]
    wrong = runs = numbers = 0
    count = trial.size(LOGS, least=2)
    for _ in range(count):
        random = Random(int(trial.rng.integers(2**31)))  # noqa: S311  # repeatable, not secret
        lines = generate(random, UNITS)
        truth = batch_answer(lines)
        for partition_count in PARTITION_COUNTS:
            log = _arranged(lines, road, random)
            outcome = run(log, partition_count=partition_count, random=random, trouble=trouble)
            found = differences(outcome.last, truth)
            wrong += found.different
            numbers += found.compared
            runs += 1
    return Found(
        [
            exactly_none(
                f"13.{road}",
                f"logs {title}: integers that differ from the batch answer, of {numbers:,}",
                wrong,
                runs,
            )
        ]
    )


def _arranged(lines: list[Line], road: str, random: Random) -> list[Line]:
    arranged = list(lines)
    if road in ("resent", "all_of_it"):
        arranged += random.sample(lines, len(lines) // 2)
    random.shuffle(arranged)
    if road == "exposures_last":
        arranged.sort(key=lambda line: line.variant is not None)
    return arranged


STREAM_IS_BATCH = Protocol(
    "13",
    "Stream equals batch",
    "Whatever order events come in, however often, over however many partitions, and whatever dies "
    "or moves on the way: every integer behind every statistic is that of a plain batch count.",
    "20 random logs on 1, 3 and 7 partitions on six roads: 360 runs through validator, packer, "
    "engine, checkpoints, recovery and merge; equality, no tolerance.",
    [Part(road, partial(stream_is_batch, road), 60.0) for road in ROADS],
)
