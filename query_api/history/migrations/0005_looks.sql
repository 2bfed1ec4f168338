-- Every look of litmus.looks, as it was published. A look published again has the same identity.
CREATE TABLE IF NOT EXISTS looks
(
    experiment_id LowCardinality(String),
    tick UInt64,
    log_id String,
    sha256 String,
    as_of DateTime64(3, 'UTC') CODEC(Delta, ZSTD(1)),
    look String CODEC(ZSTD(3))
)
ENGINE = ReplacingMergeTree
ORDER BY (experiment_id, tick, log_id, sha256)
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1
