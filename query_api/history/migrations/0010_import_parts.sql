-- Every partition's part of an import batch, with its rows; parts that were sent again too.
CREATE TABLE IF NOT EXISTS import_parts
(
    kafka_partition UInt32,
    kafka_offset UInt64 CODEC(Delta, ZSTD(1)),
    import_id String,
    number UInt32,
    sha256 String,
    rows UInt32
)
ENGINE = ReplacingMergeTree
ORDER BY (import_id, number, kafka_partition, kafka_offset)
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1
