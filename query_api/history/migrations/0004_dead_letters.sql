-- Every record of litmus.dlq: the original bytes, where they came from and what is wrong with them.
CREATE TABLE IF NOT EXISTS dead_letters
(
    kafka_partition UInt32,
    kafka_offset UInt64,
    appended_at DateTime64(3, 'UTC'),
    topic LowCardinality(String),
    partition String,
    offset String,
    code LowCardinality(String),
    error_class LowCardinality(String),
    error_message String,
    field LowCardinality(String),
    key String,
    value String
)
ENGINE = ReplacingMergeTree
ORDER BY (kafka_partition, kafka_offset)
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1
