"""Every topic: its name, key, value, partitions and retention, each written once."""

from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Literal

from schemas.partials import STATE_VERSION

DAY_MS = 86_400_000
FOR_EVER = -1
PER_PARTITION_SETTING = 0
"""``partition_count`` of topics that have as many partitions as ``LITMUS_PARTITIONS`` says."""

MESSAGE_BYTES_MAX = 512_000
"""No message that doors, control or the engine's reports are made of is larger."""


@dataclass(frozen=True, slots=True)
class Topic:
    """A topic and what is promised of it.

    Attributes:
        name: ``litmus.<things>``; a breaking change of the contract is another topic.
        key: What the key of a record is, in words.
        value: What the value of a record is, in words; types are in ``schemas``.
        partition_count: Partitions; ``PER_PARTITION_SETTING`` means ``LITMUS_PARTITIONS``.
        cleanup_policy: ``compact`` keeps the last record per key, ``delete`` ages records out.
        retention_ms: How long records stay; ``FOR_EVER`` (-1) for ever.
        append_time: Whether a record's timestamp is the broker's time of appending it. Where it
            is not, it is the writer's.
        config: Further settings of the broker for this topic.
    """

    name: str
    key: str
    value: str
    partition_count: int = 1
    cleanup_policy: Literal["delete", "compact"] = "delete"
    retention_ms: int = FOR_EVER
    append_time: bool = False
    config: MappingProxyType[str, str] = field(default_factory=lambda: MappingProxyType({}))

    def partitions(self, setting: int) -> int:
        """Return the number of partitions, given ``LITMUS_PARTITIONS``."""
        return self.partition_count or setting

    def broker_config(self) -> dict[str, str]:
        """Return the settings under which the topic is created."""
        config = {
            "cleanup.policy": self.cleanup_policy,
            "retention.ms": str(self.retention_ms),
            "message.timestamp.type": "LogAppendTime" if self.append_time else "CreateTime",
            "max.message.bytes": "1048576",
        }
        return config | dict(self.config)


_COMPACT_SOON = MappingProxyType(
    {
        "segment.ms": "600000",
        "segment.bytes": "67108864",
        "min.cleanable.dirty.ratio": "0.1",
        "max.compaction.lag.ms": "900000",
    }
)

_LARGE = MappingProxyType({"max.message.bytes": "4194304"})
"""Of looks and snapshots, see ``schemas.look_size``; of control records that carry a state."""

_READ_AT_EVERY_START = MappingProxyType({"segment.bytes": "8388608"})
"""The segment that is written to is never compacted: a start reads all of it."""

_CHECKPOINTS = MappingProxyType(
    {
        "max.message.bytes": "4194304",
        # The segment that is written to is never compacted: it is all that a start reads twice.
        "segment.bytes": "4194304",
        "segment.ms": "600000",
        # Compacted as soon as more than a third is old: a start reads at most half as much again.
        "min.cleanable.dirty.ratio": "0.33",
        "max.compaction.lag.ms": "900000",
        # Every checkpoint deletes what it replaces; a reader that has begun needs minutes at most.
        "delete.retention.ms": "120000",
    }
)

EVENTS = Topic(
    "litmus.events",
    key="none; the partition is murmur2(unit type/unit id)",
    value="a packed batch of events (Arrow IPC), a tick (JSON) or a part of an import batch"
    " (MessagePack), told apart by litmus.kind",
    partition_count=PER_PARTITION_SETTING,
)
ASSIGNMENTS = Topic(
    "litmus.assignments",
    key="the producer's; the unit id is a good one",
    value="an assignment event (JSON)",
    partition_count=4,
    retention_ms=7 * DAY_MS,
    append_time=True,
)
METRICS = Topic(
    "litmus.metrics",
    key="the producer's; the unit id is a good one",
    value="a metric event (JSON)",
    partition_count=4,
    retention_ms=7 * DAY_MS,
    append_time=True,
)
COMMANDS = Topic("litmus.commands", key="command id", value="a command (JSON)", append_time=True)
OUTCOMES = Topic(
    "litmus.outcomes", key="command id", value="an outcome (JSON)", retention_ms=DAY_MS
)
CONTROL = Topic(
    "litmus.control",
    key="tick number",
    value="a control record (JSON)",
    append_time=True,
    config=_LARGE,
)
MARKS = Topic(
    "litmus.marks",
    key="source topic/partition",
    value="a low-water mark (JSON)",
    cleanup_policy="compact",
    append_time=True,
    config=_COMPACT_SOON,
)
PARTIALS = Topic(
    "litmus.partials", key="partition", value="a partial (MessagePack)", retention_ms=DAY_MS
)
LOOKS = Topic("litmus.looks", key="experiment id", value="a look (JSON)", config=_LARGE)
SNAPSHOTS = Topic(
    "litmus.snapshots",
    key="experiment id",
    value="a snapshot: definition and latest look (JSON)",
    cleanup_policy="compact",
    config=MappingProxyType({**_COMPACT_SOON, **_LARGE, **_READ_AT_EVERY_START}),
)
SNAPSHOT_ROWS = Topic(
    "litmus.snapshot-rows",
    key="experiment id|metric id|variant",
    value="a flat row for Grafana (JSON)",
    retention_ms=DAY_MS // 4,
)
LEDGER = Topic(
    "litmus.ledger",
    key="ledger",
    value="the engine's row ledger at a tick (JSON)",
    cleanup_policy="compact",
    config=MappingProxyType({**_COMPACT_SOON, **_READ_AT_EVERY_START}),
)
DEAD_LETTERS = Topic(
    "litmus.dlq",
    key="the original key",
    value="the original bytes; headers litmus.dlq.* say where from and why",
    retention_ms=30 * DAY_MS,
)
LATE = Topic("litmus.late", key="none", value="a packed batch of late events (Arrow IPC)")

TOPICS = (
    EVENTS,
    ASSIGNMENTS,
    METRICS,
    COMMANDS,
    OUTCOMES,
    CONTROL,
    MARKS,
    PARTIALS,
    LOOKS,
    SNAPSHOTS,
    SNAPSHOT_ROWS,
    LEDGER,
    DEAD_LETTERS,
    LATE,
)

SOURCES = (ASSIGNMENTS, METRICS)
"""Topics that the Kafka door reads; each of their partitions has a low-water mark."""

DOOR_GROUP = "litmus-kafka-door"
"""Consumer group of the Kafka doors; its offsets say what they have taken in."""

KIND_HEADER = "litmus.kind"
"""Header of messages on ``litmus.events`` and ``litmus.late``: what a message is."""

KIND_BATCH = b"batch"
KIND_TICK = b"tick"
KIND_IMPORT = b"import"


def changelog(app_id: str, table: str, partition_count: int) -> Topic:
    """Return the changelog topic of a Faust table, as Faust names it."""
    return Topic(
        f"{app_id}-{table}-changelog",
        key="see the table",
        value="a checkpoint (bytes)",
        partition_count=partition_count,
        cleanup_policy="compact",
        config=_CHECKPOINTS,
    )


ACCUMULATE_APP = "litmus-accumulate"
MERGE_APP = "litmus-merge"
CONTROL_APP = "litmus-control"
SEGMENTS_TABLE = f"segments-v{STATE_VERSION}"
"""Named after its version: after an upgrade the state is counted anew from the log, by itself."""

MERGED_TABLE = "merged-v1"

CHANGELOGS = (
    changelog(ACCUMULATE_APP, SEGMENTS_TABLE, PER_PARTITION_SETTING),
    changelog(MERGE_APP, MERGED_TABLE, 1),
)
