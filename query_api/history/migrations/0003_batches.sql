-- Every batch of litmus.events, with the rows of its partition up to and including it: the door's
-- count at any offset is one look-up, and what the log holds can be compared with what is stored.
CREATE TABLE IF NOT EXISTS batches
(
    kafka_partition UInt32,
    kafka_offset UInt64 CODEC(Delta, ZSTD(1)),
    rows UInt32,
    rows_through UInt64 CODEC(Delta, ZSTD(1))
)
ENGINE = ReplacingMergeTree
ORDER BY (kafka_partition, kafka_offset)
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1
