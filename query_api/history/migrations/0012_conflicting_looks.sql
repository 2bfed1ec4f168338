-- Ticks of an experiment with looks of several identities, found when the second one was inserted.
CREATE TABLE IF NOT EXISTS conflicting_looks
(
    experiment_id String,
    tick UInt64,
    log_id String
)
ENGINE = ReplacingMergeTree
ORDER BY (experiment_id, tick, log_id)
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1
