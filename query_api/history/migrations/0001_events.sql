-- Every row of litmus.events, once per position: what is inserted again collapses under FINAL.
CREATE TABLE IF NOT EXISTS events
(
    kafka_partition UInt32,
    kafka_offset UInt64 CODEC(Delta, ZSTD(1)),
    row UInt32 CODEC(Delta, ZSTD(1)),
    door LowCardinality(String),
    kind Enum8('assignment' = 0, 'metric' = 1),
    unit_type LowCardinality(String),
    unit_id String,
    unit_hash_high UInt64,
    unit_hash_low UInt64,
    event_id String,
    event_hash_high UInt64,
    event_hash_low UInt64,
    experiment_id LowCardinality(Nullable(String)),
    variant LowCardinality(Nullable(String)),
    metric LowCardinality(Nullable(String)),
    attributes Nullable(String),
    value Float64,
    timestamp DateTime64(3, 'UTC') CODEC(Delta, ZSTD(1)),
    timestamp_given Bool,
    received_at DateTime64(3, 'UTC') CODEC(Delta, ZSTD(1)),
    allocation_version Nullable(Int64),
    INDEX timestamps timestamp TYPE minmax GRANULARITY 4,
    INDEX units unit_id TYPE bloom_filter(0.01) GRANULARITY 4
)
ENGINE = ReplacingMergeTree
PARTITION BY toYYYYMM(received_at)
ORDER BY (kafka_partition, kafka_offset, row)
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1
