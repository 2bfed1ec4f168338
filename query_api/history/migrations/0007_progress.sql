-- How far each partition is stored; written after what it covers. row_count: rows below next_offset
-- in the log (records, for litmus.dlq).
CREATE TABLE IF NOT EXISTS progress
(
    topic LowCardinality(String),
    partition UInt32,
    next_offset UInt64,
    row_count UInt64
)
ENGINE = ReplacingMergeTree(next_offset)
ORDER BY (topic, partition)
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1
