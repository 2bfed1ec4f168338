"""The pipeline from the door to the look, without a broker: what is between is lists in order.

Validator, packer, engine, checkpoints, recovery and merge are the product's own. A kill loses a
worker's memory and its last writes, as a crash does; a rebalance hands a partition to a worker
that knows the changelog only; a kill of merge loses its memory and its last records.
"""

from random import Random
from typing import Any, NamedTuple

import msgspec

from ingest_gateway.packer import pack
from ingest_gateway.validator import BodyForm, admit
from schemas.control import (
    CatalogueChange,
    Change,
    ControlState,
    DefinitionChange,
    Settings,
    Tick,
    Times,
)
from schemas.partials import decode_partial
from schemas.topics import KIND_BATCH, KIND_TICK
from stream_processors.accumulate.partition import Partition, Ticked
from stream_processors.accumulate.recovery import recover
from stream_processors.accumulate.writing import Write
from stream_processors.merge.merging import Merger
from tools.trust.logs import DAY_MS, END_DAY, FIRST_DAY, Line, body_of, catalogue, experiment

LOG_ID = "trust"
BATCH_LINES_MAX = 200
LOST_TICKS_MAX = 3
SETTINGS = Settings(lateness_ms=END_DAY * DAY_MS, stride=1)

Messages = list[tuple[bytes, bytes]]


class Trouble(NamedTuple):
    """What goes wrong on the way.

    Attributes:
        kills: Of accumulate workers, at random messages, their last writes lost.
        rebalances: Partitions that move to another worker, all writes made.
        merge_kills: Of merge, at random partials, its last records lost.
    """

    kills: int = 0
    rebalances: int = 0
    merge_kills: int = 0


class Outcome(NamedTuple):
    """What came out.

    Attributes:
        looks: By tick, the record of the look that was published.
        repeated: Looks that were published again after a restart, with what they said.
    """

    looks: dict[int, dict[str, Any]]
    repeated: list[tuple[int, dict[str, Any]]]

    @property
    def last(self) -> dict[str, Any]:
        """Return the record of the last look."""
        return self.looks[max(self.looks)]


def run(
    lines: list[Line], *, partition_count: int, random: Random, trouble: Trouble | None = None
) -> Outcome:
    """Take a log from the door to its looks, through all the trouble asked for."""
    trouble = trouble or Trouble()
    logs, states = _as_messages(lines, partition_count, random)
    partials = _interleaved([_accumulate(number, log, states, random, trouble)
                             for number, log in enumerate(logs)], random)  # fmt: skip
    return _merge(partials, partition_count, random, trouble.merge_kills)


def _as_messages(
    lines: list[Line], partition_count: int, random: Random
) -> tuple[list[Messages], list[ControlState]]:
    """Return every partition's log, and control's state after each tick."""
    changes: list[Change] = [CatalogueChange(entry) for entry in catalogue()]
    changes.append(DefinitionChange(experiment()))
    control = msgspec.structs.replace(ControlState().after(changes), settings=SETTINGS)
    rest, logs = list(lines), [[_tick(1, 0, changes)] for _ in range(partition_count)]
    number = 2
    while rest:
        size = random.randint(1, BATCH_LINES_MAX)
        for packed in _packed(rest[:size], partition_count, control):
            logs[packed[0]].append((KIND_BATCH, packed[1]))
        for log in logs:
            log.append(_tick(number, min(END_DAY, FIRST_DAY - 10 + number) * DAY_MS))
        number += 1
        del rest[:size]
    for log in logs:
        log.append(_tick(number, END_DAY * DAY_MS))
    return logs, [ControlState(), *[control] * number]


def _packed(
    lines: list[Line], partition_count: int, control: ControlState
) -> list[tuple[int, bytes]]:
    admission = admit(
        body_of(lines),
        form=BodyForm.JSON,
        received_at_ms=END_DAY * DAY_MS,
        control=control,
    )
    if admission.rejected or admission.late:
        raise AssertionError(f"the door did not take all: {admission.rejected[:3]}")
    packed = pack(admission.accepted, partition_count=partition_count, door="trust")
    return [(one.partition, one.value) for one in packed]


def _tick(number: int, settled_ms: int, changes: list[Change] | None = None) -> tuple[bytes, bytes]:
    tick = Tick(LOG_ID, number, Times(settled_ms, settled_ms, 0), SETTINGS, changes or [])
    return KIND_TICK, msgspec.json.encode(tick)


def _accumulate(
    number: int, log: Messages, states: list[ControlState], random: Random, trouble: Trouble
) -> list[bytes]:
    """Return the partials of one partition, those of every worker that it had."""
    kills = set(random.choices(range(1, len(log)), k=trouble.kills))
    moves = set(random.choices(range(1, len(log)), k=trouble.rebalances))
    partition = Partition(number, writer="w0", log_id=LOG_ID)
    changelog: dict[bytes, bytes] = {}
    waiting: list[list[Write]] = []
    partials: list[bytes] = []
    lives = 0
    while partition.cursor < len(log):
        kind, value = log[partition.cursor]
        ticked: Ticked | None = partition.apply(partition.cursor, kind, value)
        if ticked:
            partials += ticked.partials
            waiting.append(ticked.writes)
        while len(waiting) > LOST_TICKS_MAX:
            _write(changelog, waiting.pop(0))
        at = partition.cursor
        if at in kills or at in moves:
            if at in moves:
                for writes in waiting:
                    _write(changelog, writes)
            kills.discard(at)
            moves.discard(at)
            waiting, lives = [], lives + 1
            partition = recover(
                number,
                changelog.items(),
                state_at=states.__getitem__,
                log_id=LOG_ID,
                writer=f"w{lives}",
            ).partition
    return partials


def _write(changelog: dict[bytes, bytes], writes: list[Write]) -> None:
    for key, value in writes:
        if value is None:
            changelog.pop(key, None)
        else:
            changelog[key] = value


def _interleaved(streams: list[list[bytes]], random: Random) -> list[bytes]:
    """Return the partials of all partitions as the broker may hold them: each one's in order."""
    left = [list(reversed(stream)) for stream in streams]
    mixed = []
    while any(left):
        mixed.append(random.choice([one for one in left if one]).pop())
    return mixed


def _merge(partials: list[bytes], partition_count: int, random: Random, kills: int) -> Outcome:
    dying = set(random.choices(range(1, len(partials)), k=kills))
    merger, held = Merger(partition_count), dict[str, bytes]()
    outcome = Outcome({}, [])
    offset = 0
    while offset < len(partials):
        merged = merger.take(offset, decode_partial(partials[offset]))
        offset += 1
        for tick in merged:
            for _, record in tick.looks:
                if tick.tick in outcome.looks:
                    outcome.repeated.append((tick.tick, record))
                else:
                    outcome.looks[tick.tick] = record
        if merged:
            written = list(merger.records().items())
            if offset in dying:
                # In order, and only so many: the last ones were on their way.
                written = written[: random.randint(0, len(written))]
            for key, value in written:
                if value is None:
                    held.pop(key, None)
                else:
                    held[key] = value
        if offset in dying:
            dying.discard(offset)
            merger = Merger.load(held, partition_count)
            offset = merger.next_offset
    return outcome
